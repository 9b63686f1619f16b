"""Settings do something, or it is said that they do nothing."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from secateur.files import read_tensors
from secateur.lab import methods, runs
from secateur.lab.bench import Bench
from secateur.lab.data import LabError
from secateur.lab.methods.heeds import HEEDS, unheeded
from secateur.lab.settings import Settings
from secateur.vocabulary import SecateurWarning

TINY: dict[str, Any] = {"model": "mlp:16", "epochs": 2, "prune_epochs": 4, "rounds": 2, "bits": 0}
CARDS = Path(__file__).parents[3] / "docs" / "methods"
OWN = sorted({name for names in HEEDS.values() for name in names})


class Watched(Settings):
    """Settings that know which of them were read while a method ran."""

    seen: ClassVar[set[str]] = set()
    running: ClassVar[bool] = False

    def __getattribute__(self, name: str) -> Any:
        if Watched.running:
            Watched.seen.add(name)
        return super().__getattribute__(name)


def outcome(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    runs.run(Settings(**(TINY | changes)), folder, runs.Options(forms=False))
    return read_tensors(folder / "model.safetensors")[0]


@pytest.mark.parametrize("method", methods.TABLE)
def test_a_method_heeds_what_it_reads_and_nothing_else(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HEEDS.keys() == methods.TABLE.keys()
    monkeypatch.setattr(Watched, "seen", set())
    original = methods.TABLE[method]

    @functools.wraps(original)
    def watch(bench: Bench) -> None:
        Watched.running = True
        try:
            original(bench)
        finally:
            Watched.running = False

    monkeypatch.setitem(methods.TABLE, method, watch)
    runs.run(Watched(**TINY, method=method), tmp_path / "run", runs.Options(forms=False))
    heeded = set(HEEDS[method])
    read = Watched.seen & set(OWN)
    # A method with a scope of its own reads --layers to refuse them.
    assert read - heeded <= ({"layers"} if method not in ("random", "snip") else set()) and heeded <= read


@pytest.mark.parametrize("method", methods.TABLE)
def test_the_card_names_every_setting_of_its_own(method: str) -> None:
    card = (CARDS / f"{method}.md").read_text(encoding="utf-8")
    flags = [f"--{name.replace('_', '-')}" for name in HEEDS[method]]
    assert not [flag for flag in flags if not re.search(rf"{flag}\b(?!-)", card)]


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    told = runs.run(Settings(**TINY, method="random", scope="layerwise"), tmp_path / "run")["warnings"]
    assert "random makes nothing of --scope: it was passed over" in told
    assert unheeded("three-step", Settings(quality=1.0, sparsity=0.5)) == [
        "three-step makes nothing of --sparsity: it was passed over"
    ]
    assert not unheeded("gradual", Settings(rise=0.5, scope="lamp", regrow=True, schedule="linear"))


@pytest.mark.parametrize(
    ("method", "way_out"),
    [
        ("threshold", "threshold would not heed: take --method threshold-layerwise"),
        ("one-shot-lamp", "one-shot-lamp would not heed: take --method one-shot-layerwise"),
        ("gradual", "--scope global would not heed: add --scope layerwise"),
    ],
)
def test_layers_that_a_method_cannot_heed_are_refused_with_the_way_out(
    method: str, way_out: str, tmp_path: Path
) -> None:
    with pytest.raises(LabError, match=way_out):
        outcome(tmp_path / "run", method=method, layers="fc1=0.5", epochs=0, prune_epochs=0)


@pytest.mark.parametrize(
    ("method", "changes", "flags"),
    [
        ("three-step", {"quality": 1.0, "scope": "lamp", "layers": "fc1=0.5"}, "layers scope"),
        ("threshold", {"distill": 0.5, "retrain_rate": 0.1, "retrain_l1": 0.1}, "distill retrain-l1 retrain-rate"),
        ("threshold", {"distill": 0.5, "retrain_rate": 0.1, "control": "scratch"}, "retrain-rate"),
        ("small-dense", {"distill": 0.5, "retrain_l2": 0.1}, "distill retrain-l2"),
        ("snip", {"retrain_rate": 0.1, "l1": 0.1}, "retrain-rate"),
        ("snip", {"retrain_l1": 0.1, "control": "shuffle"}, "retrain-l1"),
        ("gradual", {"schedule": "constant", "initial_sparsity": 0.5}, "initial-sparsity"),
        ("gradual", {"max_drop": 1.0, "sparsity": 0.5}, "sparsity"),
        ("gradual", {"temperature": 2.0}, "temperature"),
        ("one-shot", {"recalibrate": True}, "recalibrate"),
        ("one-shot", {"recalibrate": True, "retrain_l1": 0.1, "prune_epochs": 0}, "retrain-l1"),
        ("lottery-ticket", {"retrain_l1": 0.1, "prune_epochs": 0}, ""),
        ("gradual", {"prune_epochs": 0, "rise": 0.5, "schedule": "linear", "regrow": True}, "regrow rise schedule"),
        ("lottery-ticket", {"epochs": 0, "rewind": 0.5}, "rewind"),
        ("gradual", {"bits": 0, "share_epochs": 5}, "share-epochs"),
        ("threshold", {"biases": True}, "biases"),
        ("threshold", {"biases": True, "l1": 1e-4}, ""),
    ],
    ids=str,
)
def test_what_other_settings_leave_nothing_to_do_is_said(method: str, changes: dict[str, Any], flags: str) -> None:
    told = unheeded(method, Settings(method=method, **changes))
    assert told == [f"{method} makes nothing of --{flag}: it was passed over" for flag in flags.split()]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"method": "gradual", "sparsity": 0.5, "initial_sparsity": 0.6}, "--initial-sparsity 0.6 is above"),
        ({"method": "one-shot", "scope": "layerwise", "layers": "fc1=0.5,fc2=0.2"}, "names every target"),
        ({"method": "one-shot", "prune_epochs": 0, "recalibrate": True}, "no BatchNorm"),
        ({"method": "one-shot", "ignore": "fc9*"}, "fc9"),
        ({"method": "lottery-ticket", "sparsity": 0.9995}, "all weights"),
    ],
    ids=str,
)
def test_warnings_from_everywhere_are_in_the_result_once(
    changes: dict[str, Any], text: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    told = runs.run(Settings(**(TINY | changes)), tmp_path / "run", runs.Options(forms=False))["warnings"]
    assert sum(text in warning for warning in told) == 1
    assert not [each for each in recwarn if issubclass(each.category, SecateurWarning)]


def test_snip_trains_as_the_dense_net_does(tmp_path: Path) -> None:
    common: dict[str, Any] = {"method": "snip", "sparsity": 0.8}
    plain, penalized = outcome(tmp_path / "plain", **common), outcome(tmp_path / "l1", **common, l1=1e-2)
    assert any(not torch.equal(plain[name], penalized[name]) for name in plain)


@pytest.mark.parametrize("changes", [{"layers": "fc1=0.5", "max_drop": 1.0}, {"epochs": 0, "distill": 0.5}], ids=str)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LabError):
        Settings(**changes)


def test_a_search_needs_a_sparsity_to_search_for() -> None:
    with pytest.raises(LabError, match="quality sets thresholds"):
        Settings(method="three-step", quality=1.0, max_drop=1.0)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("freeze", {"freeze_above": 0.05}),
        ("one-shot", {"retrain_rate": 0.1}),
        ("one-shot", {"l1": 1e-3}),
        ("one-shot", {"l2": 1e-2}),
        ("one-shot", {"retrain_l1": 1e-3}),
        ("one-shot", {"retrain_l2": 1e-2}),
        ("one-shot", {"smoothing": 0.2}),
        ("one-shot", {"dropout": 0.3}),
        ("one-shot", {"distill": 0.5}),
        ("one-shot", {"distill": 0.5, "temperature": 1.0}),
        ("gradual", {"scope": "erk"}),
        ("gradual", {"scope": "lamp"}),
        ("gradual", {"initial_sparsity": 0.5}),
        ("three-step", {"fixed": "turns", "model": "tutorial-convnet", "batch_size": 256}),
    ],
    ids=str,
)
def test_a_setting_changes_what_comes_out(method: str, change: dict[str, Any], tmp_path: Path) -> None:
    common: dict[str, Any] = {"method": method, "sparsity": 0.8} | {
        key: change[key] for key in ("model", "batch_size") if key in change
    }
    if "temperature" in change:
        common["distill"] = change["distill"]
    plain, changed = outcome(tmp_path / "plain", **common), outcome(tmp_path / "changed", **(common | change))
    assert any(not torch.equal(plain[name], changed[name]) for name in plain)


def test_layers_retrain_by_turns_in_later_rounds_too(tmp_path: Path) -> None:
    changes = {"model": "tutorial-convnet", "method": "three-step", "fixed": "turns", "batch_size": 256}
    outcome(tmp_path / "run", **changes)
    first, second = (read_tensors(tmp_path / "run" / "phases" / f"round{n}.safetensors")[0] for n in (1, 2))
    mask = second["masks/fc1.weight"]
    assert torch.equal(first["model/fc1.weight"] * mask, second["model/fc1.weight"])
    assert not torch.equal(first["model/conv1.weight"], second["model/conv1.weight"])


def test_a_control_trains_as_long_as_the_weights_of_a_ticket_did(tmp_path: Path) -> None:
    base = Settings(**TINY, method="lottery-ticket", control="scratch")
    ticket = runs.run(dataclasses.replace(base, control="none"), tmp_path / "ticket", runs.Options(forms=False))
    scratch = runs.run(base, tmp_path / "scratch", runs.Options(forms=False))
    epochs = [result["accuracy"]["pruned"]["epochs"] for result in (ticket, scratch)]
    assert epochs == [2, 2], "not the rounds whose weights were thrown away"


def test_all_connections_of_dead_neurons_are_counted(tmp_path: Path) -> None:
    three_rounds = Settings(**(TINY | {"rounds": 3}), method="three-step", sparsity=0.97)
    dead = runs.run(three_rounds, tmp_path / "run", runs.Options(forms=False))["facts"]["dead"]
    assert dead["all_connections"] > dead["connections"] > 0, "those of the rounds before count, too"
