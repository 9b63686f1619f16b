"""Importance by absolute value, and the LAMP transform that makes layers comparable."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.vocabulary import NamedTensors, Scores

__all__ = ["lamp", "magnitude"]


@torch.no_grad()
def magnitude(weights: Mapping[str, Tensor]) -> Scores:
    """Score every weight by its absolute value; granularities of more than one weight take the L2 norm of it.

    Source: Han et al. 2015, "Learning both Weights and Connections" (arXiv 1506.02626).

    Args:
        weights: tensors by name, any shape and float dtype.

    Returns:
        Scores in [0, inf), of the shapes and dtypes of the weights.

    Example:
        >>> import torch
        >>> magnitude({"w": torch.tensor([-3.0, 1.0])})["w"]
        tensor([3., 1.])
    """
    return NamedTensors(weights).map(lambda weight: weight.detach().abs())


@torch.no_grad()
def lamp(scores: Mapping[str, Tensor]) -> Scores:
    """Turn scores into layer-adaptive ones: the square over the sum of the squares not below it.

    Rank the result over the whole model (``scope=Global()``): the largest weight of every tensor scores 1, so no
    tensor is emptied before all are down to one weight.

    Source: Lee et al. 2021, "Layer-Adaptive Sparsity for the Magnitude-based Pruning" (arXiv 2010.07611), eq. 5.

    Args:
        scores: non-negative scores by name, usually :func:`magnitude`.

    Returns:
        float64 scores in [0, 1], same shapes.

    Example:
        >>> import torch
        >>> lamp(magnitude({"w": torch.tensor([1.0, 2.0])}))["w"]
        tensor([0.2000, 1.0000], dtype=torch.float64)
    """
    return NamedTensors(scores).map(_lamp)


def _lamp(scores: Tensor) -> Tensor:
    squares, order = scores.double().flatten().square().sort(stable=True)
    # Summed from the largest down, so that small terms are not lost in a large total.
    rest = squares.flip(0).cumsum(0).flip(0)
    ratio = torch.where(rest > 0, squares / rest, 0.0)
    return torch.empty_like(ratio).scatter_(0, order, ratio).reshape(scores.shape)
