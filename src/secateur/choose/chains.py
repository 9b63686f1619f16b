"""Which layer alone reads the units of another: what neuron pruning and the search for dead neurons need to know.

A pair is proposed by the order in which layers run and then proved on the model itself: a unit of the writer is
disturbed, and only its own columns of the reader's input may move; with the reader's input held, nothing may. With the
writer's output held, nothing else may move the reader's input.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from secateur.choose.targets import bias_of
from secateur.masks import Masks
from secateur.modules import in_eval_mode, unwrap
from secateur.vocabulary import SelectionError

__all__ = ["Chain", "Dead", "chains", "drop_dead"]

Change: TypeAlias = Callable[[Tensor], Tensor]


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

    Raises:
        SelectionError: the example is empty.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 2))
        >>> chains(net, torch.randn(2, 1, 4, 4))
        [Chain(writer='0.weight', reader='3.weight', width=4)]
    """
    if not example.numel():
        raise SelectionError("chains are seen in what an example brings to the layers, and this one is empty")
    model = unwrap(model)
    with in_eval_mode(model), torch.no_grad():
        return _Prober(model, example).pairs()


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
    masks[pair.writer][dead] = False  # not rows, which are a copy where the mask is not contiguous
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
        self._layers = {n: module for n, module in model.named_modules() if isinstance(module, nn.Linear | _ConvNd)}
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._order: list[str] = []
        self._output = self._run(example, {}, record=True)

    def pairs(self) -> list[Chain]:
        found = []
        fit = self._fit()
        for writer, reader in itertools.pairwise(self._order):
            if not {writer, reader} <= fit:
                continue
            width = self._width(writer, reader)
            if width and self._proved(writer, reader, width):
                found.append(Chain(f"{writer}.weight", f"{reader}.weight", width))
        return found

    def _fit(self) -> set[str]:
        """Return the layers that run once, share their weight with no other, and read and write all their units."""
        owners = Counter(id(p) for module in self._model.modules() for p in module._parameters.values())
        runs = Counter(self._order)
        return {
            name
            for name, layer in self._layers.items()
            if runs[name] == 1
            and not isinstance(layer, _ConvTransposeNd)
            and getattr(layer, "groups", 1) == 1
            # A weight that is computed from others, as by a parametrization, is none of the module's parameters.
            and ("weight" not in layer._parameters or owners[id(layer.weight)] == 1)
        }

    def _width(self, writer: str, reader: str) -> int:
        units, columns = self._layers[writer].weight.shape[0], self._layers[reader].weight.shape[1]
        return columns // units if units and columns % units == 0 else 0

    def _proved(self, writer: str, reader: str, width: int) -> bool:
        units = self._layers[writer].weight.shape[0]
        axis = _axis(self._layers[reader])
        for unit in {0, min(1, units - 1), units // 2, units - 1}:
            seen = self._seen(reader, self._example, {writer: self._disturbance(writer, unit)})
            moved = (seen != self._inputs[reader]).movedim(axis, 0).flatten(1).any(1)
            moved[unit * width : (unit + 1) * width] = False
            if bool(moved.any()):
                return False
        rest: dict[str, Change] = {name: self._disturbance(name) for name in self._layers}
        seen = self._seen(reader, _other(self._example), rest | {writer: lambda _: self._outputs[writer]})
        if not torch.equal(seen, self._inputs[reader]):
            return False  # what the reader reads is not the writer's alone, as after a residual addition
        held = self._run(self._example, {writer: self._disturbance(writer)}, hold=reader)
        return isinstance(held, Tensor) and torch.equal(held, self._output)

    def _disturbance(self, name: str, unit: int | None = None) -> Change:
        return partial(_disturbed, axis=_axis(self._layers[name]), unit=unit)

    def _seen(self, reader: str, example: Tensor, changes: Mapping[str, Change]) -> Tensor:
        """Return what a layer reads while the outputs of others are changed."""
        seen: dict[str, Tensor] = {}
        watch = self._layers[reader].register_forward_pre_hook(lambda _m, i: seen.update(x=i[0].clone()))
        try:
            self._run(example, changes)
        finally:
            watch.remove()
        return seen["x"]

    def _run(self, example: Tensor, changes: Mapping[str, Change], hold: str = "", record: bool = False) -> Any:
        handles = []
        for name, change in changes.items():
            handles.append(self._layers[name].register_forward_hook(lambda _m, _i, y, change=change: change(y)))
        if record:
            for name, layer in self._layers.items():
                handles.append(layer.register_forward_hook(self._recorder(name)))
        if hold:
            handles.append(self._layers[hold].register_forward_pre_hook(lambda _m, _i: (self._inputs[hold],)))
        try:
            return self._model(example)
        finally:
            for handle in handles:
                handle.remove()

    def _recorder(self, name: str):  # type: ignore[no-untyped-def]
        def record(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self._order.append(name)
            self._inputs[name], self._outputs[name] = inputs[0].clone(), output.clone()

        return record


def _axis(layer: nn.Module) -> int:
    """Return the axis of units in what a layer reads and writes."""
    return 1 if isinstance(layer, _ConvNd) else -1


def _other(example: Tensor) -> Tensor:
    """Return an example of the same kind that differs everywhere, or as far as numbers of classes or words can."""
    if example.is_floating_point():
        ramp = torch.linspace(1, 2, example.numel(), dtype=example.dtype, device=example.device)
        return ramp.view(example.shape) - example
    return example.roll(1, -1)


def _disturbed(output: Tensor, axis: int, unit: int | None) -> Tensor:
    output = output.clone()
    # Large and of one sign, so that it passes a ReLU and wins a pooling window.
    (output if unit is None else output.select(axis, unit)).abs_().add_(100.0)
    return output
