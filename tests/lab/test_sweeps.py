"""Sweeps: cell by cell, shared dense nets, honest statistics."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.lab import runs, sweeps
from secateur.lab.settings import Settings
from secateur.lab.summary import frontier

BASE = Settings(model="mlp:16", epochs=2, prune_epochs=2)
GRID = sweeps.Grid(("gradual", "random"), (0.5, 0.9), (0, 1))


def quiet(text: str) -> None:
    pass


def test_a_sweep_runs_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    lines: list[str] = []
    first = sweeps.sweep(BASE, GRID, tmp_path / "s", say=lines.append)
    assert len(first["cells"]) == 8 and len(lines) == 10 and not first["failed"]
    results = sorted((tmp_path / "s" / "cells").glob("*/result.json"))
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


def test_a_cell_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    grid = sweeps.Grid(("iterative", "random"), (0.9,), (0,))
    result = sweeps.sweep(dataclasses.replace(BASE, prune_epochs=0), grid, tmp_path / "s", say=quiet)
    assert [cell["method"] for cell in result["cells"]] == ["random"]
    assert "prune-epochs" in result["failed"][0]["error"]


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
