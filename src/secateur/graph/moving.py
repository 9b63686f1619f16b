"""Operations that only move elements: they are run on labels as they are on values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph.flow import Flow, along, compressed
from secateur.graph.places import moved
from secateur.graph.units import NONE
from secateur.graph.walk import Rule, Walk, operation, place

__all__ = ["RULES"]


def _reshape(walk: Walk, node: fx.Node, value: Any) -> Any:
    """View, reshape, flatten: units stay a rectangle, which the code may count."""
    flow = walk.flow(node.args[0])
    if flow is None:
        return walk.unknown(node, value)
    live = _live(flow, lambda full: full.reshape(value.shape))
    if flow.labels is None:
        places = moved(flow, lambda full: full.reshape(value.shape)) if flow.name else ()
        return Flow(value, None, live, flow.name, places)
    walk.even(flow, along(flow.labels)[1:])
    labels = compressed(flow.labels.expand(flow.shape).reshape(value.shape))
    for dim in along(labels):
        walk.count(node, labels, dim, value.shape[dim])
    return Flow(value, labels, live)


def _moved(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Permute, expand, flip, pad, ...: the same call, on labels."""
    flow = walk.flow(node.args[0])
    if flow is None:
        return walk.unknown(node, value)

    def again(tensor: Tensor) -> Any:
        rest = fx.map_arg((node.args[1:], node.kwargs), lambda each: walk.flows[each].value)
        return node.target(tensor, *rest[0], **rest[1])  # type: ignore[operator]

    live = _live(flow, again)
    if flow.labels is None:
        return Flow(value, None, live, flow.name, moved(flow, again) if flow.name else ())
    labels = compressed(again(flow.labels.expand(flow.shape)))
    if operation(node) in ("expand", "repeat"):
        for dim in along(labels):
            walk.count(node, labels, dim, value.shape[dim])
    return Flow(value, labels, live)


