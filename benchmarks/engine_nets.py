"""The networks of ``engine.py``: untrained, with norms away from where they begin, pruned by magnitude."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

import secateur as sc
from secateur.lab import models
from secateur.lab.models.layers import he_initialized
from secateur.lab.subjects import Thinning, thin

SHAPES: dict[str, tuple[int, ...]] = {
    "resnet-18": (3, 32, 32),
    "resnet-50": (3, 224, 224),
    "mobilenet-v1": (3, 224, 224),
    "lenet-5": (1, 28, 28),
    "lenet-300-100": (1, 28, 28),
    "linear-4096": (4096,),
}
LAYERS = 6


def shape(name: str) -> tuple[int, ...]:
    """Return the shape of one input of a network; ``3x3-128-28`` is the stack of 128 channels on 28 x 28."""
    if name in SHAPES:
        return SHAPES[name]
    _, channels, side = name.split("-")
    return int(channels), int(side), int(side)


def build(name: str, seed: int = 0) -> nn.Module:
    """Return a network in eval mode with random weights and random statistics of its norms."""
    torch.manual_seed(seed)
    if name == "resnet-50":
        model = _imagenet_stem(models.build(name, (3, 224, 224), 1000))
    elif name == "mobilenet-v1":
        model = models.build(name, (3, 224, 224), 1000)
    elif name == "linear-4096":
        model = nn.Linear(4096, 4096)
    elif name in SHAPES:
        channels, height, width = SHAPES[name]
        model = models.build(name, (channels, height, width), 10)
    else:
        model = _stack(name)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            # As convolutions are; torch's own, much smaller, would all go in one ranking with those.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.7, 1.3)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.1)
    return model.eval()


def prune(model: nn.Module, sparsity: float, layers: str, scope: str) -> None:
    """Prune by magnitude: "all" layers, all "but the first", or the "pointwise" ones."""
    if layers == "pointwise":
        weights = sc.prunable(model, include=["*pointwise*"])
        ranked = sc.Global() if scope == "global" else sc.PerTensor()
        sc.apply(model, sc.select(sc.criteria.magnitude(weights), sparsity=sparsity, scope=ranked))
    else:
        thin(model, Thinning(sparsity, scope, first=layers == "all"))


def _imagenet_stem(model: nn.Module) -> nn.Module:
    """Return the lab's ResNet, which has a stem for small images, with that of the paper: 7x7 and pooling."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in model.named_children():
        layers[name] = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False) if name == "conv1" else layer
        if name == "relu1":
            layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return he_initialized(nn.Sequential(layers))


def _stack(name: str) -> nn.Module:
    """Return six convolutions with ReLU between channels of the same number."""
    kernel, (channels, _, _) = int(name[0]), shape(name)
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Conv2d(channels, channels, kernel, padding=kernel // 2), nn.ReLU()]
    return he_initialized(nn.Sequential(*layers))
