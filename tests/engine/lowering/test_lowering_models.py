"""Whole networks: the zoo of coupled units, the models of the lab, timm's."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from agreement import kinds, lowered
from torch import nn

import secateur as sc
from secateur.engine.lowering import UnsupportedError, lower
from secateur.lab import models

# What these do has no operator.
WITHOUT = {"odd": ["aten.argmax"], "dims": ["aten.conv3d at three", "aten.conv3d at point", "aten.conv3d at where"]}


@pytest.mark.parametrize("name", sorted(zoo.ZOO.keys() - WITHOUT))
def test_the_zoo(name: str) -> None:
    model, example = zoo.build(name)
    lowered(model, example)


@pytest.mark.parametrize("name", WITHOUT)
def test_the_zoo_beyond_the_engine_is_refused_by_name(name: str) -> None:
    model, example = zoo.build(name)
    with pytest.raises(UnsupportedError) as error:
        lower(model, example)
    assert all(word in str(error.value) for word in WITHOUT[name])


SHAPES = {"lenet-300-100": (1, 28, 28), "lenet-5": (1, 28, 28), "tutorial-convnet": (1, 28, 28)}


def moved(model: nn.Module) -> nn.Module:
    """Return a model whose norms are away from where they begin."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def build(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    side = models.smallest(name)
    shape = SHAPES.get(name, (3, side, side))
    return moved(models.build(name, shape, 10)), torch.randn(2, *shape)


LONG = ("resnet-32", "resnet-34")  # of the kinds of resnet-18 and resnet-20
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in [*models.TABLE, "mlp:30-20"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_models_of_the_lab(name: str) -> None:
    plan = lowered(*build(name))
    # All norms, activations and sums went into layers.
    assert set(kinds(plan)) <= {"conv", "linear", "max_pool", "average_pool", "mean", "reshape", "slice", "pad"}


def test_resnet_18_is_its_layers_and_a_pool() -> None:
    model, example = build("resnet-18")
    layers = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    plan = lower(model, example)
    assert Counter(kinds(plan)) == {"conv": layers, "mean": 1, "reshape": 1, "linear": 1}
    assert sum(len(op.inputs) == 2 for op in plan.ops) == 8
    assert sum(op.attributes.get("activation") == "relu" for op in plan.ops) == 17
    assert plan.ops[1].where == "layer1.0.branch.conv1"


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20", "mobilenet-v1"])
def test_zeros_stay_zero(name: str) -> None:
    model, example = build(name)
    sc.prune(model, 0.9, sc.Choice(scope=sc.PerTensor()))
    plan = lowered(model, example)
    weights = [plan.constants[op.constants["weight"]] for op in plan.ops if "weight" in op.constants]
    wanted = sum(int(tensor.count_nonzero()) for tensor in sc.prunable(model).values())
    assert sum(int(np.count_nonzero(array)) for array in weights) == wanted
    assert not any(np.signbit(array[array == 0]).any() for array in weights)


def test_tied_weights_stay_one() -> None:
    model, example = zoo.build("recurrent")
    plan = lower(model.float(), example)
    assert plan.ops[0].constants["weight"] == plan.ops[-1].constants["weight"]
    model, example = zoo.build("shared")
    plan = lower(model.float(), example.float())
    assert Counter(op.constants["weight"] for op in plan.ops if op.kind == "linear").most_common(1)[0][1] == 3


def test_the_plan_is_its_own() -> None:
    model = nn.Linear(4, 3)
    plan = lower(model, torch.randn(2, 4))
    before = plan.constants["weight"].copy()
    nn.init.zeros_(model.weight)
    assert np.array_equal(plan.constants["weight"], before)


def test_two_traces_of_a_model_give_one_plan() -> None:
    model, example = build("resnet-20")
    assert str(lower(model, example)) == str(lower(model, example))


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed (the vision extra)")
@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm:mobilenetv3_small_050", "timm:convnext_atto", "timm:vit_tiny_patch16_224"]
)
def test_models_of_timm(name: str) -> None:
    torch.manual_seed(0)
    side = 224 if "vit" in name else 64
    lowered(moved(models.build(name, (3, side, side), 10)), torch.randn(2, 3, side, side))
