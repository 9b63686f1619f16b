"""Corners of single methods: what they fix, cut, rank and choose where the usual case does not hold."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.files import read_tensors
from secateur.lab import bench as benches
from secateur.lab import methods, phase, runs
from secateur.lab.settings import Settings
from secateur.lab.training import DivergedError, Score

QUICK = runs.Options(forms=False)


def result_of(folder: Path, **changes: Any) -> dict[str, Any]:
    settings = {"model": "mlp:16", "epochs": 2, "prune_epochs": 4, "rounds": 1, "bits": 0} | changes
    return runs.run(Settings(**settings), folder, QUICK)


@pytest.mark.parametrize(
    ("fixed", "changes", "still"),
    [
        ("dense", {"biases": True}, "fc1"),
        ("convolutions", {"biases": True}, "conv1"),
        ("convolutions", {"ignore": "conv1"}, "conv1"),
    ],
    ids=str,
)
def test_layers_are_fixed_by_kind_whatever_of_them_is_a_target(
    fixed: str, changes: dict[str, Any], still: str, tmp_path: Path
) -> None:
    convnet = {"model": "tutorial-convnet", "batch_size": 256, "method": "three-step", "prune_epochs": 1, "epochs": 1}
    result_of(tmp_path / "run", **convnet, fixed=fixed, **changes)
    first, _ = read_tensors(tmp_path / "run" / "phases" / "dense.safetensors")
    last, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    same = {n for n, t in last.items() if torch.equal(first[f"model/{n}"] * masks.get(n, torch.tensor(True)), t)}
    assert {f"{still}.weight", f"{still}.bias"} <= same and len({"conv1.weight", "fc1.weight"} & same) == 1


def test_fixing_layers_that_the_model_lacks_is_said(tmp_path: Path) -> None:
    told = result_of(tmp_path / "run", method="three-step", fixed="convolutions")["warnings"]
    assert "--fixed convolutions fixes nothing: mlp:16 has none" in told


def test_shuffled_neurons_are_whole_neurons_too(tmp_path: Path) -> None:
    plain, shuffled = (
        result_of(tmp_path / control, method="neurons", sparsity=0.5, control=control)
        for control in ("none", "shuffle")
    )
    assert plain["facts"]["units"] == shuffled["facts"]["units"] == {"fc1.weight": [8, 16]}
    first, second = (sc.Masks.load(tmp_path / name / "masks.safetensors") for name in ("none", "shuffle"))
    assert first != second
    rows, columns = second["fc1.weight"].any(1), second["fc2.weight"].any(0)
    assert torch.equal(rows, columns) and torch.equal(rows, second["fc1.bias"]) and int(rows.sum()) == 8
    assert second["fc1.weight"][rows].all() and second["fc2.weight"][:, columns].all()


def test_activity_says_what_it_cannot_rank(tmp_path: Path) -> None:
    # Its convolutions are read without a ReLU in between.
    common = {"method": "neurons", "neuron_score": "activity", "prune_epochs": 0, "epochs": 0, "sparsity": 0.5}
    convnet = result_of(tmp_path / "lenet", model="lenet-5", **common)
    told = "activations of conv1.weight, conv2.weight are never zero, so activity ranks none of their units: all stay"
    assert told in convnet["warnings"]
    assert convnet["facts"]["units"] == {"conv1.weight": [20, 20], "conv2.weight": [50, 50], "fc1.weight": [215, 500]}
    assert not any("never zero" in text for text in result_of(tmp_path / "mlp", **common)["warnings"])


def test_a_small_dense_net_that_cannot_be_so_small_says_so(tmp_path: Path) -> None:
    near, far = (
        result_of(tmp_path / str(s), method="small-dense", sparsity=s, epochs=0, prune_epochs=0)["warnings"]
        for s in (0.5, 0.99)
    )
    assert not any("was to have" in text for text in near)
    assert "small-dense was to have 12 target weights; the nearest width has 74" in far


@pytest.mark.parametrize("method", ["three-step", "one-shot", "gradual"])
def test_dropout_eases_by_what_is_left_of_the_layer_it_feeds(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    original = phase.train_epoch

    def watch(model: nn.Module, *rest: Any, **more: Any) -> float:
        rate = next(m.p for m in model.modules() if isinstance(m, nn.Dropout))
        kept = float((dict(model.named_parameters())["fc2.weight"] != 0).float().mean())
        seen.append((rate, kept))
        return original(model, *rest, **more)

    monkeypatch.setattr(phase, "train_epoch", watch)
    result_of(tmp_path / "run", model="mlp:32-16", method=method, dropout=0.4, sparsity=0.75)
    assert all(rate == pytest.approx(0.4 * kept**0.5) for rate, kept in seen)
    assert seen[0][0] == 0.4 and min(rate for rate, _ in seen) < 0.3


def test_a_control_of_snip_trains_as_snip_does(tmp_path: Path) -> None:
    def control(name: str, **changes: Any) -> torch.Tensor:
        result_of(tmp_path / name, method="snip", control="shuffle", **changes)
        return read_tensors(tmp_path / name / "model.safetensors")[0]["fc2.weight"]

    plain = control("plain")
    assert not torch.equal(plain, control("dense", l1=1e-2))
    assert torch.equal(plain, control("retrained", retrain_l1=1e-2)), "there is nothing to retrain"


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every validation accuracy be lower than the one before."""
    times = itertools.count()
    monkeypatch.setattr(phase, "evaluate", lambda *_: Score(1.0, 0.9 - 0.01 * next(times)))


def test_masked_retraining_may_end_where_it_began(falling: None, tmp_path: Path) -> None:
    result = result_of(tmp_path / "run", method="masked-retraining", sparsity=0.5)
    assert result["accuracy"]["pruned"]["best_epoch"] == 0
    began, _ = read_tensors(tmp_path / "run" / "phases" / "freeze.safetensors")
    last, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(began[f"model/{name}"], tensor) for name, tensor in last.items())


@pytest.mark.parametrize(("regrow", "best"), [(False, 1), (True, 4)])
def test_a_constant_schedule_without_regrowth_is_at_its_target_at_once(
    regrow: bool, best: int, falling: None, tmp_path: Path
) -> None:
    result = result_of(tmp_path / "run", method="gradual", schedule="constant", regrow=regrow, rise=0.8)
    assert result["accuracy"]["pruned"]["best_epoch"] == best


def test_a_try_that_diverges_is_beyond_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = methods.TABLE["random"]

    @functools.wraps(original)
    def fragile(bench: benches.Bench) -> None:
        if bench.settings.sparsity > 0.3:
            raise DivergedError("the loss is not finite")
        original(bench)

    monkeypatch.setitem(methods.TABLE, "random", fragile)
    result = result_of(tmp_path / "run", method="random", max_drop=100.0, prune_epochs=0)
    assert 0.29 < result["facts"]["search"]["sparsity"] <= 0.3
    assert "training diverged at sparsity 0.5, which counts as beyond --max-drop" in result["warnings"]
