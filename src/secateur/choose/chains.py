"""Which layer alone reads the units of another: what neuron pruning and the search for dead neurons need to know.

A pair is proposed by the order in which layers run and then proved on the model itself: a unit of the writer is
disturbed, and only its own columns of the reader's input may move; with the reader's input held, nothing may.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from secateur.choose.targets import bias_of
from secateur.masks import Masks, unwrap

__all__ = ["Chain", "Dead", "chains", "drop_dead"]


@dataclass(frozen=True)
class Chain:
    """A layer whose output units one other layer alone reads.

    Attributes:
        writer: name of the weight with one row for each unit.
        reader: name of the weight whose columns read them.
        width: neighbouring columns of the reader for each unit (a flattened channel has one for each pixel).
    """

    writer: str
    reader: str
    width: int


@dataclass(frozen=True)
class Dead:
    """What was found without inputs or without outputs, and the connections that went with it."""

    neurons: int
    connections: int


def chains(model: nn.Module, example: Tensor) -> list[Chain]:
    """Return every pair of Linear or Conv layers of which the second alone reads the first, in order.

    Found: consecutive layers with normalization, activation, pooling, dropout and flattening between them. Left out,
    because several layers read their units or units are shared: residual streams, concatenations, grouped
    convolutions, layers that run twice.

    Args:
        model: runs in eval mode on ``example``; its own mode is put back.
        example: a batch of inputs.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 2))
        >>> chains(net, torch.randn(2, 1, 4, 4))
        [Chain(writer='0.weight', reader='3.weight', width=4)]
    """
    model = unwrap(model)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _Prober(model, example).pairs()
    finally:
        model.train(training)


def drop_dead(masks: Masks, pairs: list[Chain]) -> tuple[Masks, Dead]:
    """Mask what is left of neurons that have lost all inputs or all outputs, until no more such are found.

    A neuron without outputs goes without a trace. One without inputs still gives a constant through its bias; its
    outputs are dropped all the same, as retraining makes up for it, so call this before retraining.

    Source: Han et al. 2015, "Learning both Weights and Connections" (arXiv 1506.02626), section 3.5.

    Args:
        masks: those of the model's targets; pairs with a layer that has none are passed over.
        pairs: from :func:`chains`.

    Returns:
        The smaller masks, and how many neurons are dead (those without connections already counted too) and how
        many connections were dropped here.

    Example:
        >>> masks = Masks({"a": torch.tensor([[True], [False]]), "b": torch.tensor([[True, True]])})
        >>> after, dead = drop_dead(masks, [Chain("a", "b", 1)])
        >>> after["b"].tolist(), dead
        ([[True, False]], Dead(neurons=1, connections=1))
    """
    after = {name: mask.clone() for name, mask in masks.items()}
    pairs = [pair for pair in pairs if pair.writer in after and pair.reader in after]
    before = masks.count().kept
    while True:
        kept = sum(int(mask.sum()) for mask in after.values())
        dead = sum(_drop_in(after, pair) for pair in pairs)
        if sum(int(mask.sum()) for mask in after.values()) == kept:
            return Masks(after, masks.targets), Dead(dead, before - kept)


def _drop_in(masks: dict[str, Tensor], pair: Chain) -> int:
    """Mask both sides of the dead units between two layers, in place; return how many are dead."""
    rows, columns = masks[pair.writer].flatten(1), columns_by_unit(masks[pair.reader], pair)
    dead = ~rows.any(1) | ~columns.flatten(1).any(1)
    rows[dead] = False
    columns[dead] = False
    bias = bias_of(pair.writer)
    if bias in masks:
        masks[bias][dead] = False
    return int(dead.sum())


def columns_by_unit(tensor: Tensor, pair: Chain) -> Tensor:
    """Return a view of a reader's weight or mask as (units, columns of each, out, kernel...)."""
    columns: Tensor = tensor.unflatten(1, (-1, pair.width)).movedim(0, 2)
    return columns


class _Prober:
    """Runs a model with one layer's output disturbed or another's input held."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model, self._example = model, example
        self._layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | _ConvNd)
            and not isinstance(module, _ConvTransposeNd)
            and getattr(module, "groups", 1) == 1
        }
        self._inputs: dict[str, Tensor] = {}
        self._order: list[str] = []
        self._output = self._run(record=True)

    def pairs(self) -> list[Chain]:
        found = []
        once = [name for name in self._order if self._order.count(name) == 1]
        for writer, reader in itertools.pairwise(once):
            width = self._width(writer, reader)
            if width and self._proved(writer, reader, width):
                found.append(Chain(f"{writer}.weight", f"{reader}.weight", width))
        return found

    def _width(self, writer: str, reader: str) -> int:
        units, columns = self._layers[writer].weight.shape[0], self._layers[reader].weight.shape[1]
        return columns // units if columns % units == 0 else 0

    def _proved(self, writer: str, reader: str, width: int) -> bool:
        units = self._layers[writer].weight.shape[0]
        axis = 1 if isinstance(self._layers[reader], _ConvNd) else -1
        for unit in {0, units // 2, units - 1}:
            seen: dict[str, Tensor] = {}
            self._run(disturb=(writer, unit), seen=(reader, seen))
            moved = (seen["x"] != self._inputs[reader]).movedim(axis, 0).flatten(1).any(1)
            moved[unit * width : (unit + 1) * width] = False
            if bool(moved.any()):
                return False
        held = self._run(disturb=(writer, None), hold=reader)
        return isinstance(held, Tensor) and torch.equal(held, self._output)

    def _run(
        self,
        record: bool = False,
        disturb: tuple[str, int | None] | None = None,
        seen: tuple[str, dict[str, Tensor]] | None = None,
        hold: str | None = None,
    ) -> Any:
        handles = []
        if record:
            for name, layer in self._layers.items():
                handles.append(layer.register_forward_pre_hook(self._recorder(name)))
        if disturb:
            layer, unit = self._layers[disturb[0]], disturb[1]
            axis = 1 if isinstance(layer, _ConvNd) else -1
            handles.append(layer.register_forward_hook(lambda _m, _i, y: _disturbed(y, axis, unit)))
        if seen:
            name, store = seen
            handles.append(self._layers[name].register_forward_pre_hook(lambda _m, i: store.update(x=i[0].clone())))
        if hold:
            handles.append(self._layers[hold].register_forward_pre_hook(lambda _m, _i: (self._inputs[hold],)))
        try:
            return self._model(self._example)
        finally:
            for handle in handles:
                handle.remove()

    def _recorder(self, name: str):  # type: ignore[no-untyped-def]
        def record(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._order.append(name)
            self._inputs[name] = inputs[0].clone()

        return record


def _disturbed(output: Tensor, axis: int, unit: int | None) -> Tensor:
    output = output.clone()
    # Large and of one sign, so that it passes a ReLU and wins a pooling window.
    (output if unit is None else output.select(axis, unit)).abs_().add_(100.0)
    return output


def unit_mask(masks: Mapping[str, Tensor], pair: Chain) -> Tensor:
    """Return which units of a writer still have an input and an output."""
    return masks[pair.writer].flatten(1).any(1) & columns_by_unit(masks[pair.reader], pair).flatten(1).any(1)
