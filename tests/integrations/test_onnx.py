"""Exported models: run by ONNX Runtime as by torch, at any batch size, zeros in place; or refused, nothing written."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import secateur as sc
from secateur.lab import models
from secateur.vocabulary import SecateurError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from secateur.integrations import onnx as so  # noqa: E402 - after the skips
from secateur.integrations.onnx import checking, exporting  # noqa: E402


def outputs(path: Path, *inputs: Tensor) -> list[Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return list(session.run(None, {name: each.numpy() for name, each in zip(names, inputs, strict=True)}))


def stored(path: Path) -> dict[str, Any]:
    return {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def lived_in(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give batch norms something to fold: statistics of images, scales of both signs, shifts."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model.train()(torch.randn(16, *shape))
    return model


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mlp:16", (1, 8, 8)), ("lenet-5", (1, 28, 28)), ("tutorial-convnet", (1, 8, 8)), ("resnet-20", (3, 8, 8))],
)
def test_a_pruned_model_runs_alike_with_its_zeros_in_place(
    name: str, shape: tuple[int, int, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = lived_in(models.build(name, shape, 10), shape)
    masks = sc.prune(model, sparsity=0.9)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    capfd.readouterr()
    done = so.export(model, torch.randn(1, *shape), tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")

    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(done.path), full_check=True)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.eval()
    for size in (1, 2, 7):
        images = torch.randn(size, *shape)
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(outputs(done.path, images)[0]), model(images))

    weights = stored(done.path)
    for key, mask in masks.items():
        assert not weights[key][~mask.numpy()].any()
    floats = [each for each in weights.values() if each.dtype == np.float32]
    assert done.zeros == sum(int((each == 0).sum()) for each in floats)
    assert done.weights == sum(each.size for each in floats)
    assert sum(masks.count(key).kept for key in masks) <= done.weights - done.zeros


def test_sizes_and_the_check_are_told_honestly(tmp_path: Path) -> None:
    dense, sparse = nn.Linear(100, 50), nn.Linear(100, 50)
    sc.prune(sparse, sparsity=0.9)
    first = so.export(dense, torch.randn(4, 100), tmp_path / "dense.onnx")
    done = so.export(sparse, torch.randn(4, 100), tmp_path / "sparse.onnx")
    data = done.path.read_bytes()
    assert done.bytes == len(data) == first.bytes
    assert done.gzipped == len(gzip.compress(data, 6)) < first.gzipped / 3
    assert done.safetensors_gzipped == sc.measure(sparse).bytes.gzipped
    assert (done.zeros, done.weights, done.batches) == (4500, 5050, (4, 1, 3))
    assert 0 <= done.relative <= done.tolerance == 1e-4
    assert done.opset == onnx.load(done.path).opset_import[0].version
    for part in (f"{done.bytes:,} bytes", "4,500 of 5,050 weights", "ONNX stores zeros", "batches of 4, 1, 3"):
        assert part in str(done)


def test_the_file_tells_nothing_of_the_folders_it_was_made_in(tmp_path: Path) -> None:
    data = so.export(Noisy(0.0), torch.randn(2, 4), tmp_path / "model.onnx").path.read_bytes()
    assert Path(__file__).name.encode() not in data and b"site-packages" not in data


class Noisy(nn.Module):
    """Draws lots in eval mode too."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() + self.scale * torch.rand_like(x)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.words.weight
        self.unused = nn.Linear(30, 30)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words(tokens))
        return logits


