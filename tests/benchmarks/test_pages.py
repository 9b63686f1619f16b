"""What the pages of the benchmarks say follows from the cells."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import findings
import four_methods
import no_retraining
import procedures
import published
import pytest
from common import kept_rows, kept_section, plot

from secateur.lab.methods import TABLE

MACHINE = {"date": "2026-11-22", "processor": "CPU", "secateur": "0.1", "torch": "2.13", "python": "3.11"}
MADE: dict[str, Any] = {"environment": MACHINE, "settings": {"threads": 1}}


def cell(method: str, sparsity: float, seed: int, test: float, **more: Any) -> dict[str, Any]:
    reference = {"dense_test": 0.9, "reference_test": 0.9}
    return {"method": method, "sparsity": sparsity, "seed": seed, "test": test} | reference | more


@pytest.mark.parametrize(
    ("differences", "call"),
    [
        ([1.0, 2.0, 3.0], "held"),
        ([-1.0, -2.0, -3.0], "failed"),
        ([1.0, 2.0, -0.1], "undecided"),
        ([0.1, 0.1, 9.0], "undecided"),
        ([0.0, 0.0, 0.0], "undecided"),
    ],
)
def test_seeds_that_agree_beyond_their_spread_decide(differences: list[float], call: str) -> None:
    assert findings.verdict(differences) == call


def results(better: float, worse: float) -> dict[str, Any]:
    """Sweeps of both nets in which "a" has one accuracy, "b" another, give or take a little by seed."""
    cells = [
        cell(method, sparsity, seed, base + 0.001 * seed)
        for method, base in (("a", better), ("b", worse))
        for sparsity in (0.5, 0.9)
        for seed in (0, 1, 2)
    ]
    return {net: {"cells": cells} for net in findings.NETS}


def claim(*pairs: tuple[str, str], some: bool = False) -> findings.Claim:
    made = [findings.Comparison("", ("", one, "test"), ("", two, "test"), (0.5, 0.9)) for one, two in pairs]
    return findings.Claim("title", "source", tuple(made), some)


def test_the_page_counts_comparisons_and_gives_the_numbers_of_lines_that_are_only_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"one": ("", "a", "test"), "other": ("", "b", "test")}
    once, twice = (dataclasses.replace(claim(pair), drawn=drawn) for pair in (("a", "b"), ("b", "a")))
    monkeypatch.setattr(findings, "CLAIMS", (claim(("a", "b")), once, twice))
    page = findings.page({net: each | MADE for net, each in results(0.9, 0.8).items()}, tmp_path)
    assert "| **held** | 4 of 4 held, 0 failed |" in page and "| **failed** | 0 of 4 held, 4 failed |" in page
    assert page.count("| lenet-5 | other | 80.10 |  | 80.10 |") == 1, "not twice, where two claims share their lines"
    assert len(list(tmp_path.glob("*.svg"))) == 6
    assert "compression ratio" in (tmp_path / "1-lenet-5.svg").read_text(encoding="utf-8")


def test_a_claim_is_called_by_its_comparisons() -> None:
    both = results(0.9, 0.8)
    call, rows = findings.judge(claim(("a", "b")), both)
    assert call == "held" and len(rows) == 4 and rows[0][3:5] == ["90.10", "80.10"]
    assert findings.judge(claim(("b", "a")), both)[0] == "failed"
    assert findings.judge(claim(("a", "b"), ("b", "a")), both)[0] == "failed", "half of them did"
    assert findings.judge(claim(("a", "b"), ("a", "b"), ("b", "a")), both)[0] == "undecided"
    assert findings.judge(claim(("a", "b"), ("b", "a"), some=True), both)[0] == "held", "there are cases"


def test_every_claim_names_sweeps_and_cells_that_are_run() -> None:
    sweeps = findings.sweeps()
    for each in findings.CLAIMS:
        columns = [column for one in each.comparisons for column in (one.better, one.worse)]
        for suffix, method, _ in [*columns, *(each.drawn or {}).values()]:
            for net in findings.NETS:
                grid = sweeps[f"{net}{suffix}"][1]
                assert method in grid.methods
        for one in each.comparisons:
            for column in (one.better, one.worse):
                for net in findings.NETS:
                    assert set(one.sparsities) <= set(sweeps[f"{net}{column[0]}"][1].sparsities)


def test_targets_are_met_missed_or_not_measured() -> None:
    cells = [cell("gradual", 1 - 1 / 60, seed, 0.983) for seed in (0, 1)]
    cells += [cell("gradual", 0.99, seed, 0.97) for seed in (0, 1)]
    text = published.shortfalls({"lenet-300-100": {"cells": cells}})
    assert "| lenet-300-100 | 60 | 1.80 | 1.70 ± 0.00 | met |" in text
    assert "| lenet-300-100 | 100 | 2.00 | 3.00 ± 0.00 | **missed by 1.00** |" in text
    assert text.count("**not measured yet**") == len(published.TARGETS) - 2
    dense = [cell("gradual", 0.8, 0, 0.91)]
    assert "10.00, as dense | 9.00 | met" in published.shortfalls({"tutorial-convnet": {"cells": dense}})


def test_every_way_without_retraining_is_held_against_the_target() -> None:
    def sweep(loss: float) -> dict[str, Any]:
        return {
            "cells": [
                cell(method, sparsity, 0, 0.9 - loss * sparsity + 0.001 * index)
                for index, method in enumerate(no_retraining.METHODS)
                for sparsity in no_retraining.SPARSITIES
            ]
        }

    text = no_retraining.shortfalls({"resnet-18": sweep(0.5), "resnet-18:recalibrated": sweep(0.045)})
    assert "at most 1 below dense | below by 1.95 at best | **missed by 0.95**" in text
    near = no_retraining.shortfalls({"resnet-18": sweep(0.5), "resnet-18:recalibrated": sweep(0.0235)})
    told = "below by 0.98 (ERK, BN anew); 0.88 (LAMP, BN anew) | met by 2 of 8 ways"
    assert f"| resnet-18 | 0.5 | at most 1 below dense | {told} |" in near, "none is chosen by test accuracy"
    assert "| resnet-18 | 0.25 | 88.59 % (published) | 77.50 % (layer-wise) | **below by 11.09** |" in text
    assert "- Layer-wise, BN anew: within one point of dense up to 0, within three up to 0.6." in no_retraining.reading(
        "resnet-18", {"resnet-18": sweep(0.5), "resnet-18:recalibrated": sweep(0.045)}
    )


PAGE = """# Page

