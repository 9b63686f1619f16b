"""Multi-layer perceptrons of any widths."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from secateur.lab.models.layers import Shape, scaled

__all__ = ["mlp"]


def mlp(shape: Shape, classes: int, widths: Sequence[int], factor: float = 1.0) -> nn.Module:
    """Return linear layers of the given widths (times ``factor``) with a ReLU after each, then the output layer.

    Example:
        >>> mlp((1, 8, 8), 10, [64])
        Sequential(
          (flatten): Flatten(start_dim=1, end_dim=-1)
          (fc1): Linear(in_features=64, out_features=64, bias=True)
          (relu1): ReLU()
          (fc2): Linear(in_features=64, out_features=10, bias=True)
        )
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(shape)
    for number, width in enumerate((scaled(width, factor) for width in widths), start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, width)
        layers[f"relu{number}"] = nn.ReLU()
        inputs = width
    layers[f"fc{len(widths) + 1}"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
