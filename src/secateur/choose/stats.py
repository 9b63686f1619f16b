"""Calibration: statistics that criteria need, gathered over batches in streaming fashion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.choose.targets import prunable
from secateur.vocabulary import BadTargetError, SelectionError

__all__ = ["GradientStats", "Gradients", "gradients"]

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradient statistics by target name, in the shapes of the weights.

    Attributes:
        mean: mean over batches of dL/dw.
        mean_product: mean over batches of ``|w * dL/dw|``.
        batches: how many batches were seen.
    """

    mean: Mapping[str, Tensor]
    mean_product: Mapping[str, Tensor]
    batches: int


class GradientStats:
    """A running mean of gradients: call :meth:`update` once a batch, :meth:`compute` at the end.

    Raises:
        BadTargetError: a weight does not require gradients.

    Example:
        >>> w = torch.tensor([2.0], requires_grad=True)
        >>> stats = GradientStats({"w": w})
        >>> for x in (1.0, -1.0):
        ...     stats.update((w * x).sum())
        >>> result = stats.compute()
        >>> result.mean["w"].item(), result.mean_product["w"].item()
        (0.0, 2.0)
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        frozen = [name for name, w in weights.items() if not w.requires_grad]
        if frozen:
            raise BadTargetError(f"{frozen} have no gradient; give them requires_grad, or leave them out (ignore=)")
        self._weights = dict(weights)
        self._sum = {name: torch.zeros_like(w, requires_grad=False) for name, w in weights.items()}
        self._product = {name: torch.zeros_like(w, requires_grad=False) for name, w in weights.items()}
        self._batches = 0

    def update(self, loss: Tensor) -> None:
        """Add the gradients of one batch's mean loss; ``.grad`` of the parameters is not touched."""
        slopes = torch.autograd.grad(loss, list(self._weights.values()), allow_unused=True)
        for (name, weight), slope in zip(self._weights.items(), slopes, strict=True):
            if slope is not None:
                self._sum[name] += slope
                self._product[name] += (weight.detach() * slope).abs()
        self._batches += 1

    def compute(self) -> Gradients:
        """Return the means over the batches seen.

        Raises:
            SelectionError: no batch was seen.
        """
        if not self._batches:
            raise SelectionError("no batch was seen: the statistics need at least one")
        mean = {name: total / self._batches for name, total in self._sum.items()}
        product = {name: total / self._batches for name, total in self._product.items()}
        return Gradients(mean, product, self._batches)


def gradients(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_function: LossFunction,
    weights: Mapping[str, Tensor] | None = None,
) -> Gradients:
    """Gather :class:`Gradients` of a model over batches, leaving the model as it was.

    The model runs in the mode it is in (train or eval); buffers such as BatchNorm statistics are put back
    afterwards, and no ``.grad`` is written.

    Args:
        model: called as ``model(x)``.
        batches: pairs ``(x, y)``; each weighs the same.
        loss_function: called as ``loss_function(model(x), y)``; a mean over the batch.
        weights: the targets; :func:`secateur.prunable` of the model if left out.

    Raises:
        BadTargetError: a target is frozen (``requires_grad`` is False).
        SelectionError: ``batches`` is empty.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> x, y = torch.ones(4, 2), torch.zeros(4, 1)
        >>> gradients(net, [(x, y)], nn.functional.mse_loss).mean["weight"].shape
        torch.Size([1, 2])
    """
    stats = GradientStats(prunable(model) if weights is None else weights)
    # With their places, because a module may put a new tensor there instead of writing into the old one.
    places = [(module, name) for module in model.modules() for name, _ in module.named_buffers(recurse=False)]
    buffers = [(module, name, module.get_buffer(name), module.get_buffer(name).clone()) for module, name in places]
    try:
        with torch.enable_grad():
            for x, y in batches:
                stats.update(loss_function(model(x), y))
    finally:
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer.copy_(before))
    return stats.compute()
