"""Calibration: statistics that criteria need, gathered over batches in streaming fashion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from secateur.choose.chains import Chain
from secateur.choose.targets import prunable
from secateur.modules import in_eval_mode, unwrap
from secateur.vocabulary import BadTargetError, SelectionError

__all__ = ["GradientStats", "Gradients", "Units", "gradients", "units"]

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


@dataclass(frozen=True, eq=False)
class Units:
    """Statistics of neurons and filters by the name of the weight that writes them, each of shape (units,).

    Attributes:
        active: share of the activations that is not zero, in [0, 1], as the reader sees them.
        taylor: mean over examples of ``|mean over positions of activation * dL/dactivation|``.
        batches: how many batches were seen.
    """

    active: Mapping[str, Tensor]
    taylor: Mapping[str, Tensor]
    batches: int


def units(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_function: LossFunction,
    chains: Sequence[Chain],
) -> Units:
    """Gather :class:`Units` over batches in eval mode; the model's mode is put back, and no ``.grad`` is written.

    Activations are taken where the next layer reads them: after normalization, activation function and pooling.

    Args:
        model: called as ``model(x)``.
        batches: pairs ``(x, y)``; each weighs the same.
        loss_function: called as ``loss_function(model(x), y)``; a mean over the batch.
        chains: from :func:`secateur.chains`.

    Raises:
        SelectionError: ``batches`` is empty.

    Example:
        >>> import secateur as sc
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> x, y = torch.ones(4, 2), torch.zeros(4, 1)
        >>> units(net, [(x, y)], nn.functional.mse_loss, sc.chains(net, x)).active["0.weight"].shape
        torch.Size([3])
    """
    model = unwrap(model)  # compiled code would not call the hooks
    readers = {pair: model.get_submodule(pair.reader.rpartition(".")[0]) for pair in chains}
    read: dict[str, Tensor] = {}
    handles = [reader.register_forward_pre_hook(_watch(read, pair.writer)) for pair, reader in readers.items()]
    active: dict[str, Tensor] = {}
    taylor: dict[str, Tensor] = {}
    count = 0
    try:
        with in_eval_mode(model), torch.enable_grad():
            for x, y in batches:
                loss = loss_function(model(x), y)
                slopes = torch.autograd.grad(loss, [read[pair.writer] for pair in readers]) if readers else ()
                for (pair, reader), slope in zip(readers.items(), slopes, strict=True):
                    axis = 1 if isinstance(reader, _ConvNd) else -1
                    alive, effect = _by_unit(read[pair.writer].detach(), slope * len(x), axis, pair.width)
                    active[pair.writer] = active.get(pair.writer, 0) + alive
                    taylor[pair.writer] = taylor.get(pair.writer, 0) + effect
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise SelectionError("no batch was seen: the statistics need at least one")
    return Units({n: t / count for n, t in active.items()}, {n: t / count for n, t in taylor.items()}, count)


def _watch(read: dict[str, Tensor], writer: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def watch(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        read[writer] = inputs[0] if inputs[0].requires_grad else inputs[0].requires_grad_()
        return (read[writer], *inputs[1:])

    return watch


def _by_unit(x: Tensor, slope: Tensor, axis: int, width: int) -> tuple[Tensor, Tensor]:
    """Return for every unit its share of non-zero activations, and the mean effect of an example."""
    x_BUP, slope_BUP = (t.movedim(axis, 1).unflatten(1, (-1, width)).flatten(2) for t in (x, slope))
    return (x_BUP != 0).float().mean((0, 2)), (x_BUP * slope_BUP).mean(2).abs().mean(0)
