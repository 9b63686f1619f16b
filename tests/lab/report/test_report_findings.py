"""What a method learned is shown: as a chart, as a table with the same numbers, as a sentence that claims no more."""

import copy
import json

import pytest
from report_fixtures import DEAD, SEARCH, SENSITIVITY, run_metrics, run_result, write_run

from secateur.lab.report.charts import PALETTE, color_by, curves_chart
from secateur.lab.report.findings import charts_of, sentences, tables_of
from secateur.lab.report.page_run import content
from secateur.lab.report.reading import read
from secateur.lab.report.verdict import run_verdict


def values(spec):
    """Return the rows of every layer of a chart."""
    return [layer["data"]["values"] for layer in spec["layer"]]


def of_run(folder, facts, metrics=None):
    result = run_result()
    result["facts"] = facts
    return content(read(write_run(folder, result, metrics or run_metrics())))


def test_a_run_without_facts_has_no_extra_parts():
    assert (charts_of({}), tables_of({}), sentences({})) == ([], [], [])


def test_the_sensitivity_chart_has_a_line_a_layer_from_the_whole_net_and_a_mark_on_each():
    [(title, spec, _)] = charts_of({"sensitivity": SENSITIVITY})
    rule, lines, points, marks = values(spec)
    assert title == "Accuracy with one layer pruned at a time"
    assert rule == [{"accuracy": 0.97}]
    assert lines == points
    assert [row for row in lines if row["sparsity"] == 0] == [
        {"layer": name, "sparsity": 0.0, "accuracy": 0.97} for name in SENSITIVITY["curves"]
    ]
    assert {row["layer"]: row["sparsity"] for row in marks} == SENSITIVITY["allocation"]
    assert {row["layer"]: row["accuracy"] for row in marks} == {
        "fc1.weight": pytest.approx(0.96),  # at 0.75, half-way from 0.97 at 0.5 to 0.95 at 1
        "fc2.weight": pytest.approx(0.965),  # at 0.25, half-way from the whole net to 0.96 at 0.5
        "fc3.weight": pytest.approx(0.1),
    }


def test_the_sensitivity_table_holds_every_number_of_the_chart():
    [table] = tables_of({"sensitivity": SENSITIVITY})
    assert table["head"] == ["layer", "sparsity chosen", "0.5", "1"]
    assert table["rows"][0] == ["fc1.weight", "0.7500", "0.9700", "0.9500"]
    assert "0.9700" in table["note"]


def test_a_score_that_is_no_number_leaves_a_gap_not_a_failure():
    facts = copy.deepcopy(SENSITIVITY)
    facts["curves"]["fc1.weight"][1][1] = None
    [(_, spec, _)] = charts_of({"sensitivity": facts})
    assert values(spec)[-1][0] == {"layer": "fc1.weight", "sparsity": 0.75, "accuracy": None}
    assert tables_of({"sensitivity": facts})[0]["rows"][0][-1] == "–"


def test_the_search_is_a_point_a_try_and_a_line_at_the_floor():
    [(_, spec, _)] = charts_of({"search": SEARCH})
    rule, points = values(spec)
    assert rule == [{"accuracy": 0.95}]
    assert [(row["sparsity"], row["budget"]) for row in points] == [
        (0.5, "within the budget"),
        (0.75, "beyond it"),
        (0.625, "beyond it"),
    ]
    [table] = tables_of({"search": SEARCH})
    assert table["rows"] == [
        ["0.5000", "1", "0.9600", "yes"],
        ["0.6250", "3", "0.9400", "no"],
        ["0.7500", "2", "0.9000", "no"],
    ]


def test_the_search_is_summed_up_with_its_budget_and_the_next_one_that_failed():
    [(section, text)] = sentences({"search": SEARCH})
    assert section == "gained"
    assert text.startswith("Highest sparsity within 2 points of the dense net")
    assert (
        "on validation data: 0.5, found by bisection in 3 tries; the next higher one tried, 0.625, fell below." in text
    )
    one = {**SEARCH, "max_drop": 1.0, "tries": SEARCH["tries"][:1]}
    assert "within 1 point of" in sentences({"search": one})[0][1]
    assert sentences({"search": one})[0][1].endswith("none of them fell below.")


def test_a_search_that_found_nothing_gained_nothing():
    tries = [{**each, "within": 0.0} for each in SEARCH["tries"]]
    [(section, text)] = sentences({"search": {**SEARCH, "tries": tries, "sparsity": 0.0}})
    assert section == "not_gained"
    assert "None of the 3 sparsities tried, down to 0.5, keeps within 2 points" in text


@pytest.mark.parametrize(
    ("neurons", "connections", "expected"),
    [
        (0, 0, "No neuron was found without inputs or without outputs."),
        (1, 1, "1 neuron has no inputs or no outputs left; in the last round 1 connection that remained there was"),
        (4, 0, "4 neurons have no inputs or no outputs left; in the last round no connection remained there"),
        (4, 12, "12 connections that remained there were dropped with them, on top of the sparsity of 0.9000"),
    ],
)
def test_dead_neurons_are_counted_with_what_went_with_them(neurons, connections, expected):
    [(section, text)] = sentences({"dead": {**DEAD, "neurons": neurons, "connections": connections}})
    assert section == "remarks"
    assert expected in text


