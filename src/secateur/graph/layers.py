"""Layers with weights: they read units along one axis of a weight and write new ones along another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from secateur.graph.coupling import Axis, Site
from secateur.graph.flow import Flow, spread, vector
from secateur.graph.units import none
from secateur.graph.walk import Rule, Walk, operation, place

__all__ = ["RULES", "WITH_BIAS", "product"]

WITH_BIAS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # a bias may be made for these if they have none


@dataclass(frozen=True)
class _Layer:
    """A weight of two axes of units, between an activation and what it writes."""

    x: Flow
    weight: Flow
    bias: Any
    dim: int  # of the activations, in and out
    in_dim: int
    out_dim: int
    groups: int
    padded: bool

    def matrix(self) -> Tensor:
        """Return the weight as (G, O / G, I / G, kernel)."""
        w = self.weight.value.movedim((self.out_dim, self.in_dim), (0, 1))
        outs, ins = w.shape[:2]
        if self.out_dim == 0:
            whole: Tensor = w.reshape(self.groups, outs // self.groups, ins, -1)
            return whole
        stacked: Tensor = w.reshape(outs, self.groups, ins // self.groups, -1)
        return stacked.transpose(0, 1)


def _linear(walk: Walk, node: fx.Node, value: Any) -> Any:
    return _layer(walk, node, value, _named(node, "x weight bias"))


def _addmm(walk: Walk, node: fx.Node, value: Any) -> Any:
    if node.kwargs:
        return walk.unknown(node, value)
    return _layer(walk, node, value, _named(node, "bias x weight"), axes=(0, 1))


def product(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Follow an activation times a matrix of the model."""
    return _layer(walk, node, value, _named(node, "x weight"), axes=(0, 1))


def _convolution(walk: Walk, node: fx.Node, value: Any) -> Any:
    named = _named(node, "x weight bias stride padding dilation groups")
    padding = named.get("padding", 0)
    padded = padding != "valid" if isinstance(padding, str) else any(_numbers(padding))
    return _layer(walk, node, value, named, padded=padded)


def _transposed(walk: Walk, node: fx.Node, value: Any) -> Any:
    # A transposed convolution of a constant differs from place to place, as zero padding makes it.
    named = _named(node, "x weight bias stride padding output_padding groups dilation")
    return _layer(walk, node, value, named, axes=(0, 1), padded=True)


def _named(node: fx.Node, names: str) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    called = {"input": "x", "self": "x"}
    return dict(zip(names.split(), node.args, strict=False)) | {called.get(k, k): v for k, v in node.kwargs.items()}


def _layer(
    walk: Walk,
    node: fx.Node,
    value: Any,
    named: dict[str, Any],
    axes: tuple[int, int] = (1, 0),
    padded: bool = False,
) -> Any:
    """Follow a layer; ``axes`` are those of the weight that run over inputs and over outputs."""
    x, weight, bias = walk.flow(named["x"]), walk.flow(named["weight"]), named.get("bias")
    if x is None or weight is None or x.name:
        return walk.unknown(node, value)
    if not weight.name or (bias is not None and not _stored(walk, bias)):
        return walk.unknown(node, value, f"{operation(node)} with a weight that is computed")
    kernel = weight.value.ndim - 2 if "conv" in operation(node) else 0
    layer = _Layer(x, weight, bias, x.value.ndim - kernel - 1, *axes, int(named.get("groups", 1)), padded)
    # A forward convolution uses each weight once per output position, a transposed one per input position.
    seen = layer.x.value if "transpose" in operation(node) else value
    positions = seen.numel() // max(1, seen.shape[layer.dim])
    walk.positions[weight.name] = walk.positions.get(weight.name, 0) + positions
    reads = walk.read(layer.x, layer.dim)
    assert layer.x.live is not None
    live = vector(layer.x.live, layer.dim, layer.x.shape[layer.dim])
    if layer.groups > 1 and layer.matrix().shape[2] == 1 and reads is not None:
        return _depthwise(walk, layer, reads, live, value)
    if layer.groups > 1 and layer.out_dim == 1:
        return walk.unknown(node, value, "grouped transposed convolution")
    _store_reads(walk, layer, reads)
    walk.sites.append(_site(walk, node, layer, live, named["weight"]))
    return _written(walk, layer, live, value)


def _stored(walk: Walk, node: Any) -> bool:
    """Say if an argument is a parameter or buffer itself."""
    flow = walk.flow(node)
    return flow is not None and bool(flow.name)


def _depthwise(walk: Walk, layer: _Layer, reads: Tensor, live: Tensor, value: Tensor) -> Flow:
    """The filters of an input go with it."""
    matrix = layer.matrix()
    each = matrix.shape[1]
    outputs = reads.repeat_interleave(each)
    # The axis of all channels is the first in either layout; where it holds outputs, each input has several.
    walk.store(layer.weight.name, 0, "follows", outputs if layer.out_dim == 0 else reads)
    if layer.out_dim == 1:
        walk.store(layer.weight.name, 1, "follows", none(each))
    _store_bias(walk, layer, outputs)
    rows = (live[:, None] & (matrix != 0).flatten(2).any(-1)).flatten()
    return Flow(value, spread(outputs, layer.dim, value.ndim), spread(rows, layer.dim, value.ndim))