def _taken(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Slice, narrow, index_select: fixed places of an axis, so that no unit along it may go."""
    flow = walk.flow(node.args[0])
    if flow is None:
        return walk.unknown(node, value)
    dim = _dim(node) % max(1, flow.value.ndim)
    if value.shape != flow.shape:
        walk.whole(flow, [dim], f"cut at fixed places at {place(node)}")
    return _moved(walk, node, value)


def _selected(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Select, unbind: what lies along the axis is taken apart, so all of it goes or none."""
    flow = walk.flow(node.args[0])
    if flow is None:
        return walk.unknown(node, value)
    walk.whole(flow, [_dim(node)], f"taken apart at {place(node)}")
    return _parts(walk, node, value)


def _split(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Chunk, split: parts of equal size stay of equal size."""
    flow = walk.flow(node.args[0])
    if flow is None:
        return walk.unknown(node, value)
    dim = _dim(node) % flow.value.ndim
    if flow.labels is not None and flow.labels.shape[dim] > 1:
        sizes = {part.shape[dim] for part in value}
        if len(sizes) > 1:
            walk.whole(flow, [dim], f"split into unequal parts at {place(node)}")
        else:
            parts = flow.labels.split(sizes.pop(), dim)
            for part in parts[1:]:
                walk.units.unite(parts[0], part)
            walk.count(node, parts[0], dim, parts[0].shape[dim])
    return _parts(walk, node, value)


def _parts(walk: Walk, node: fx.Node, value: Any) -> Any:
    if isinstance(value, Tensor):
        return _moved(walk, node, value)
    flow = walk.flow(node.args[0])
    assert flow is not None
    rest = fx.map_arg((node.args[1:], node.kwargs), lambda each: walk.flows[each].value)

    def again(tensor: Tensor) -> Any:
        return node.target(tensor.expand(flow.shape), *rest[0], **rest[1])  # type: ignore[operator]

    labels = [None] * len(value) if flow.labels is None else [compressed(part) for part in again(flow.labels)]
    assert flow.live is not None
    lives = [compressed(part) for part in again(flow.live)]
    return [Flow(*each) for each in zip(value, labels, lives, strict=True)]


def _joined(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Cat, stack: labels are put together; what brings none keeps its places."""
    flows = [walk.flow(each) for each in node.args[0]]  # type: ignore[union-attr]
    if any(flow is None for flow in flows):
        return walk.unknown(node, value)
    known = [flow for flow in flows if flow is not None]

    def together(parts: list[Tensor]) -> Tensor:
        return compressed(node.target(parts, *node.args[1:], **node.kwargs))  # type: ignore[operator]

    live = together([flow.live.expand(flow.shape) for flow in known if flow.live is not None])
    if all(flow.labels is None for flow in known):
        return Flow(value, live=live)
    nothing = torch.tensor(NONE)
    labels = together([(nothing if f.labels is None else f.labels).expand(f.shape) for f in known])
    return Flow(value, labels, live)


def _padded(walk: Walk, node: fx.Node, value: Any) -> Any:
    """Constant padding: it belongs to no unit where units lie, and is a constant elsewhere."""
    flow = walk.flow(node.args[0])
    padding = node.args[1]
    plain_names = {"constant_pad_nd": "constant", "pad": node.args[2] if len(node.args) > 2 else "constant"}
    constant = plain_names.get(operation(node)) == "constant"
    if flow is None or flow.live is None or flow.value.ndim == 0 or not isinstance(padding, list | tuple):
        return walk.unknown(node, value)
    padded = {flow.value.ndim - 1 - index // 2 for index, size in enumerate(padding) if size}
    over_units = set() if flow.labels is None else padded & set(along(flow.labels))
    if over_units and not constant:
        return walk.unknown(node, value, "padding over units")
    wide = {dim: value.shape[dim] for dim in over_units}

    def again(tensor: Tensor, fill: int) -> Tensor:
        sizes = [flow.shape[d] if d in wide else tensor.shape[d] for d in range(tensor.ndim)]
        kept = [size if flow.value.ndim - 1 - i // 2 in wide else 0 for i, size in enumerate(padding)]
        out: Tensor = torch.nn.functional.pad(tensor.expand(sizes).to(torch.int64), kept, value=fill)
        return out

    live = flow.live
    for dim in padded - over_units:
        live = live.any(dim, keepdim=True)
    live = again(live, 0).bool()
    return Flow(value, None if flow.labels is None else again(flow.labels, NONE), live)


def _live(flow: Flow, again: Callable[[Tensor], Tensor]) -> Tensor:
    assert flow.live is not None
    return compressed(again(flow.live.expand(flow.shape)))


def _dim(node: fx.Node) -> int:
    name = operation(node)
    given = node.kwargs.get("dim")
    if given is None:
        place_of_dim = 2 if name in ("split", "split_with_sizes", "chunk", "tensor_split") else 1
        given = node.args[place_of_dim] if len(node.args) > place_of_dim else 0
    return int(given)  # type: ignore[arg-type]


# fmt: off
RULES: dict[str, Rule] = (
    dict.fromkeys(["view", "reshape", "flatten", "unflatten", "_unsafe_view", "ravel", "view_as", "reshape_as"],
                  _reshape)
    | dict.fromkeys(["permute", "transpose", "t", "squeeze", "unsqueeze", "expand", "expand_as", "repeat", "flip",
                     "roll", "movedim", "swapaxes", "swapdims", "numpy_T", "mT", "adjoint", "repeat_interleave"],
                    _moved)
    | dict.fromkeys(["slice", "narrow", "index_select"], _taken)
    | dict.fromkeys(["select", "unbind"], _selected)
    | dict.fromkeys(["chunk", "split", "split_with_sizes", "tensor_split"], _split)
    | dict.fromkeys(["cat", "concat", "concatenate", "stack"], _joined)
    | dict.fromkeys(["pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d",
                     "replication_pad2d"], _padded)
)