def test_what_else_the_method_did_is_one_table():
    [table] = tables_of({"frozen": ["fc1.weight"], "units": {"fc2.weight": [10, 1200]}, "width": 0.109375})
    assert table["title"] == "What the method did"
    assert table["rows"] == [
        ["fc2.weight", "10 of 1,200 units kept"],
        ["fc1.weight", "frozen while the others were retrained"],
        ["width", "0.1094 times that of the dense net"],
    ]
    assert sentences({"frozen": []}) == [("remarks", "No layer was frozen, so all of them were retrained.")]
    assert tables_of({"frozen": []}) == []


def test_the_verdict_puts_each_sentence_where_it_belongs():
    result = run_result()
    result["facts"] = {"search": SEARCH, "dead": DEAD, "frozen": []}
    verdict = run_verdict(result)
    assert any("Highest sparsity" in line for line in verdict.gained)
    assert any("3 neurons" in line for line in verdict.remarks)
    assert any("No layer was frozen" in line for line in verdict.remarks)


def test_the_page_shows_charts_and_tables_of_all_facts(tmp_path):
    facts = {"sensitivity": SENSITIVITY, "search": SEARCH, "frozen": ["fc1.weight"], "dead": DEAD}
    parts = of_run(tmp_path, facts)
    assert [title for title, _, _ in parts["charts"]][:3] == [
        "Training",
        "The search for the highest sparsity",
        "Accuracy with one layer pruned at a time",
    ]
    titles = [table["title"] for table in parts["tables"]]
    assert {"Sparsities tried", "Accuracy with one layer pruned at a time", "What the method did"} <= set(titles)


def marked(spec):
    """Return the rows of the first training chart that carry a mark of their own."""
    return [] if "layer" not in spec["parts"][0] else spec["parts"][0]["layer"][1]["data"]["values"]


def test_the_best_epoch_of_the_last_phase_is_marked():
    spec = curves_chart(run_metrics(), best_epoch=17)
    [row] = marked(spec)
    assert (row["stage"], row["own"], row["epoch"]) == ("prune", 17, 37)
    assert spec["best"] == 17


@pytest.mark.parametrize("best", [None, 0, 99])
def test_without_a_known_best_epoch_nothing_is_marked_or_claimed(tmp_path, best):
    spec = curves_chart(run_metrics(), best_epoch=best)
    assert (marked(spec), spec["best"]) == ([], None)
    result = run_result()
    result["accuracy"]["pruned"]["best_epoch"] = best
    note = content(read(write_run(tmp_path, result, run_metrics())))["charts"][0][2]
    assert "circle" not in note


def test_a_run_that_ends_without_an_epoch_of_pruning_has_no_mark():
    dense = [row for row in run_metrics() if row["phase"] != "prune"]
    assert curves_chart(dense, best_epoch=17)["best"] is None


def test_of_a_search_the_try_that_was_kept_is_drawn_not_the_last_one(tmp_path):
    rows = run_metrics()
    tries = [
        {**row, "phase": f"{sparsity:.4f}/prune", "sparsity": sparsity}
        for sparsity in (0.5, 0.75, 0.625)
        for row in rows
        if row["phase"] == "prune"
    ]
    metrics = [row for row in rows if row["phase"] != "prune"] + tries
    _, spec, note = of_run(tmp_path, {"search": SEARCH}, metrics)["charts"][0]
    drawn = spec["parts"][0]["layer"][0]["data"]["values"]
    assert {row["sparsity"] for row in drawn if row["phase"] == "pruned"} == {0.5}
    assert marked(spec)[0]["stage"] == "0.5000/prune"
    assert "only the one that was kept" in note


def rows_of(phase: str, epochs: range) -> list[dict[str, float | str]]:
    return [{**run_metrics()[0], "phase": phase, "epoch": epoch} for epoch in epochs]


def drawn(spec):
    layer = spec["parts"][0]
    return (layer["layer"][0] if "layer" in layer else layer)["data"]["values"]


def test_codebooks_are_a_line_of_their_own_after_the_epoch_that_was_kept():
    spec = curves_chart([*run_metrics(), *rows_of("share", range(1, 3))], best_epoch=17)
    assert [row["stage"] for row in marked(spec)] == ["prune"]
    last = max(row["epoch"] for row in drawn(spec) if row["stage"] == "prune")
    assert [row["epoch"] for row in drawn(spec) if row["phase"] == "sharing few values"] == [last + 1, last + 2]


def test_rewound_phases_follow_each_other_without_gaps_and_early_training_is_not_drawn_twice():
    phases = [("dense", range(1, 5)), ("early", range(1, 3)), ("round1", range(2, 5)), ("round2", range(2, 5))]
    rows = [row for name, epochs in phases for row in rows_of(name, epochs)]
    spec = curves_chart([*rows, *rows_of("control", range(1, 4))], best_epoch=2)
    assert [row["epoch"] for row in drawn(spec)] == list(range(1, 14))
    assert not [row for row in drawn(spec) if row["stage"] == "early"]
    assert [row["epoch"] for row in marked(spec)] == [12]


def test_colours_that_repeat_come_with_another_dash_and_shape():
    few = color_by("method", list("abcdefg"))
    assert set(few) == {"color"}
    names = [f"method-{number}" for number in range(19)]
    many = color_by("method", names)
    looks = [
        tuple(json.dumps(many[channel].to_dict()["scale"]["range"][n]) for channel in ("color", "strokeDash"))
        for n in range(len(names))
    ]
    shapes = many["shape"].to_dict()["scale"]["range"]
    assert len(set(looks)) == len(names)
    assert len({(look[0], shape) for look, shape in zip(looks, shapes, strict=True)}) == len(names)
    assert len({look[0] for look in looks}) == len(PALETTE)
