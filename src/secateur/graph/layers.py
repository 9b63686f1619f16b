"""Layers with weights: they read units along one axis of a weight and write new ones along another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph.coupling import Axis, Site
from secateur.graph.flow import Flow, spread, vector
from secateur.graph.folding import fold_of
from secateur.graph.places import own_axis
from secateur.graph.units import none
from secateur.graph.walk import Rule, Walk, operation, place

__all__ = ["RULES", "Layer", "product", "site_of", "store_reads"]


@dataclass(frozen=True)
class Layer:
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
        kernel = math.prod(w.shape[2:])
        if self.out_dim == 0:
            whole: Tensor = w.reshape(self.groups, outs // self.groups, ins, kernel)
            return whole
        stacked: Tensor = w.reshape(outs, self.groups, ins // self.groups, kernel)
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
    layer = Layer(x, weight, bias, x.value.ndim - kernel - 1, *axes, int(named.get("groups", 1)), padded)
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
    site = site_of(walk, node, layer, live, named["weight"])
    if site is None:
        return walk.unknown(node, value, f"{operation(node)} with a weight whose axes are rearranged")
    walk.sites.append(site)
    store_reads(walk, layer, reads)
    return _written(walk, layer, live, value)


def _stored(walk: Walk, node: Any) -> bool:
    """Say if an argument is a parameter or buffer itself."""
    flow = walk.flow(node)
    return flow is not None and bool(flow.name)


def _depthwise(walk: Walk, layer: Layer, reads: Tensor, live: Tensor, value: Tensor) -> Flow:
    """The filters of an input go with it."""
    matrix = layer.matrix()
    each = matrix.shape[1]
    outputs = reads.repeat_interleave(each)
    # The axis of all channels is the first in either layout; where it holds outputs, each input has several.
    walk.store(layer.weight, 0, "follows", outputs if layer.out_dim == 0 else reads)
    if layer.out_dim == 1:
        walk.store(layer.weight, 1, "follows", none(each))
    _store_bias(walk, layer, outputs)
    rows = (live[:, None] & (matrix != 0).flatten(2).any(-1)).flatten()
    return Flow(value, spread(outputs, layer.dim, value.ndim), spread(rows, layer.dim, value.ndim))


def store_reads(walk: Walk, layer: Layer, reads: Tensor | None) -> None:
    """Note which units a weight reads; None where it reads none."""
    ins = layer.matrix().shape[2]
    if reads is None:
        reads = none(layer.groups * ins)
    if layer.groups > 1:  # what is left must be as much in every group
        columns = reads.view(layer.groups, ins)
        walk.units.unite(columns, columns[:1], layer.weight.name)
        reads = columns[0]
    walk.store(layer.weight, layer.in_dim, "reads", reads)


def _store_bias(walk: Walk, layer: Layer, outputs: Tensor) -> None:
    bias = walk.flow(layer.bias)
    if bias is not None and bias.name:
        if bias.value.ndim == 1:
            walk.store(bias, 0, "follows", outputs)
        else:
            walk.units.pin(outputs.tolist(), "a bias of several axes")


def _written(walk: Walk, layer: Layer, live: Tensor, value: Tensor) -> Flow:
    """Label what a layer writes with new units."""
    matrix = layer.matrix()
    outputs = walk.units.new(matrix.shape[0] * matrix.shape[1])
    if layer.groups > 1:
        rows = outputs.view(layer.groups, -1)
        walk.units.unite(rows, rows[:1])
    walk.store(layer.weight, layer.out_dim, "writes", outputs)
    _store_bias(walk, layer, outputs)
    used = (matrix != 0).any(-1) & live.view(layer.groups, 1, -1)
    dim, ndim = layer.dim, value.ndim
    return Flow(value, spread(outputs, dim, ndim), spread(used.any(-1).flatten(), dim, ndim))


def site_of(walk: Walk, node: fx.Node, layer: Layer, live: Tensor, weight: fx.Node) -> Site | None:
    """Note what is read here: what is constant, its value, and where that could be moved to."""
    ins, outs = (own_axis(layer.weight, dim) for dim in (layer.in_dim, layer.out_dim))
    if ins is None or outs is None:
        return None
    constant = torch.full(live.shape, torch.nan, dtype=torch.float64)
    still = (~live).nonzero().flatten()
    if len(still) and layer.x.value.numel():
        rows = layer.x.value.index_select(layer.dim, still).movedim(layer.dim, 0).flatten(1)
        same = (rows == rows[:, :1]).all(1)
        constant[still[same]] = rows[same, 0].double()
    return Site(
        place(node),
        Axis(layer.weight.name, ins, "reads"),
        Axis(layer.weight.name, outs, "writes"),
        layer.groups,
        live.reshape(layer.groups, -1),
        constant.reshape(layer.groups, -1),
        not layer.padded,
        *fold_of(walk, node, layer.bias, weight),
    )


def _numbers(padding: Any) -> list[int]:
    return [int(each) for each in padding] if isinstance(padding, list | tuple) else [int(padding)]


def _embedding(walk: Walk, node: fx.Node, value: Any) -> Any:
    table, entries = walk.flow(node.args[0]), walk.flow(node.args[1])
    if table is None or entries is None or not table.name:
        return walk.unknown(node, value)
    outputs = walk.units.new(table.shape[1])
    walk.store(table, 0, "looks up", none(table.shape[0]))
    walk.store(table, 1, "writes", outputs)
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
