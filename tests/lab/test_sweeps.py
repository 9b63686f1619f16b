"""Sweeps: cell by cell, shared dense nets, honest statistics."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.lab import runs, show, sweeps
from secateur.lab.data import LabError
from secateur.lab.report import build
from secateur.lab.report.verdict_sweep import sweep_verdict
from secateur.lab.settings import Settings
from secateur.lab.summary import SCORE, frontier, scores

BASE = Settings(model="mlp:16", epochs=2, prune_epochs=2)
GRID = sweeps.Grid(("gradual", "random"), (0.5, 0.9), (0, 1))


def quiet(text: str) -> None:
    pass


def test_a_sweep_runs_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    lines: list[str] = []
    first = sweeps.sweep(BASE, GRID, tmp_path / "s", say=lines.append)
    assert len(first["cells"]) == 8 and len(lines) == 10 and not first["failed"]
    results = sorted((tmp_path / "s" / "cells").glob("*/result.json"))
    for result in results:
        assert {path.name for path in result.parent.iterdir()} >= {"model.safetensors", "config.toml"}
        assert not (result.parent / "phases").exists(), "only what has not ended goes on from checkpoints"
    dense = sorted((tmp_path / "s" / "dense").rglob("*.safetensors"))
    stamps = {path: path.stat().st_mtime_ns for path in [*results, *dense]}
    results[3].unlink()
    second = sweeps.sweep(BASE, GRID, tmp_path / "s", say=quiet)
    changed = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == [results[3]]
    drop = ("seconds", "latency_ms")
    assert [{k: v for k, v in cell.items() if k not in drop} for cell in second["cells"]] == [
        {k: v for k, v in cell.items() if k not in drop} for cell in first["cells"]
    ]
    wider = sweeps.sweep(BASE, dataclasses.replace(GRID, sparsities=(0.5, 0.7, 0.9)), tmp_path / "s", say=quiet)
    assert len(wider["cells"]) == 12
    with pytest.raises(runs.RunFolderError, match="batch_size"):
        sweeps.sweep(dataclasses.replace(BASE, batch_size=8), GRID, tmp_path / "s", say=quiet)


def test_dense_nets_are_shared_with_those_of_the_same_training_alone(tmp_path: Path) -> None:
    one, dense = sweeps.Grid(("random",), (0.5,), (0,)), runs.Options(dense=tmp_path / "dense")
    bare = dataclasses.replace(BASE, prune_epochs=0, retrain_l1=1e-4, scope="lamp")
    for name, base in {"bare": bare, "base": BASE}.items():
        assert not sweeps.sweep(base, one, tmp_path / name, dense, say=quiet)["failed"]
    for n, change in enumerate([{"epochs": 3}, {"validation": 0.3}, {"prune_epochs": 1}, {"l1": 1e-4}]):
        other = dataclasses.replace(BASE, **change)
        failed = sweeps.sweep(other, one, tmp_path / str(n), dense, say=quiet)["failed"]
        assert "dense net of other settings" in failed[0]["error"] and next(iter(change)) in failed[0]["error"]
    for record in (tmp_path / "dense").rglob("*.toml"):
        record.unlink()
    assert "nothing tells how" in sweeps.sweep(BASE, one, tmp_path / "old", dense, say=quiet)["failed"][0]["error"]


def test_sparsity_is_counted_over_what_may_be_pruned(tmp_path: Path) -> None:
    few = sweeps.Grid(("one-shot", "small-dense"), (0.5,), (0,))
    result = sweeps.sweep(dataclasses.replace(BASE, ignore="fc2"), few, tmp_path / "s", say=quiet)
    pruned, narrow = result["cells"]
    assert pruned["weights"] == narrow["weights"] == 64 * 16
    assert pruned["achieved"] == narrow["achieved"] == 0.5


def test_statistics_are_those_of_the_seeds(tmp_path: Path) -> None:
    result = sweeps.sweep(BASE, GRID, tmp_path / "s", jobs=2, say=quiet)
    for row in result["summary"]:
        cells = [c for c in result["cells"] if (c["method"], c["sparsity"]) == (row["method"], row["sparsity"])]
        assert row["runs"] == len(cells) == 2
        assert row["mean"] == pytest.approx(statistics.mean(cell["test"] for cell in cells))
        assert row["std"] == pytest.approx(statistics.stdev(cell["test"] for cell in cells))
        assert all(cell["achieved"] == pytest.approx(row["sparsity"], abs=1e-3) for cell in cells)
    assert {cell["reference_test"] for cell in result["cells"] if cell["seed"] == 0} == {
        result["cells"][0]["reference_test"]
    }, "cells of a seed share one dense net"
    assert result["scores"] == scores(result["cells"], result["data"]["classes"])
    assert {row["method"]: row["runs"] for row in result["scores"]} == {"gradual": 2, "random": 2}


def test_a_cell_says_what_is_left_of_its_smallest_target(tmp_path: Path) -> None:
    grid = sweeps.Grid(("threshold", "threshold-layerwise"), (0.6,), (0,))
    result = sweeps.sweep(BASE, grid, tmp_path / "s", say=quiet)
    alone = next(cell["smallest"] for cell in result["cells"] if cell["method"] == "threshold-layerwise")
    assert (alone["weights"], alone["kept"]) == (10, 4) and alone["name"].endswith("bias")
    assert [cell["smallest"]["name"] for cell in result["cells"]] == [alone["name"]] * 2


def test_the_summary_ranks_the_scores_and_says_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_seed = dataclasses.replace(GRID, seeds=(0,))
    result = sweeps.sweep(BASE, one_seed, tmp_path / "s", say=quiet)
    show.sweep_summary(result)
    text = capsys.readouterr().out
    best, second = result["scores"]
    assert f" 1. score {best['mean']:.4f}  {best['method']}\n 2. score {second['mean']:.4f}" in text
    assert SCORE in text
    show.sweep_summary({key: value for key, value in result.items() if key != "scores"})
    assert "score" not in capsys.readouterr().out


def test_a_cell_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    grid = sweeps.Grid(("iterative", "random"), (0.9,), (0,))
    result = sweeps.sweep(dataclasses.replace(BASE, prune_epochs=0), grid, tmp_path / "s", say=quiet)
    assert [cell["method"] for cell in result["cells"]] == ["random"]
    assert "prune-epochs" in result["failed"][0]["error"]


def test_what_is_named_twice_counts_once() -> None:
    grid = sweeps.Grid(("random", "Random"), (0.5, 0.5), (0, 0, 1))
    assert grid == sweeps.Grid(("random",), (0.5,), (0, 1))
    with pytest.raises(LabError, match="six digits"):
        sweeps.Grid(("random",), (0.9833333, 0.98333334), (0,))


def test_cells_that_ended_stay_when_a_dense_net_fails_later(tmp_path: Path) -> None:
    grid = sweeps.Grid(("random", "one-shot"), (0.5,), (0, 1))
    first = sweeps.sweep(BASE, grid, tmp_path / "s", say=quiet)
    (tmp_path / "s" / "cells" / "random-s0.5-seed0" / "result.json").unlink()
    (tmp_path / "s" / "dense" / "seed0" / "dense.safetensors").write_bytes(b"damaged")
    second = sweeps.sweep(BASE, grid, tmp_path / "s", say=quiet)
    assert [each["cell"] for each in second["failed"]] == ["dense-seed0"]
    assert [cell["cell"] for cell in second["cells"]] == [
        cell["cell"] for cell in first["cells"] if cell["cell"] != "random-s0.5-seed0"
    ]


def test_warnings_of_cells_are_told_once_with_their_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = dataclasses.replace(BASE, rise=0.3)
    result = sweeps.sweep(base, GRID, tmp_path / "s", say=quiet)
    assert result["warnings"] == ["random makes nothing of --rise: it was passed over (4 cells)"]
    show.sweep_summary(result)
    assert "warning: random makes nothing of --rise" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"max_drop": 1.0}, {"quality": 1.0}], ids=str)
def test_sparsities_that_nothing_heeds_are_refused(change: dict[str, float], tmp_path: Path) -> None:
    base = dataclasses.replace(BASE, **change, rounds=2)
    with pytest.raises(LabError, match="single one"):
        sweeps.sweep(base, GRID, tmp_path / "s", say=quiet)
    one = sweeps.Grid(("three-step", "one-shot"), (0.5,), (0, 1))
    result = sweeps.sweep(base, one, tmp_path / "s", say=quiet)
    verdict = sweep_verdict(result)
    told = " ".join([*verdict.first, *verdict.gained, *verdict.lost, *verdict.remarks])
    assert not result["scores"] and "sparsity of its own" in told and "At a sparsity of" not in told


def test_a_sweep_of_controls_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = sweeps.Grid(("one-shot",), (0.5,), (0,))
    result = sweeps.sweep(dataclasses.replace(BASE, control="shuffle"), one, tmp_path / "s", say=quiet)
    assert sweep_verdict(result).first[0].startswith("A control: new weights")
    show.sweep_summary(result)
    assert "A control: new weights" in capsys.readouterr().out


def test_nets_that_were_not_trained_as_long_as_dense_are_named(tmp_path: Path) -> None:
    grid = sweeps.Grid(("gradual", "learning-rate-rewinding", "threshold"), (0.5,), (0,))
    verdict = sweep_verdict(sweeps.sweep(dataclasses.replace(BASE, rounds=2), grid, tmp_path / "s", say=quiet))
    told = "as many epochs as dense: learning-rate-rewinding 6, dense 4; threshold 2, dense 4."
    assert [text for text in verdict.remarks if text.endswith(told)]


def test_a_sweep_that_leaves_nothing_has_a_page(tmp_path: Path) -> None:
    result = sweeps.sweep(BASE, sweeps.Grid(("one-shot",), (1.0,), (0,)), tmp_path / "s", say=quiet)
    assert len(result["cells"]) == 1 and build(tmp_path / "s").exists()


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from("ab"),
            "sparsity": st.just(0.5),
            "achieved": st.integers(0, 5).map(lambda i: i / 5),
            "compression": st.just(2.0),
            "mean": st.integers(0, 5).map(lambda i: i / 5),
        }
    ),
    min_size=1,
)


@given(ROWS)
def test_the_frontier_is_what_nothing_dominates(rows: list[dict[str, Any]]) -> None:
    def dominated(row: dict[str, Any]) -> bool:
        return any(
            o["achieved"] >= row["achieved"]
            and o["mean"] >= row["mean"]
            and (o["achieved"] > row["achieved"] or o["mean"] > row["mean"])
            for o in rows
        )

    found = {(row["achieved"], row["mean"]) for row in frontier(rows)}
    assert found == {(row["achieved"], row["mean"]) for row in rows if not dominated(row)}


def cell(method: str, sparsity: float, test: float, seed: int = 0) -> dict[str, Any]:
    return {"method": method, "sparsity": sparsity, "test": test, "seed": seed, "reference_test": 0.9}


def only(rows: list[dict[str, Any]]) -> float:
    assert len(rows) == 1
    return float(rows[0]["mean"])


def test_the_score_is_the_mean_height_of_straight_lines_over_nines() -> None:
    levels = (0.5, 0.9, 0.99)
    nines = [-math.log10(1 - level) for level in levels]
    kept = [1.0, 0.75, 0.25]
    cells = [cell("a", level, 0.1 + 0.8 * height) for level, height in zip(levels, kept, strict=True)]
    area = sum((nines[n + 1] - nines[n]) * (kept[n] + kept[n + 1]) / 2 for n in range(2))
    assert only(scores(cells, 10)) == pytest.approx(area / (nines[2] - nines[0]))


def test_a_score_of_one_is_nothing_lost_and_chance_is_none_left() -> None:
    for test, expected in ((0.9, 1.0), (0.1, 0.0), (0.05, 0.0), (0.98, 1.1)):
        assert only(scores([cell("a", 0.9, test)], 10)) == pytest.approx(expected)
        assert only(scores([cell("a", level, test) for level in (0.5, 0.9)], 10)) == pytest.approx(expected)


def test_only_sparsities_below_one_that_all_methods_have_count() -> None:
    shared = [cell("a", 0.9, 0.5), cell("b", 0.9, 0.7)]
    more = [*shared, cell("a", 0.5, 0.9), cell("a", 1.0, 0.1), cell("b", 1.0, 0.1)]
    assert scores(more, 10) == scores(shared, 10)
    assert [row["method"] for row in scores(more, 10)] == ["b", "a"]
    assert scores([cell("a", 0.5, 0.9), cell("b", 0.9, 0.9)], 10) == []


def test_scores_have_mean_and_spread_over_seeds() -> None:
    cells = [cell("a", 0.9, 0.1 + 0.8 * kept, seed) for seed, kept in enumerate((0.5, 0.7, 0.9))]
    [row] = scores(cells, 10)
    assert (row["mean"], row["std"], row["runs"]) == (pytest.approx(0.7), pytest.approx(0.2), 3)
