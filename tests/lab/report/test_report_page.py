"""The page stands alone, escapes what it is given, and gets by without what was not measured."""

import html
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from report_fixtures import measured, run_metrics, run_result, sweep_result, write_run, write_sweep

from secateur.lab.report import build, save_picture
from secateur.lab.summary import SCORE, scores
from secateur.vocabulary import MissingExtraError, SecateurError

HOSTILE = "<script>alert(1)</script>"
LOADING = {"src", "href", "srcset", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """What a browser would make of a page: its tags, the text outside scripts, the JSON of its charts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads, self.text, self.specs, self.inside = [], [], "", [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [(tag, name, value) for name, value in attributes if name in LOADING]
        self.inside = (tag, dict(attributes).get("type")) if tag in ("script", "style") else self.inside

    def handle_endtag(self, tag):
        self.inside = None if tag in ("script", "style") else self.inside

    def handle_data(self, data):
        if self.inside is None:
            self.text += data
        elif self.inside == ("script", "application/json"):
            self.specs.append(json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} in JSON")))


@pytest.fixture(params=["run", "sweep"])
def folder(request, tmp_path):
    if request.param == "run":
        return write_run(tmp_path, run_result(), run_metrics())
    return write_sweep(tmp_path, sweep_result())


def page_of(folder):
    return Page(build(folder).read_text(encoding="utf-8"))


def test_the_page_is_one_file_that_loads_nothing(folder):
    path = build(folder)
    assert path == folder / "report.html"
    assert path.stat().st_size < 1_500_000
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert [load for load in page.loads if not load[2].startswith(("data:", "#", "./"))] == []
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:)[a-z]", "".join(re.findall(r"(?s)<style.*?</style>", html)))
    assert not re.search(r'"url"\s*:', json.dumps(page.specs))
    assert not {"iframe", "img", "object", "embed"} & set(page.tags)
    assert {item.name for item in folder.iterdir()} <= {
        "report.html",
        "result.json",
        "metrics.jsonl",
        "sweep.json",
    }, "a temporary file was left behind"


def test_building_twice_gives_the_same_page(folder):
    first = build(folder).read_bytes()
    assert build(folder).read_bytes() == first


def test_the_page_says_everything_without_scripts(folder):
    page = page_of(folder)
    assert "noscript" in page.tags
    assert "secateur " in page.text
    assert "Generic 64-bit processor" in page.text
    assert "lenet-300-100" in page.text


def test_the_verdict_comes_before_charts_and_tables(folder):
    html = build(folder).read_text(encoding="utf-8")
    assert html.index("Verdict</h2>") < html.index('type="application/json"') < html.index("<table")


def test_a_run_shows_every_layer_and_both_sparsities(tmp_path):
    text = page_of(write_run(tmp_path, run_result(), run_metrics())).text
    for name in ("fc1.weight", "fc2.weight", "fc3.weight", "300 x 64", "19,200", "0.8927", "0.9000"):
        assert name in text


def test_a_sweep_shows_every_cell_and_the_spread(tmp_path):
    sweep = sweep_result()
    page = page_of(write_sweep(tmp_path, sweep))
    assert page.tags.count("tr") >= len(sweep["cells"]) + len(sweep["summary"])
    row = sweep["summary"][0]
    assert f"{row['mean']:.4f} ± {row['std']:.4f}" in page.text


def test_hostile_names_are_text(tmp_path):
    result = run_result()
    result["name"] = result["command"] = result["method"]["name"] = result["method"]["summary"] = HOSTILE
    result["settings"]["method"] = HOSTILE
    result["data"]["notes"] = result["warnings"] = [HOSTILE]
    for layer in result["measure"]["pruned"]["layers"]:
        layer["name"] = layer["name"] + HOSTILE
    page = page_of(write_run(tmp_path / "run", result, run_metrics()))
    plain = page_of(write_run(tmp_path / "plain", run_result(), run_metrics()))
    assert page.tags.count("script") == plain.tags.count("script")
    assert HOSTILE in page.text
    assert HOSTILE in json.dumps(page.specs)


def test_a_hostile_method_name_in_a_sweep_is_text(tmp_path):
    sweep = sweep_result({"gradual": "plain", HOSTILE: HOSTILE})
    sweep["failed"] = [{"cell": HOSTILE, "error": HOSTILE}]
    page = page_of(write_sweep(tmp_path / "sweep", sweep))
    plain = page_of(write_sweep(tmp_path / "plain", sweep_result({"gradual": "plain", "other": "plain"})))
    assert page.tags.count("script") == plain.tags.count("script")
    assert HOSTILE in page.text
    assert HOSTILE in json.dumps(page.specs)


@pytest.mark.parametrize("missing", ["latency", "macs", "peak_memory_bytes"])
def test_a_run_without_a_measurement_gets_a_page(tmp_path, missing):
    result = run_result(longer=None)
    for report in result["measure"].values():
        report[missing] = None
        for layer in report["layers"]:
            layer.update(macs=None, macs_effective=None)
    assert "–" in page_of(write_run(tmp_path, result, run_metrics())).text


def test_a_run_with_only_what_is_required_gets_a_page(tmp_path):
    result = run_result(longer=None)
    for key in ("command", "environment", "data", "method", "seconds", "warnings"):
        del result[key]
    page = page_of(write_run(tmp_path, result))
    assert "There is no metrics.jsonl" in page.text


def test_a_diverged_run_gets_a_page(tmp_path):
    metrics = run_metrics()
    for row in metrics[-3:]:
        row.update(loss=float("nan"), validation_loss=float("inf"), validation_accuracy=float("nan"))
    assert page_of(write_run(tmp_path, run_result(), metrics)).specs


def test_a_net_without_any_weight_left_gets_a_page(tmp_path):
    result = run_result()
    result["measure"]["pruned"] = measured({"fc1.weight": 0, "fc2.weight": 0, "fc3.weight": 0})
    assert "no signal is left" in page_of(write_run(tmp_path, result, run_metrics())).text


def test_a_sweep_cell_without_latency_gets_a_page(tmp_path):
    sweep = sweep_result()
    for cell in sweep["cells"]:
        cell["latency_ms"] = None
    assert "–" in page_of(write_sweep(tmp_path, sweep)).text


def test_a_sweep_of_which_every_cell_failed_gets_a_page(tmp_path):
    sweep = {**sweep_result(), "cells": [], "summary": [], "frontier": []}
    sweep["failed"] = [{"cell": "gradual-s0.5-seed0", "error": "out of memory"}]
    assert "out of memory" in page_of(write_sweep(tmp_path, sweep)).text


def test_a_sweep_with_one_seed_and_more_methods_than_colours_gets_a_page(tmp_path):
    sweep = sweep_result({f"method-{number}": "one of many" for number in range(11)})
    sweep["cells"] = [cell for cell in sweep["cells"] if cell["seed"] == 0]
    for row in sweep["summary"]:
        row.update(runs=1, std=0.0, reference_std=0.0)
    assert "method-10" in page_of(write_sweep(tmp_path, sweep)).text


def test_a_sweep_of_old_without_scores_gets_a_page_without_them(tmp_path):
    assert "The score is" not in page_of(write_sweep(tmp_path, sweep_result())).text


def test_scores_are_a_ranked_table_with_their_definition(tmp_path):
    sweep = sweep_result()
    sweep["scores"] = scores(sweep["cells"], 10)
    text = page_of(write_sweep(tmp_path, sweep)).text
    first, second = sweep["scores"][:2]
    assert text.index(f"1. {first['method']}") < text.index(f"2. {second['method']}")
    assert f"{first['mean']:.4f}" in text
    assert SCORE in html.unescape(text)
    assert "It counts the sparsity asked for" not in text


def test_a_method_that_reached_other_sparsities_than_asked_is_named_at_the_score(tmp_path):
    sweep = sweep_result({"gradual": "plain", "neurons": "whole units"})
    sweep["scores"] = scores(sweep["cells"], 10)
    for row in sweep["summary"]:
        if row["method"] == "neurons" and row["sparsity"] == 0.5:
            row["achieved"] = 0.712
    text = page_of(write_sweep(tmp_path, sweep)).text
    assert "the sparsity asked for; furthest from that is neurons, which reached 0.712 instead of 0.5." in text


def test_a_score_of_one_seed_has_no_spread(tmp_path):
    sweep = sweep_result()
    sweep["cells"] = [cell for cell in sweep["cells"] if cell["seed"] == 0]
    sweep["scores"] = scores(sweep["cells"], 10)
    html = build(write_sweep(tmp_path, sweep)).read_text(encoding="utf-8")
    assert f"<td>{sweep['scores'][0]['mean']:.4f}</td><td>–</td><td>1</td>" in html


def test_a_cell_leads_to_its_report_if_that_is_there(tmp_path):
    sweep = sweep_result()
    cell, other = sweep["cells"][0]["folder"], sweep["cells"][1]["folder"]
    build(write_run(tmp_path / cell, run_result(), run_metrics()))
    (tmp_path / other).mkdir()
    links = [value for _, _, value in page_of(write_sweep(tmp_path, sweep)).loads if not value.startswith("data:")]
    assert links == [f"./{cell}/report.html"]
    assert (tmp_path / links[0]).is_file()


def test_a_cell_of_which_no_folder_is_known_leads_nowhere(tmp_path):
    sweep = sweep_result()
    for cell in sweep["cells"]:
        del cell["folder"]
    (tmp_path / "report.html").write_text("an older page")
    assert [load for load in page_of(write_sweep(tmp_path, sweep)).loads if load[1] == "href"][1:] == []


def test_a_missing_extra_is_named(folder, monkeypatch):
    for module in ("jinja2", "altair"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(MissingExtraError, match=rf"{module}.*secateur\[lab\]"):
                build(folder)


def test_the_main_chart_is_saved_as_svg_and_png(folder, tmp_path):
    save_picture(folder, tmp_path / "chart.svg")
    save_picture(folder, tmp_path / "chart.png")
    save_picture(folder, tmp_path / "whole.svg", whole=True)
    assert (tmp_path / "whole.svg").read_bytes() != (tmp_path / "chart.svg").read_bytes()
    svg = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "white" in svg or "#ffffff" in svg
    assert svg.count("<path") > 5
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_picture_of_another_kind_is_refused(folder, tmp_path):
    with pytest.raises(SecateurError, match=r"\.svg or \.png"):
        save_picture(folder, tmp_path / "chart.gif")