class Several(nn.Module):
    """Takes what is not a tensor too, and gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 16, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, factor: int, mask: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"out": self.rnn(x)[0] * factor, "best": (x * mask["keep"]).flatten(1).argmax(1)}


KINDS = {
    "tied": (Tied(), (torch.randint(20, (2, 7)),)),
    "several": (Several(), (torch.randn(2, 5, 8), 3, {"keep": torch.rand(2, 5, 8) > 0.5})),
    "transformer": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (torch.randn(2, 5, 16),)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 8, 2, 2), nn.BatchNorm2d(8)), (torch.randn(2, 3, 4, 4),)),
    "compiled": (torch.compile(nn.Linear(8, 4)), (torch.randn(2, 8),)),
    "half": (nn.Linear(8, 4).half(), (torch.randn(2, 8).half(),)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_other_kinds(kind: str, tmp_path: Path) -> None:
    model, inputs = KINDS[kind]
    masks = sc.prune(model, sparsity=0.5)
    removed = sum(mask.numel() - masks.count(key).kept for key, mask in masks.items() if "unused" not in key)
    done = so.export(model, inputs, tmp_path / "model.onnx", tolerance=1e-2 if kind == "half" else 1e-4)
    assert done.batches == (2, 1, 3)
    assert done.zeros >= removed > 0


def test_half_modes_and_hooks_of_a_pruner_are_left_alone(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    model[1].eval()
    optimizer = torch.optim.Adam(model.parameters())
    pruner = sc.Pruner(model, optimizer, sc.ConstantSchedule(0.5, begin_step=0, frequency=1))
    pruner.step()
    so.export(model, torch.randn(2, 8), tmp_path / "model.onnx")
    assert [module.training for module in model] == [True, False, True, True]
    model(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    pruner.step()
    assert sum(pruner.masks.count(name).kept for name in pruner.masks) == 40


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if len(x) == 2 else x * 3


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Merged(nn.Module):
    """Adds to its weight before using it, so that what was pruned is not zero where it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8)
        self.more = nn.Parameter(torch.ones(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.base.weight + self.more)


X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
REFUSED = {
    "random": (Noisy(0.1), X, {}, "disagree on Noisy"),
    "specialised": (Fixed(), X, {}, "Fixed cannot be exported.*any size"),
    "branching": (Branching(), X, {}, "Branching cannot be exported"),
    "of one size": (nn.Unflatten(0, (2, 1)), X, {}, "cannot run a batch of 1"),
    "merged": (Merged(), X, {}, "merged pruned weights of Merged"),
    "bfloat16": (nn.Linear(8, 4).bfloat16(), X.bfloat16(), {}, "bfloat16"),
    "no batch": (nn.Linear(8, 4), torch.tensor(1.0), {}, "no tensor with an axis"),
    "two batches": (nn.Bilinear(8, 8, 4), (X, X[:1]), {}, r"\[1, 2\]"),
    "empty": (nn.Linear(8, 4), X[:0], {}, "at least 1"),
    "tolerance": (nn.Linear(8, 4), X, {"tolerance": float("nan")}, "above 0, got nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trusted_is_not_written(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, example, options, said = REFUSED[case]
    if any(True for _ in model.parameters()):
        sc.prune(model, sparsity=0.5)
    (tmp_path / "model.onnx").write_text("precious")
    with pytest.raises(so.ExportError, match=said):
        so.export(model, example, tmp_path / "model.onnx", **options)
    assert issubclass(so.ExportError, SecateurError)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]
    assert capfd.readouterr() == ("", "")


def test_a_zero_that_came_back_is_refused_however_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = exporting._traced

    def spoilt(*arguments: Any) -> Any:
        proto, used = traced(*arguments)
        for each in proto.graph.initializer:
            if each.name == "weight":
                weight = onnx.numpy_helper.to_array(each)
                each.CopyFrom(onnx.numpy_helper.from_array(np.where(weight == 0, np.float32(1e-30), weight), "weight"))
        return proto, used

    monkeypatch.setattr(exporting, "_traced", spoilt)
    model = nn.Linear(8, 4)
    so.export(model, X, tmp_path / "dense.onnx")
    sc.prune(model, sparsity=0.5)
    with pytest.raises(so.ExportError, match="zeros of 'weight' are not zero"):
        so.export(model, X, tmp_path / "sparse.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["dense.onnx"]


def test_what_onnx_runtime_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> Any:
        node = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"])
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
        return onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:])), set()

    monkeypatch.setattr(exporting, "_traced", unknown)
    with pytest.raises(so.ExportError, match="ONNX Runtime cannot run"):
        so.export(nn.ReLU(), X, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_infinities_and_holes_must_be_in_the_same_places() -> None:
    a = np.array([1.0, np.nan, np.inf, -np.inf], dtype=np.float32)
    assert checking._apart(a, a.copy()) == 0
    for wrong in ([1, 2, np.inf, -np.inf], [1, np.nan, 5, -np.inf], [1, np.nan, -np.inf, -np.inf]):
        assert checking._apart(a, np.array(wrong, dtype=np.float32)) == np.inf
    assert checking._apart(a, a[:2]) == checking._apart(a, a.astype(np.float64)) == np.inf


def test_models_beyond_the_format_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "LARGEST", 100)
    with pytest.raises(so.ExportError, match="2 GiB"):
        so.export(nn.Linear(8, 4), X, tmp_path / "model.onnx")


def test_places_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("precious")
    for path, said in (
        (tmp_path, "folder"),
        (tmp_path / "no" / "m.onnx", "no'"),
        (tmp_path / "file" / "m.onnx", "file'"),
    ):
        with pytest.raises(OSError, match=said):
            so.export(nn.Linear(8, 4), X, path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        so.export(nn.Linear(8, 4), X, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_told_with_its_extra(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import secateur.integrations.onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr and "secateur[onnx]" in done.stderr and missing in done.stderr