def _store_reads(walk: Walk, layer: _Layer, reads: Tensor | None) -> None:
    ins = layer.matrix().shape[2]
    if reads is None:
        reads = none(layer.groups * ins)
    if layer.groups > 1:  # what is left must be as much in every group
        columns = reads.view(layer.groups, ins)
        walk.units.unite(columns, columns[:1], layer.weight.name)
        reads = columns[0]
    walk.store(layer.weight.name, layer.in_dim, "reads", reads)


def _store_bias(walk: Walk, layer: _Layer, outputs: Tensor) -> None:
    bias = walk.flow(layer.bias)
    if bias is not None and bias.name:
        if bias.value.ndim == 1:
            walk.store(bias.name, 0, "follows", outputs)
        else:
            walk.units.pin(outputs.tolist(), "a bias of several axes")


def _written(walk: Walk, layer: _Layer, live: Tensor, value: Tensor) -> Flow:
    """Label what a layer writes with new units."""
    matrix = layer.matrix()
    outputs = walk.units.new(matrix.shape[0] * matrix.shape[1])
    if layer.groups > 1:
        rows = outputs.view(layer.groups, -1)
        walk.units.unite(rows, rows[:1])
    walk.store(layer.weight.name, layer.out_dim, "writes", outputs)
    _store_bias(walk, layer, outputs)
    used = (matrix != 0).any(-1) & live.view(layer.groups, 1, -1)
    dim, ndim = layer.dim, value.ndim
    return Flow(value, spread(outputs, dim, ndim), spread(used.any(-1).flatten(), dim, ndim))


def _site(walk: Walk, node: fx.Node, layer: _Layer, live: Tensor, weight: fx.Node) -> Site:
    """Note what is read here: what is constant, its value, and where that could be moved to."""
    constant = torch.full(live.shape, torch.nan, dtype=torch.float64)
    still = (~live).nonzero().flatten()
    if len(still) and layer.x.value.numel():
        rows = layer.x.value.index_select(layer.dim, still).movedim(layer.dim, 0).flatten(1)
        same = (rows == rows[:, :1]).all(1)
        constant[still[same]] = rows[same, 0].double()
    return Site(
        place(node),
        Axis(layer.weight.name, layer.in_dim, "reads"),
        Axis(layer.weight.name, layer.out_dim, "writes"),
        layer.groups,
        live.reshape(layer.groups, -1),
        constant.reshape(layer.groups, -1),
        not layer.padded,
        _fold(walk, node, layer, weight),
    )


def _fold(walk: Walk, node: fx.Node, layer: _Layer, weight: fx.Node) -> str:
    """Return the tensor that constants can be moved into: a bias, the running mean behind, or a bias to be made."""
    if (bias := walk.flow(layer.bias)) is not None:
        return bias.name if bias.value.ndim == 1 and _used_once(layer.bias) else ""
    users = list(node.users)
    if len(users) == 1 and operation(users[0]) == "batch_norm" and users[0].args[0] is node:
        mean: Any = users[0].args[3]
        found = walk.flow(mean)
        return found.name if found is not None and found.name and _used_once(mean) and not users[0].args[5] else ""
    path, _, leaf = layer.weight.name.rpartition(".")
    owner = walk.model.get_submodule(path)
    plain = type(owner) in WITH_BIAS and leaf == "weight" and _used_once(weight)
    return f"{path}.bias".lstrip(".") if plain and owner.bias is None and not owner._forward_hooks else ""


def _used_once(node: fx.Node) -> bool:
    return len(node.users) == 1


def _numbers(padding: Any) -> list[int]:
    return [int(each) for each in padding] if isinstance(padding, list | tuple) else [int(padding)]


def _embedding(walk: Walk, node: fx.Node, value: Any) -> Any:
    table, entries = walk.flow(node.args[0]), walk.flow(node.args[1])
    if table is None or entries is None or not table.name:
        return walk.unknown(node, value)
    outputs = walk.units.new(table.shape[1])
    walk.store(table.name, 0, "looks up", none(table.shape[0]))
    walk.store(table.name, 1, "writes", outputs)
    live = (table.value != 0).any(0)
    return Flow(value, spread(outputs, -1, value.ndim), spread(live, -1, value.ndim))


RULES: dict[str, Rule] = {
    "linear": _linear,
    "addmm": _addmm,
    "mm": product,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "conv_transpose1d": _transposed,
    "conv_transpose2d": _transposed,
    "conv_transpose3d": _transposed,
    "embedding": _embedding,
}
