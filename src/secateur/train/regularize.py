"""Penalties that push weights towards zero while they train."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["penalty"]


def penalty(weights: Mapping[str, Tensor], l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """Return ``l1 * sum |w| + l2 / 2 * sum w^2``, to be added to the loss.

    Masked weights are zero and add nothing. Unlike the weight decay of an optimizer it touches only the given
    tensors, and Adam scales its gradient like any other.

    Source: Han et al. 2015 (arXiv 1506.02626), section 3.1, compares both before and after retraining.

    Args:
        weights: tensors by name, such as :func:`secateur.prunable` returns.
        l1: strength of the L1 part, at least 0.
        l2: strength of the L2 part, at least 0.

    Returns:
        A scalar with gradients.

    Example:
        >>> float(penalty({"w": torch.tensor([3.0, -4.0])}, l1=1.0, l2=2.0))
        32.0
    """
    total = torch.zeros((), device=next(iter(weights.values())).device if weights else None)
    for weight in weights.values():
        if l1:
            total = total + l1 * weight.abs().sum()
        if l2:
            total = total + l2 / 2 * weight.square().sum()
    return total
