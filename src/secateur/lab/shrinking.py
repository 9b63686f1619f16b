"""The pruned network of a run without its dead units."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

import secateur as sc
from secateur.vocabulary import BadTargetError, SecateurWarning

__all__ = ["NONE_DEAD", "describe", "shrunk", "shrunk_or_why"]

NONE_DEAD = "every row and column still has weights"


def shrunk(model: nn.Module, example: Tensor) -> nn.Module | None:
    """Return a smaller network with the same outputs, or None if nothing can be removed.

    Args:
        model: a pruned network.
        example: images (B, C, H, W), B at least 2.
    """
    return shrunk_or_why(model, example)[0]


def shrunk_or_why(model: nn.Module, example: Tensor) -> tuple[nn.Module | None, str]:
    """Return what :func:`shrunk` does, and why nothing can be removed."""
    if not any(_empty(parameter) for parameter in model.parameters() if parameter.ndim > 1):
        return None, NONE_DEAD
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", SecateurWarning)
        try:
            small = sc.shrink(model, example)
        except BadTargetError as error:
            return None, str(error)
    record = sc.shrinkage(small)
    if record is not None and record.parameters[1] < record.parameters[0]:
        return small, ""
    stays = "; ".join(record.stays) if record is not None else ""
    return None, stays or "; ".join(str(each.message) for each in told)


def _empty(weight: Tensor) -> bool:
    """Say if a weight has a row or a column of zeros, without which no unit can be dead."""
    used = (weight != 0).flatten(2).any(-1) if weight.ndim > 2 else weight != 0
    return not (bool(used.any(0).all()) and bool(used.any(1).all()))


def describe(small: nn.Module) -> dict[str, Any]:
    """Return what a result says of a shrunk network: units kept and units there were by layer, and what stayed."""
    record = sc.shrinkage(small)
    assert record is not None
    units = {name: [count - record.removed[name], count] for name, count in record.units.items()}
    return {"units": units, "worst": record.worst, "stays": list(record.stays)}
