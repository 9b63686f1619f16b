"""Every model of the lab shrinks, at every sparsity, to outputs that are the same in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.lab import models
from secateur.shrink.checking import difference, outputs

pytestmark = pytest.mark.filterwarnings("ignore::secateur.vocabulary.SecateurWarning")

SHAPES = {"lenet-300-100": (1, 28, 28), "lenet-5": (1, 28, 28), "tutorial-convnet": (1, 28, 28)}
LONG = ("resnet-32", "resnet-34", "resnet-50", "resnet-56", "vgg-16-bn")
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in [*models.TABLE, "mlp:30-20"]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sparsity", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("granularity", [sc.Element(), sc.Row()], ids=["elements", "rows"])
def test_outputs_stay(name: str, sparsity: float, granularity: Any) -> None:
    torch.manual_seed(0)
    shape = SHAPES.get(name, (3, 32, 32))
    model = models.build(name, shape, 10).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    weights = sc.prunable(model)
    sc.apply(model, sc.select(sc.criteria.random(weights), sparsity, granularity=granularity, scope=sc.PerTensor()))
    example = torch.randn(1, *shape, dtype=torch.float64)
    small = sc.shrink(model, example)
    other = torch.rand(2, *shape, dtype=torch.float64)
    share, agree = difference(outputs(model, (other,), {}), outputs(small, (other,), {}))
    assert agree, share
    record = sc.shrinkage(small)
    assert record is not None
    assert not record.unknown
    assert not record.refused


@pytest.mark.parametrize("name", NAMES)
def test_half_the_multiply_adds_can_go(name: str) -> None:
    torch.manual_seed(0)
    shape = SHAPES.get(name, (3, 32, 32))
    model = models.build(name, shape, 10).eval()
    example = torch.randn(1, *shape)
    before = sc.measure(model, example).macs
    sc.prune_units(model, example, target={"macs": 0.5})
    after = sc.measure(sc.shrink(model, example), example).macs
    assert before is not None
    assert after is not None
    assert 0.3 < after.dense / before.dense <= 0.5
