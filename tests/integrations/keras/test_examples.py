"""The Keras examples run on the digits, and keep what they should of the accuracy."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

keras = pytest.importorskip("keras")
from secateur.integrations import keras as sk  # noqa: E402 - after the skip

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "pruned.keras"
    monkeypatch.setattr(sys, "argv", ["keras_tutorial.py", "--batch-size", "8", "--out", str(out)])
    found = runpy.run_path(str(EXAMPLES / "keras_tutorial.py"))["main"]()
    assert found["dense"] >= 0.93 and found["pruned"] >= 0.9
    stripped = keras.saving.load_model(out)
    assert sk.measure(stripped, timing=None).targets.sparsity == pytest.approx(0.8, abs=1e-3)


def test_four_methods_each_better_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["keras_four_methods.py"])
    found = runpy.run_path(str(EXAMPLES / "keras_four_methods.py"))["main"]()
    assert found["layer-wise"] < found["global"] < found["freeze and retrain"] < found["masked retraining"]
    assert found["masked retraining"] >= found["dense"] - 0.02
