"""Keras files on the command line: inspected, packed, shrunk and measured for a page; refused where they must be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import call

import secateur as sc
from secateur.lab import keras_models, report

keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("the page is about files, which are the same on every backend", allow_module_level=True)
from secateur.integrations import keras as sk  # noqa: E402 - after the skip

layers = keras.layers
QUICK = sc.Timing(warmup=1, repeats=3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A trained model of which half of the units are zero, saved with its optimizer."""
    dense = [layers.Dense(12, activation="relu", name="hidden"), layers.Dense(4, name="last")]
    model = keras.Sequential([keras.Input((8,)), *dense], name="net")
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.random((32, 8)), rng.random((32, 4)), verbose=0)
    sk.prune_units(model, 0.5)
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_inspect_prints_sparsity_by_layer(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", str(saved)) == 0
    printed = capsys.readouterr().out
    assert re.search(r"hidden/kernel +Dense +8x12 +96 +48 +0.5000", printed)
    assert "packed" in printed


def test_pack_writes_what_unpack_reads(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pack", str(saved)) == 0
    assert "compression ratio" in capsys.readouterr().out
    model, other = keras_models.load(saved), keras_models.load(saved)
    other.set_weights([weight + 1 for weight in other.get_weights()])
    sk.unpack(saved.with_suffix(".sct"), into=other)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_shrink_writes_a_smaller_keras_file(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("shrink", str(saved)) == 0
    printed = capsys.readouterr().out
    assert re.search(r"hidden/kernel +12 +6", printed)
    small = keras.saving.load_model(saved.parent / "model.shrunk.keras")
    x = np.random.default_rng(1).random((5, 8))
    assert np.allclose(small.predict(x, verbose=0), keras_models.load(saved).predict(x, verbose=0), atol=1e-6)
    assert sorted(each.name for each in saved.parent.iterdir()) == ["model.keras", "model.shrunk.keras"]
    assert call("shrink", str(saved.parent / "model.shrunk.keras")) == 2
    assert "no unit" in capsys.readouterr().err


def test_the_page_shows_the_model_as_it_is_and_shrunk(saved: Path) -> None:
    facts = keras_models.examine(saved, QUICK)
    assert set(facts["measure"]) == {"pruned", "shrunk"}
    assert facts["measure"]["pruned"]["macs"] == {"dense": 144, "effective": 72}
    assert facts["measure"]["shrunk"]["macs"] == {"dense": 72, "effective": 72}
    assert facts["measure"]["shrunk"]["parameters"]["weights"] == 82
    page = report.build_model(facts, saved, saved.parent / "page.html").read_text(encoding="utf-8")
    for text in ("model.keras", "72 of 144 target weights are zero", "160 → 82 parameters", "hidden/kernel"):
        assert text in page
    assert f"secateur report {saved}" in page
    specs = [json.loads(each) for each in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    assert len(specs) == 2


def test_a_whole_model_has_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="<b>")])
    model.save(tmp_path / "whole.keras")
    facts = keras_models.examine(tmp_path / "whole.keras", timing=None)
    assert "shrunk" not in facts["measure"]
    page = report.build_model(facts, tmp_path / "whole.keras", tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No unit is dead" in page
    assert "No weight of the targets is zero" in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_report_writes_beside_the_file_or_where_it_is_told(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examine = keras_models.examine
    monkeypatch.setattr(keras_models, "examine", lambda path: examine(path, QUICK))
    assert call("report", str(saved)) == 0
    assert call("report", str(saved), "--out", str(saved.parent / "other.html")) == 0
    assert {"model.html", "other.html"} <= {each.name for each in saved.parent.iterdir()}
    assert call("report", str(saved.parent), "--out", "page.html") == 2
    assert "leave --out out" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "pack", "shrink", "report"])
def test_files_that_are_none(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, str(tmp_path / "missing.keras")) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "broken.keras").write_bytes(b"PK, or not")
    assert call(command, str(tmp_path / "broken.keras")) == 1
    assert "is no Keras file, or it is damaged" in capsys.readouterr().err


def test_models_with_the_users_classes_and_wrong_flags_are_refused(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = type("Own", (layers.Layer,), {"__module__": "nowhere", "call": lambda self, x: x})
    keras.Sequential([keras.Input((8,)), own(), layers.Dense(4)]).save(saved.parent / "own.keras")
    assert call("inspect", str(saved.parent / "own.keras")) == 2
    assert "in a script that knows them" in capsys.readouterr().err
    assert call("shrink", str(saved), "--out", str(saved.parent / "small.sct")) == 2
    assert "is written as .keras" in capsys.readouterr().err
    assert call("shrink", str(saved), "--model", "lenet-5") == 2
    assert "leave --model out" in capsys.readouterr().err
