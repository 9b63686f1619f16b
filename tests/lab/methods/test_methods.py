"""The contract of every method, swept over the table: exact sparsity, zeros stay, the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

import secateur as sc
from secateur.files import read_tensors
from secateur.lab import methods, runs
from secateur.lab.data import LabError
from secateur.lab.settings import Settings


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9])
@pytest.mark.parametrize("method", methods.TABLE)
def test_the_sparsity_is_exact_and_its_zeros_are_those_of_the_masks(
    method: str, sparsity: float, tmp_path: Path
) -> None:
    settings = Settings(model="mlp:32", method=method, sparsity=sparsity, epochs=2, prune_epochs=4)
    result = runs.run(settings, tmp_path / "run")
    targets = result["measure"]["pruned"]["targets"]
    assert targets["weights"] == 64 * 32 + 32 * 10
    per_layer = method == "one-shot-layerwise"
    layers = [64 * 32, 32 * 10] if per_layer else [64 * 32 + 32 * 10]
    removed = sum(round(sparsity * n) for n in layers)
    assert targets["weights"] - targets["kept"] == removed
    tensors, _ = read_tensors(tmp_path / "run" / "phases" / "prune.safetensors")
    masks = {key.removeprefix("masks/"): t for key, t in tensors.items() if key.startswith("masks/")}
    assert sc.Masks(masks).count().removed == removed
    assert all((tensors[f"model/{name}"][~mask] == 0).all() for name, mask in masks.items())


@pytest.mark.parametrize("method", methods.TABLE)
def test_a_method_repeats_by_its_seed(method: str, tmp_path: Path) -> None:
    def accuracy(seed: int, name: str) -> object:
        settings = Settings(model="mlp:16", method=method, epochs=2, prune_epochs=4, seed=seed)
        result = runs.run(settings, tmp_path / name)
        return result["accuracy"], read_tensors(tmp_path / name / "phases" / "prune.safetensors")[0][
            "model/fc1.weight"
        ].sum()

    assert str(accuracy(0, "a")) == str(accuracy(0, "b")) != str(accuracy(1, "c"))


@pytest.mark.parametrize("method", sorted(methods.TABLE.keys() - {"iterative"}))
def test_without_retraining_there_is_no_reference_and_the_sparsity_holds(method: str, tmp_path: Path) -> None:
    result = runs.run(Settings(model="mlp:16", method=method, epochs=2, prune_epochs=0), tmp_path / "run")
    assert "dense_longer" not in result["accuracy"]
    assert result["measure"]["pruned"]["targets"]["sparsity"] == pytest.approx(0.9, abs=2e-3)


def test_iterative_says_what_it_cannot_do(tmp_path: Path) -> None:
    for bad, text in (({"prune_epochs": 0}, "prune-epochs"), ({"sparsity": 1.0}, "never reaches")):
        with pytest.raises(LabError, match=text):
            runs.run(Settings(model="mlp:16", method="iterative", epochs=1, **bad), tmp_path / text)  # type: ignore[arg-type]


def test_every_method_says_in_a_line_what_it_does() -> None:
    for name in methods.TABLE:
        assert methods.summary(name).endswith(("goes on.", "left.", "rewound.", "(the control)."))
