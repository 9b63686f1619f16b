"""Runs end with an engine and its times; where there can be none, the run ends all the same and says why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call

import secateur as sc
from secateur import native
from secateur.engine import load
from secateur.lab.networks import load_network

TINY = ["--epochs", "1", "--prune-epochs", "1", "--quiet", "--bits", "0"]


def result_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "result.json").read_text())
    return found


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in an installation that had no compiler."""
    monkeypatch.setenv("SECATEUR_NATIVE", "0")
    native._found.cache_clear()
    yield
    native._found.cache_clear()


def test_a_run_leaves_an_engine_and_its_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert call("run", *TINY, "--model", "mlp:24", "--sparsity", "0.3", "--out", str(run)) == 0
    speed = result_of(run)["speed"]
    assert isinstance(speed, dict) and speed["absent"] == {}
    assert [row["name"] for row in speed["rows"]] == ["dense, torch", "engine"]
    assert all(row["error"] < 1e-5 and row["ms"][0] > 0 for row in speed["rows"])
    assert speed["engine"]["bytes"] == (run / "engine.sct").stat().st_size
    images = torch.randn(3, 1, 8, 8)
    model, _ = load_network(run)
    np.testing.assert_allclose(load(run / "engine.sct")(images.numpy()), model(images).detach(), atol=1e-5)
    assert "sparse engine" in capsys.readouterr().out
    assert "Inference time" in page_of(run) and "sparse engine" in page_of(run)


def test_the_engine_is_made_of_the_shrunk_net_where_there_is_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--model", "mlp:24-16", "--method", "neurons", "--sparsity", "0.5"]
    assert call("run", *TINY, *flags, "--out", str(run)) == 0
    speed = result_of(run)["speed"]
    assert isinstance(speed, dict) and speed["engine"]["of"] == "shrunk"
    assert [row["name"] for row in speed["rows"]] == ["dense, torch", "shrunk, torch", "engine"]
    weights = sum(array.size for array in load(run / "engine.sct").plan.constants.values())
    assert weights < 0.7 * sum(p.numel() for p in load_network(run)[0].parameters())


def test_it_can_be_left_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("run", *TINY, "--model", "mlp:8", "--no-engine", "--out", str(run)) == 0
    assert "speed" not in result_of(run) and not (run / "engine.sct").exists()
    assert "Inference time" not in page_of(run) and "sparse engine" not in page_of(run)


@pytest.mark.usefixtures("without_kernels")
def test_a_run_without_the_kernels_ends_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("run", *TINY, "--model", "mlp:8", "--out", str(run)) == 0
    speed = result_of(run)["speed"]
    assert isinstance(speed, dict) and "SECATEUR_NATIVE=0" in speed["absent"]["engine"]
    assert speed["rows"][0]["ms"] and not (run / "engine.sct").exists()
    assert "could not be compiled for the sparse engine" in page_of(run)


OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(64, 10)

    def forward(self, x):
        {}

def net():
    return Net()
"""


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("sorting", "return self.fc(x.flatten(1).sort(dim=1).values)", "aten.sort"),
        ("branching", "return self.fc(x.flatten(1) if x.sum() > -1e9 else -x.flatten(1))", ""),
    ],
)
def test_a_network_that_the_engine_does_not_run_is_no_failure(
    name: str, line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / f"{name}_net.py").write_text(OWN.format(line))
    assert call("run", *TINY, "--model", f"{name}_net:net", "--out", "run") == 0
    speed = result_of(tmp_path / "run")["speed"]
    assert isinstance(speed, dict) and told in speed["absent"]["engine"]
    assert "could not be compiled for the sparse engine" in page_of(tmp_path / "run")


def test_a_fault_of_the_engine_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("a fault nobody thought of")

    monkeypatch.setattr(sc, "compile", failing)
    assert call("run", *TINY, "--model", "mlp:8", "--out", str(tmp_path / "run")) == 0
    assert "it fails (RuntimeError: a fault nobody thought of)" in page_of(tmp_path / "run")


def test_cells_of_a_sweep_have_none(tmp_path: Path) -> None:
    flags = ["--model", "mlp:8", "--epochs", "1", "--prune-epochs", "1"]
    assert (
        call(
            "sweep", *flags, "--methods", "random", "--sparsities", "0.5", "--seeds", "0", "--out", str(tmp_path / "s")
        )
        == 0
    )
    assert not list(tmp_path.rglob("engine.sct"))
