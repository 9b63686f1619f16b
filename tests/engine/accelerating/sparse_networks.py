"""Networks for the tests of accelerated models, and how far two results are apart."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

import secateur as sc

Net = TypeVar("Net", bound=nn.Module)


def apart(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, as a share of the largest number or of 1."""
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max() / (1 + wanted.abs().max()))


def cut(model: Net, sparsity: float = 0.9) -> Net:
    """Prune every layer alike."""
    sc.prune(model, sparsity, choice=sc.Choice(scope=sc.PerTensor()))
    return model.eval()


def perceptron() -> nn.Sequential:
    """Return three sparse layers."""
    return cut(nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)))


def convnet() -> nn.Sequential:
    """Return three sparse layers, the second with groups and a padding that differs from side to side."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 2, padding="same", groups=2), nn.ReLU()]
    return cut(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10)))