| net | sparsity | |
|---|---|---|
| a | 0.5 | met |
| a-b | 0.5 | **missed** |

## a-b

| a | 1 |

# not a heading of a section

## a

the last
"""


def test_sections_and_rows_of_a_page_are_kept_as_they_are() -> None:
    assert kept_section(PAGE, "a") == "## a\n\nthe last\n\n"
    assert kept_section(PAGE, "a-b") == "## a-b\n\n| a | 1 |\n\n# not a heading of a section\n\n"
    assert kept_section(PAGE, "b") == kept_section("", "a") == ""
    assert kept_rows(PAGE, "a") == [["a", "0.5", "met"]] and kept_rows(PAGE, "b") == []


def test_nets_that_are_not_run_keep_their_rows() -> None:
    sweep = {"cells": [cell("gradual", s, 0, 0.99) for s in (1 - 1 / 60, 0.99)]}
    text = published.shortfalls({"lenet-300-100": sweep})
    assert published.shortfalls({}, text) == text and "1.00 | met" in text
    cells = [cell(method, s, 0, 0.8) for method in no_retraining.METHODS for s in no_retraining.SPARSITIES]
    text = no_retraining.shortfalls({"resnet-18": {"cells": cells}})
    assert no_retraining.shortfalls({}, text) == text and text.count("| resnet-18 |") == 4


def test_how_far_masked_retraining_stays_below_dense_is_said_first() -> None:
    result = {"cells": [cell("masked-retraining", 0.96, 0, accuracy) for accuracy in (0.85, 0.86)]}
    text = four_methods.shortfalls({"cifar-10": result}, "")
    assert "| cifar-10 | 85.50 | 90.00 | 4.5 | **1.8 more than published** |" in text
    assert four_methods.shortfalls({}, text) == text


def test_a_plot_ends_where_it_is_told_to(tmp_path: Any) -> None:
    plot({"a": [(0.5, [90.0, 91.0]), (0.9, [20.0])], "b": [(0.5, [80.0])]}, "net", tmp_path / "x" / "p.svg", depth=30)
    labels = re.findall(r">(\d+)</text>", (tmp_path / "x" / "p.svg").read_text())
    assert "80" in labels and not {"20", "40"} & set(labels), "90.5 less 30 is where it ends"


def test_every_procedure_has_a_sweep_of_its_own_and_rows_in_a_table() -> None:
    sweeps = procedures.sweeps()
    assert len(sweeps) == len(procedures.PROCEDURES)
    made: dict[str, Any] = {}
    for name, (_, grid) in sweeps.items():
        method = grid.methods[0]
        made[name] = MADE | {
            "cells": [
                cell(method, sparsity, seed, 0.98, kept=10, weights=100)
                for sparsity in grid.sparsities
                for seed in grid.seeds
            ]
        }
    text = procedures.tables(made)
    asked = "`--method three-step --sparsity 0.916666666667`"
    assert f"| lenet-300-100 | {asked} | 10.00 | 2.00 ± 0.00 | 10.00 ± 0.00 | 1.59" in text
    assert "`--method gradual --regrow --sparsity 0.982142857143`" in text
    assert "`--method three-step --quality 1.0` |" in text and text.count("neuron-score taylor") == 4
    first = procedures.shortfalls(made)
    assert f"| lenet-300-100 | {asked} | 2.00 ± 0.00 | 1.59 (Han et al. 2015) | **0.41 more than published** |" in first
    assert first.count("as low") == 1 and first.count("| lenet-5 |") == 2
    assert procedures.shortfalls({}, first) == first, "what is not here stays as it was"
    part = {name: each for name, each in made.items() if "snip" not in name and "quality" not in name}
    assert procedures.tables(part, text) == text, "a group that is not here whole stays as it was"
    assert "## Before training" not in procedures.tables(part)


def test_all_methods_of_the_lab_are_measured_somewhere() -> None:
    pages = (findings, four_methods, no_retraining, procedures)
    grids = [grid for page in pages for _, grid in page.sweeps().values()]
    assert {method for grid in grids for method in grid.methods} == set(TABLE)
