"""Compiled models: they agree, can be saved, and refuse what does not fit."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import secateur as sc
from secateur import native
from secateur.engine import InputError
from secateur.engine.plan.calling import ArgumentsError
from secateur.lab import models
from secateur.vocabulary import CorruptFileError

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")
INSTRUCTIONS = native.load().sets() if native.available() else []


def pruned(name: str, shape: tuple[int, int, int], sparsity: float = 0.9) -> nn.Module:
    torch.manual_seed(0)
    net = models.build(name, shape, 10).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    sc.apply(net, sc.select(sc.criteria.magnitude(sc.prunable(net)), sparsity, scope=sc.PerTensor()))
    return net


def apart(engine: sc.Engine, net: nn.Module, x: torch.Tensor) -> float:
    expected = net.double()(x.double())
    net.float()
    return float((engine(x) - expected).detach().abs().max() / expected.detach().abs().max())


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5", "resnet-20", "mobilenet-v1"])
def test_models_agree_with_float64(name: str, instructions: str) -> None:
    shape = (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)
    net = pruned(name, shape)
    engine = sc.compile(net, torch.zeros(1, *shape), tune=False, instructions=instructions)
    for samples in (1, 3, 17):
        assert apart(engine, net, torch.randn(samples, *shape)) < 1e-5
    engine.threads = 2
    assert apart(engine, net, torch.randn(2, *shape)) < 1e-5


def test_tuning_changes_last_digits_at_most() -> None:
    net = pruned("lenet-5", (1, 28, 28))
    engine = sc.compile(net, torch.zeros(1, 1, 28, 28))
    assert apart(engine, net, torch.randn(20, 1, 28, 28)) < 1e-5
    assert "of peak" in str(engine.profile(runs=2))


def test_a_saved_engine_is_the_same(tmp_path: Path) -> None:
    net = pruned("lenet-5", (1, 28, 28))
    engine = sc.compile(net, torch.zeros(1, 1, 28, 28))
    engine.save(tmp_path / "engine.sct")
    again = sc.engine.load(tmp_path / "engine.sct")
    x = np.random.default_rng(0).standard_normal((40, 1, 28, 28)).astype(np.float32)
    for part in (x, x[:1]):
        assert np.array_equal(engine(part), again(part))
    assert (tmp_path / "engine.sct").stat().st_size < 0.25 * 4 * sum(p.numel() for p in net.parameters())
    sc.pack(net, tmp_path / "model.sct")
    with pytest.raises(CorruptFileError, match="holds no engine"):
        sc.engine.load(tmp_path / "model.sct")


def test_threads_share_an_engine() -> None:
    net = pruned("lenet-5", (1, 28, 28))
    engine = sc.compile(net, torch.zeros(1, 1, 28, 28), tune=False)
    inputs = np.random.default_rng(0).standard_normal((8, 1, 1, 28, 28)).astype(np.float32)
    expected, got = [engine(x) for x in inputs], [[] for _ in inputs]  # type: ignore[var-annotated]

    def work(number: int) -> None:
        got[number] = [engine(inputs[number]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(each, expected[number]) for number in range(8) for each in got[number])


def test_what_does_not_fit_is_refused() -> None:
    engine = sc.compile(nn.Linear(4, 2), torch.zeros(1, 4), tune=False)
    assert engine(np.zeros((0, 4), np.float32)).shape == (0, 2)
    assert engine(np.zeros((2, 8), np.float64)[:, ::2]).shape == (2, 2)
    with pytest.raises(InputError, match=r"not \[samples, 4\]"):
        engine(np.zeros((2, 5), np.float32))
    with pytest.raises(ArgumentsError):
        engine(np.zeros((2, 4), np.float32), 1)
    with pytest.raises(ValueError, match="instruction set"):
        sc.compile(nn.Linear(4, 2), torch.zeros(1, 4), instructions="abacus")
