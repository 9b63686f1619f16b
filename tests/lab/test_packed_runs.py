"""Packing from the command line, and the packed files that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import call
from safetensors.torch import load_file, save_file, save_model

import secateur as sc
from secateur.lab.models import build
from secateur.lab.networks import Made, load_network, network_of

TINY = ["--model", "mlp:16", "--epochs", "3", "--prune-epochs", "3", "--quiet", "--sparsity", "0.8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert call("run", *TINY, "--out", str(folder)) == 0
    return folder


def test_a_run_leaves_both_packed_files_and_their_figures(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    forms = result["measure"]["pruned"]["bytes"]
    assert forms["csr"] > forms["packed"] < forms["gzipped"] < forms["dense"]
    assert (run / "model.sct").stat().st_size == forms["packed"]
    quantized = result["accuracy"]["quantized"]
    assert quantized["bits"] == 5
    assert (run / "quantized.sct").stat().st_size == quantized["bytes"] < forms["packed"] / 1.5
    assert quantized["test"] > result["accuracy"]["pruned"]["test"] - 0.03
    model, _ = load_network(run)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in sc.unpack(run / "model.sct").items())
    few = sc.unpack(run / "quantized.sct", into=model)
    assert all(len(p.unique()) <= 33 for p in few.parameters())


def test_the_report_shows_the_sizes_side_by_side(run: Path) -> None:
    page = (run / "report.html").read_text()
    for label in ("safetensors, gzipped", "torch CSR", "packed, lossless", "packed, codebooks of 5 bits"):
        assert label in page


def test_no_bits_no_codebooks(tmp_path: Path) -> None:
    assert call("run", *TINY, "--bits", "0", "--out", str(tmp_path / "run")) == 0
    assert "quantized" not in json.loads((tmp_path / "run" / "result.json").read_text())["accuracy"]
    assert not (tmp_path / "run" / "quantized.sct").exists()


def test_pack_and_unpack_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.sct"
    assert call("pack", str(run), "--bits", "4", "--out", str(out)) == 0
    assert "compression ratio" in capsys.readouterr().out
    assert call("inspect", str(out)) == 0
    assert "codebook" in capsys.readouterr().out
    assert call("unpack", str(out)) == 0
    assert load_file(tmp_path / "small.unpacked.safetensors").keys() == sc.unpack(out).keys()
    before = (run / "model.safetensors").read_bytes()
    assert call("unpack", str(run)) == 0
    assert (run / "model.safetensors").read_bytes() == before
    assert load_file(run / "model.unpacked.safetensors").keys() == load_file(run / "model.safetensors").keys()


def test_pack_and_unpack_a_file(tmp_path: Path) -> None:
    save_file({"w": torch.eye(40), "tied": torch.eye(40)}, tmp_path / "net.safetensors", {"note": "mine"})
    assert call("pack", str(tmp_path / "net.safetensors")) == 0
    assert call("unpack", str(tmp_path / "net.sct"), "--out", str(tmp_path / "back.safetensors")) == 0
    assert torch.equal(load_file(tmp_path / "back.safetensors")["w"], torch.eye(40))


@pytest.mark.parametrize("verb", ["pack", "unpack"])
def test_bad_paths_are_one_clear_line(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, str(tmp_path / "none")) == 2
    (tmp_path / "file").write_text("no tensors")
    assert call(verb, str(tmp_path / "file")) == 1
    assert call(verb, str(tmp_path)) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("secateur: ")


def test_packing_twice_is_pointed_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pack", str(run / "model.sct"), "--bits", "9") == 2
    assert call("pack", str(run / "model.sct")) == 2
    assert "packed already" in capsys.readouterr().err


def test_the_lossless_file_of_a_run_stays_so(run: Path) -> None:
    before = (run / "model.sct").read_bytes()
    assert call("pack", str(run), "--bits", "2") == 0
    assert (run / "model.sct").read_bytes() == before
    assert (run / "model-2bits.sct").stat().st_size < len(before)


@pytest.mark.parametrize(
    ("verb", "source", "out", "flags"),
    [
        ("pack", "model.safetensors", "model.safetensors", ["--bits", "1"]),
        ("pack", "", "model.safetensors", []),
        ("unpack", "model.sct", "model.sct", []),
        ("shrink", "", "model.safetensors", []),
        ("shrink", "model.sct", "model.sct", ["--model", "mlp:16", "--shape", "1,8,8"]),
        ("export", "", "config.toml", []),
        ("export", "model.sct", "model.sct", ["--model", "mlp:16", "--shape", "1,8,8"]),
        ("export", "", "result.json", ["--shrunk"]),
    ],
)
def test_nothing_is_written_over_what_is_read(
    run: Path, verb: str, source: str, out: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / out).read_bytes()
    assert call(verb, str(run / source), *flags, "--out", str(run / out)) == 2
    assert "would be lost; name another file" in capsys.readouterr().err
    assert (run / out).read_bytes() == before


def test_a_file_that_safetensors_wrote_of_tied_weights_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tied_nets.py").write_text(
        "from torch import nn\n\n\ndef net(shape, classes):\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))\n"
        "    net[3].weight = net[1].weight\n    return net\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made = Made("tied_nets:net", (1, 8, 8))
    net = build(made.model, made.shape, 10)
    save_model(net, str(tmp_path / "m.safetensors"))
    found, _ = network_of(tmp_path / "m.safetensors", made)
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in found.state_dict().items())


def test_metadata_that_the_format_has_taken_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "m.safetensors", {":odd": "x"})
    assert call("pack", str(tmp_path / "m.safetensors")) == 2
    assert "cannot be packed: metadata may not be named ':odd'" in capsys.readouterr().err
