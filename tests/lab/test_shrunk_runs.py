"""Runs end with a physically smaller network where units are dead; `secateur shrink` makes one of any run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import call
from safetensors.torch import load_file

import secateur as sc
from secateur.lab.models import build
from secateur.lab.networks import load_network

TINY = ["--model", "mlp:24-16", "--epochs", "3", "--prune-epochs", "3", "--quiet", "--bits", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert call("run", *TINY, "--method", "neurons", "--sparsity", "0.5", "--out", str(folder)) == 0
    return folder


def test_neuron_pruning_ends_with_a_smaller_network(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    dense, pruned, small = (result["measure"][net] for net in ("dense", "pruned", "shrunk"))
    assert small["parameters"]["weights"] < 0.7 * dense["parameters"]["weights"]
    assert pruned["parameters"]["weights"] == dense["parameters"]["weights"]
    assert small["macs"]["dense"] < 0.7 * dense["macs"]["dense"]
    assert small["bytes"]["dense"] < 0.8 * dense["bytes"]["dense"]
    assert small["latency"]["median_ms"] > 0
    units = result["facts"]["shrunk"]["units"]
    assert sum(kept for kept, _ in list(units.values())[:-1]) == 20  # half of 24 + 16 hidden neurons
    assert result["facts"]["shrunk"]["worst"] <= 1e-5


def test_the_file_fills_a_whole_model_and_computes_the_same(run: Path) -> None:
    model, shape = load_network(run)
    small = sc.unpack(run / "shrunk.sct", into=load_network(run)[0])
    images = torch.randn(5, *shape)
    torch.testing.assert_close(small(images), model(images), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < 0.7 * sum(p.numel() for p in model.parameters())


def test_the_report_shows_what_it_was_worth(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "With its dead units deleted the network is a smaller dense one" in page
    assert "Units (neurons, channels)" in page


def test_three_step_ends_with_one_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert call("run", *TINY, "--method", "three-step", "--sparsity", "0.98", "--out", str(folder)) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["measure"]["shrunk"]["parameters"]["weights"] < result["measure"]["dense"]["parameters"]["weights"]


def test_the_command_writes_either_form(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("shrink", str(run), "--out", str(tmp_path / "small.safetensors")) == 0
    shown = capsys.readouterr().out
    assert "parameters ->" in shown
    plain = load_file(tmp_path / "small.safetensors")
    packed = sc.unpack(run / "shrunk.sct")
    assert all(torch.equal(plain[name], packed[name]) for name in plain)


@pytest.mark.parametrize("name", ["model.safetensors", "model.sct"])
def test_a_file_shrinks_too_if_its_network_is_named(run: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "small.sct"
    named = ["--model", "mlp:24-16", "--shape", "1,8,8"]
    assert call("shrink", str(run / name), *named, "--out", str(out)) == 0
    small, own = sc.unpack(out), sc.unpack(run / "shrunk.sct")
    assert {n: t.shape for n, t in small.items()} == {n: t.shape for n, t in own.items()}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "name their network"),
        (["--model", "mlp:9"], "does not fit mlp:9"),
        (["--model", "mlp:24-16", "--shape", "8,8"], "by commas, such as 3,32,32"),
    ],
)
def test_a_file_without_its_network_is_one_clear_line(
    run: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("shrink", str(run / "model.safetensors"), *flags) == 2
    assert words in capsys.readouterr().err


def test_a_run_knows_its_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("shrink", "export", "bench"):
        assert call(verb, str(run), "--model", "mlp:24-16", "--shape", "1,8,8", "--classes", "10") == 2
        assert "leave --model and --shape and --classes out" in capsys.readouterr().err


def test_nothing_dead_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert call("run", *TINY, "--sparsity", "0.1", "--out", str(folder)) == 0
    result = json.loads((folder / "result.json").read_text())
    assert "shrunk" not in result["measure"]
    capsys.readouterr()
    assert call("shrink", str(folder)) == 2
    assert "no unit of the network" in capsys.readouterr().err


def test_the_smaller_network_is_exported_and_both_sizes_are_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    whole, shape = load_network(run)
    assert call("export", str(run), "--out", str(tmp_path / "whole.onnx")) == 0
    assert call("export", str(run), "--shrunk", "--out", str(tmp_path / "small.onnx")) == 0
    printed = capsys.readouterr().out
    sizes = {name: (tmp_path / f"{name}.onnx").stat().st_size for name in ("whole", "small")}
    assert sizes["small"] < 0.75 * sizes["whole"]
    assert f"instead of {sizes['small']:,}" in printed and f"would be {sizes['whole']:,} bytes" in printed
    count = sum(p.numel() for p in whole.parameters())
    assert f"of {count:,} parameters" in printed and "checked in ONNX Runtime" in printed
    images = torch.randn(7, *shape)
    session = runtime.InferenceSession(tmp_path / "small.onnx")
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    torch.testing.assert_close(found, whole(images).detach(), rtol=1e-4, atol=1e-4)


def test_files_are_exported_too_shrunk_or_as_they_are(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made = ("--model", "mlp:24-16", "--shape", "1,8,8")
    for name in ("model.safetensors", "shrunk.sct"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
        assert call("export", str(tmp_path / name), *made) == 0
    assert call("export", str(tmp_path / "model.safetensors"), "--shrunk", *made) == 0
    size = {path.name: path.stat().st_size for path in tmp_path.glob("*.onnx")}
    assert size["model.shrunk.onnx"] == size["shrunk.onnx"] < 0.75 * size["model.onnx"]
    for flags, said in (((), "name their network too"), (("--shrunk", *made), "shrunk already; leave --shrunk out")):
        assert call("export", str(tmp_path / "shrunk.sct"), *flags) == 2
        assert said in capsys.readouterr().err


def test_a_network_without_dead_units_is_not_exported_as_a_smaller_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    sc.pack(build("mlp:24-16", (1, 8, 8), 10), tmp_path / "whole.sct")
    flags = ("--model", "mlp:24-16", "--shape", "1,8,8", "--shrunk")
    assert call("export", str(tmp_path / "whole.sct"), *flags) == 2
    assert "leave --shrunk out" in capsys.readouterr().err and not list(tmp_path.glob("*.onnx"))
