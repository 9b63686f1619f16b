"""Runs of every method and option, stopped again and again, end as runs that were not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.files import read_tensors
from secateur.lab import checkpoint, methods, phase, runs
from secateur.lab.settings import Settings


def settings(**changes: Any) -> Settings:
    return Settings(**({"model": "mlp:32", "epochs": 2, "prune_epochs": 4} | changes))


def assert_stops_change_nothing(own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped again and again ends as one that is not."""

    def outcome(name: str) -> str:
        result = runs.run(own, tmp_path / name)
        tensors, _ = read_tensors(tmp_path / name / "model.safetensors")
        kept = {key: result[key] for key in ("accuracy", "facts", "warnings")}
        return json.dumps(kept) + str([float(tensor.double().sum()) for _, tensor in sorted(tensors.items())])

    whole = outcome("whole")
    original, saves = checkpoint.save, 0

    def save(path: Path, state: checkpoint.State) -> None:
        nonlocal saves
        original(path, state)
        saves += 1
        if saves % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(phase.checkpoint, "save", save)
    for _ in range(40):
        try:
            assert outcome("cut") == whole
            break
        except KeyboardInterrupt:
            continue
    else:
        pytest.fail("it never came to an end")
    assert saves > 3


@pytest.mark.parametrize("method", sorted(methods.TABLE.keys() - {"threshold", "threshold-layerwise"}))
def test_a_method_stopped_at_any_epoch_ends_the_same(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_stops_change_nothing(settings(method=method, distill=0.5, dropout=0.1), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_drop": 50.0},
        {"max_drop": 50.0, "control": "shuffle"},
        {"control": "scratch"},
        {"method": "lottery-ticket", "rewind": 0.5, "rounds": 2},
        {"method": "lottery-ticket", "control": "scratch", "rounds": 2},
        {"method": "three-step", "quality": 1.0},
        {
            "method": "three-step",
            "survivors": "drawn",
            "fixed": "turns",
            "model": "tutorial-convnet",
            "batch_size": 256,
        },
        {"method": "neurons", "neuron_score": "activity"},
        {"method": "neurons", "neuron_score": "taylor", "max_drop": 50.0},
    ],
    ids=lambda changes: "-".join(str(each) for each in changes.values()),
)
def test_what_an_option_adds_is_stopped_and_resumed_too(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(**{"prune_epochs": 2, "dropout": 0.1, "bits": 0} | changes)
    assert_stops_change_nothing(own, tmp_path, monkeypatch)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_convolutional_net_stopped_at_any_epoch_ends_the_same(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its weights have the channels innermost, and so must their moments.
    assert_stops_change_nothing(settings(model="lenet-5", optimizer=optimizer, bits=0), tmp_path, monkeypatch)
