"""Pruning in one call: score, select and zero a model in place."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from secateur.choose.selection import Choice
from secateur.choose.targets import prunable
from secateur.masks import Masks, apply
from secateur.modules import refuse_keras
from secateur.vocabulary import Weights

__all__ = ["prune"]


def prune(
    model: nn.Module,
    sparsity: float | None = None,
    choice: Choice = Choice(),  # noqa: B008 - a frozen value
    *,
    weights: Weights | None = None,
    within: Mapping[str, Tensor] | None = None,
) -> Masks:
    """Prune a model in place, once; global magnitude pruning unless ``choice`` says otherwise.

    Args:
        model: any module.
        sparsity: share of the target weights (or units) to remove, in [0, 1], always of the original.
        choice: criterion, granularity, scope and allocation.
        weights: the targets; :func:`prunable` of the model if left out.
        within: masks of an earlier pruning to stay inside.

    Returns:
        The masks, tied to the model; pass them to :func:`secateur.hold` before training goes on.

    Raises:
        BadTargetError: the model has no prunable tensor.
        SelectionError: the sparsity is outside [0, 1], scores are NaN, or parts do not go together.

    Example:
        >>> net = nn.Linear(10, 10)
        >>> prune(net, sparsity=0.9)
        Masks(1 targets, 10 of 100 weights kept)
        >>> int((net.weight != 0).sum())
        10
    """
    refuse_keras(model, "prune")
    masks = choice(prunable(model) if weights is None else weights, sparsity, within)
    return apply(model, masks)
