"""Normalization: channel by channel a unit keeps its own numbers; over units, they must stay together."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from secateur.graph.flow import Flow, along, spread, vector
from secateur.graph.units import none
from secateur.graph.walk import Rule, Walk, place

__all__ = ["RULES"]


def _by_channel(walk: Walk, node: fx.Node, value: Any) -> Any:
    """BatchNorm, InstanceNorm: one weight, bias, mean and variance for each channel."""
    x, weight, *rest = node.args[:5]
    return _followed(walk, node, value, x, weight, [weight, *rest])


def _prelu(walk: Walk, node: fx.Node, value: Any) -> Any:
    """PReLU: one slope for each channel, or one for all."""
    slope = walk.flow(node.args[1])
    own = [] if slope is None or slope.value.numel() == 1 else [node.args[1]]
    return _followed(walk, node, value, node.args[0], None, own)


def _followed(walk: Walk, node: fx.Node, value: Tensor, x: Any, weight: Any, stored: list[Any]) -> Any:
    flow = walk.flow(x)
    if flow is None or flow.live is None:
        return walk.unknown(node, value)
    dim = min(1, flow.value.ndim - 1)
    units = walk.read(flow, dim)
    for each in stored:
        known = walk.flow(each)
        if known is not None and known.name:
            walk.store(known, 0, "follows", units if units is not None else none(flow.shape[dim]))
        elif known is not None:
            return walk.unknown(node, value, "a norm with computed numbers")
    live = flow.live
    gain = walk.flow(weight)
    if gain is not None:
        # What a zero gain multiplies is a constant.
        live = live & spread(gain.value != 0, dim, value.ndim)
    return Flow(value, flow.labels, live)


def _group_norm(walk: Walk, node: fx.Node, value: Any) -> Any:
    """GroupNorm: a group's channels go together, and there is one group less."""
    flow, count = walk.flow(node.args[0]), node.args[1]
    if flow is None or flow.live is None or not isinstance(count, int):
        return walk.unknown(node, value)
    units = walk.read(flow, 1)
    live = vector(flow.live, 1, flow.shape[1]).view(count, -1).any(1).repeat_interleave(flow.shape[1] // count)
    if units is not None:
        rows = units.view(count, -1)
        if count == 1:
            walk.pin(flow, f"one group of GroupNorm at {place(node)}")
        walk.units.unite(rows, rows[:, :1])
        walk.count(node, rows[:, :1], 0, count, "num_groups")
        walk.count(node, units, 0, len(units), "num_channels")
    for each in node.args[2:4]:
        known = walk.flow(each)
        if known is not None and known.name:
            walk.store(known, 0, "follows", units if units is not None else none(flow.shape[1]))
        elif known is not None:
            return walk.unknown(node, value, "a norm with computed numbers")
    return Flow(value, flow.labels, spread(live, 1, value.ndim))


def _layer_norm(walk: Walk, node: fx.Node, value: Any) -> Any:
    """LayerNorm, RMSNorm: statistics over all units, so none may go."""
    flow = walk.flow(node.args[0])
    if flow is None or flow.live is None:
        return walk.unknown(node, value)
    ndim, shape = flow.value.ndim, node.args[1]
    dims = list(range(ndim - len(shape), ndim))  # type: ignore[arg-type]
    walk.whole(flow, dims, f"normalized over units at {place(node)}")
    live = flow.live
    for dim in dims:
        live = live.any(dim, keepdim=True)
    for each in node.args[2:4]:
        known = walk.flow(each)
        if known is not None and known.name:
            for dim, size in enumerate(known.shape):
                walk.store(known, dim, "follows", _labels_along(flow, dims[dim], size))
    return Flow(value, flow.labels, live)


def _labels_along(flow: Flow, dim: int, size: int) -> Tensor:
    if flow.labels is None or along(flow.labels) != [dim]:
        return none(size)
    return flow.labels.reshape(-1)


RULES: dict[str, Rule] = {
    "batch_norm": _by_channel,
    "instance_norm": _by_channel,
    "prelu": _prelu,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
}
