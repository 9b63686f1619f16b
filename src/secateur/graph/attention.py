"""Products of activations: what is contracted goes whole, so that heads are the units of attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from secateur.graph.flow import Flow, along, laid
from secateur.graph.layers import product
from secateur.graph.walk import Rule, Walk, operation, place

__all__ = ["RULES"]


def _matmul(walk: Walk, node: fx.Node, value: Any) -> Any:
    x, y = walk.flow(node.args[0]), walk.flow(node.args[1])
    if x is None or y is None or x.live is None or y.live is None:
        return walk.unknown(node, value)
    if y.name and y.value.ndim == 2 and not x.name:
        return product(walk, node, value)
    if x.name or y.name or min(x.value.ndim, y.value.ndim) < 2 or not value.ndim:
        return walk.unknown(node, value)
    reason = f"{operation(node)} over units at {place(node)}"
    walk.whole(x, [-1], reason)
    walk.whole(y, [-2], reason)
    zero = (~y.live & (y.value == 0)).all(-2, keepdim=True)
    live = laid(x.live.any(-1, keepdim=True), value.ndim) | laid(y.live.any(-2, keepdim=True), value.ndim)
    if bool(zero.any()) and y.value.ndim == value.ndim:
        for dim in range(value.ndim - 2):
            zero = zero.all(dim, keepdim=True) if y.live.shape[dim] == 1 else zero
        live = live & ~zero
    return Flow(value, _product_labels(walk, [(x, -1), (y, -2)], node, value), live)


def _attention(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Scaled dot product: the width of a head sets its scale, so heads go whole, queries, keys and values."""
    flows = [walk.flow(each) for each in node.args[:3]]
    if any(flow is None or flow.live is None or flow.name for flow in flows):
        return walk.unknown(node, value)
    known = [flow for flow in flows if flow is not None]
    reason = f"the width of a head at {place(node)}"
    for flow in known[:2]:
        walk.whole(flow, [-1, -2], reason)
    walk.whole(known[2], [-2], reason)
    heads = known[0].shape[-3] if value.ndim > 2 else 1
    for flow in known[1:]:
        if flow.value.ndim > 2 and flow.shape[-3] != heads and flow.labels is not None and flow.labels.shape[-3] > 1:
            flow.labels = flow.labels.repeat_interleave(heads // flow.shape[-3], dim=-3)
    values = known[2]
    assert values.live is not None
    live = values.live.any(-2, keepdim=True)
    if live.ndim > 2 and live.shape[-3] not in (1, heads):
        live = live.repeat_interleave(heads // live.shape[-3], dim=-3)
    mask = walk.flow(node.args[3]) if len(node.args) > 3 else None
    if mask is not None:
        _beside(walk, [*known, mask], node)
    return Flow(value, _product_labels(walk, [(flow, -2) for flow in known], node, value), live)


def _product_labels(walk: Walk, operands: list[tuple[Flow, int]], node: fx.Node, value: Tensor) -> Tensor | None:
    """Unite the units of operands along the axes they share; one contracted axis of each is gone."""
    batch = value.ndim - 2
    _beside(walk, [flow for flow, _ in operands], node)
    parts = []
    for flow, gone in operands:
        if flow.labels is None:
            continue
        if not along(flow.labels) or along(flow.labels) == [flow.labels.ndim + gone]:
            walk.pin(flow, f"one unit in a product at {place(node)}")
            continue
        labels = flow.labels.narrow(gone, 0, 1) if flow.labels.shape[gone] > 1 else flow.labels
        parts.append(laid(labels, value.ndim))
    if not parts:
        return None
    over_heads = [labels for labels in parts if any(dim < batch for dim in along(labels))]
    if over_heads and len(parts) > 1:
        for labels in parts:
            walk.units.unite(labels, labels.amin((-2, -1), keepdim=True))
        parts = [labels.amin((-2, -1), keepdim=True) for labels in parts]
    for other in parts[1:]:
        walk.units.unite(parts[0], other, place(node))
    return max(parts, key=Tensor.numel)


def _beside(walk: Walk, operands: list[Flow], node: fx.Node) -> None:
    """Units along an axis that another operand has too, without units, must stay."""
    for other in operands:
        if other.labels is not None:
            continue
        shared = [dim - other.value.ndim for dim in range(other.value.ndim - 2) if other.shape[dim] > 1]
        for flow in operands:
            dims = [dim for dim in shared if -dim <= flow.value.ndim]
            walk.whole(flow, dims, f"{operation(node)} with what belongs to no unit at {place(node)}")


RULES: dict[str, Rule] = {
    "matmul": _matmul,
    "bmm": _matmul,
    "scaled_dot_product_attention": _attention,
}
