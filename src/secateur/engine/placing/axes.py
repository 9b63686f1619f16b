"""What runs along an axis: sums, softmax, normalization."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.engine.layouts import Layout, Mapped, Plain
from secateur.engine.placing.building import Builder, Step
from secateur.engine.placing.decisions import Decision, Layouts, preferred
from secateur.engine.placing.maps import Buffer, Floats
from secateur.engine.placing.moving import Places, decide_plain, gather
from secateur.engine.plan.values import Op

__all__ = ["decide_along", "emit_adaptive_pool", "emit_group_norm", "emit_norm", "emit_reduce_axes", "emit_softmax"]

_NONE = np.zeros(0, np.float32)
# In the order of the enumeration in native/src/engine/steps.h.
SUM, MAXIMUM, MINIMUM, SOFTMAX, NORMALIZE = range(5)


def decide_along(layouts: Layouts, op: Op) -> Decision:
    """Channels that are the last axis are gone along where they are; all else number after number."""
    home, rank = preferred(layouts, op.inputs[0]), len(layouts.shape(op.inputs[0]))
    axis = op.attributes["axis"] if op.kind == "softmax" else rank - op.attributes["axes"]  # type: ignore[operator]
    if isinstance(home, Mapped) and home.last and axis == rank - 1:
        return Decision((home.bare(),), home.bare())
    return decide_plain(layouts, op)


def _sizes(builder: Builder, shape: tuple[int, ...], layout: Layout, first: int, last: int) -> list[int]:
    """Return the floats before, along and behind the axes from `first` up to `last`."""
    if isinstance(layout, Mapped):
        return [1, layout.channels, layout.channel(builder.target)]
    width = builder.target.lanes if builder.target.batched else 1
    return [math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:]) * width]


@dataclass(frozen=True, eq=False)
class _Along:
    """What is done along an axis: sums times scale; or, of a normalization, epsilon in its place, and what follows."""

    how: int
    scale: float = 1.0
    centred: bool = True
    weight: Floats = field(default_factory=lambda: _NONE)
    bias: Floats = field(default_factory=lambda: _NONE)


def _along(builder: Builder, op: Op, buffers: tuple[Buffer, Buffer], sizes: list[int], what: _Along) -> None:
    (source, target), kernels = buffers, builder.kernels
    total = math.prod(sizes)
    written = total if what.how >= SOFTMAX else sizes[0] * sizes[2]
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.along(
                kernels.Span(source.offset, total),
                kernels.Span(target.offset, written),
                sizes,
                what.how,
                what.scale,
                what.centred,
                what.weight,
                what.bias,
            ),
        ),
        [source],
    )


def emit_softmax(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a softmax along one axis."""
    source = builder.exactly(op.inputs[0], decision.writes)
    axis: Any = op.attributes["axis"]
    sizes = _sizes(builder, builder.plan.values[op.output].shape, decision.writes, axis, axis + 1)
    _along(builder, op, (source, builder.write(op, decision)), sizes, _Along(SOFTMAX))


def emit_norm(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a normalization over the last axes."""
    source = builder.exactly(op.inputs[0], decision.writes)
    shape, attributes = builder.plan.values[op.output].shape, dict[str, Any](op.attributes)
    sizes = _sizes(builder, shape, decision.writes, len(shape) - attributes["axes"], len(shape))
    what = _Along(
        NORMALIZE, attributes["eps"], op.kind == "layer_norm", _flat(builder, op, "weight"), _flat(builder, op, "bias")
    )
    _along(builder, op, (source, builder.write(op, decision)), sizes, what)


def _flat(builder: Builder, op: Op, role: str) -> Floats:
    return builder.numbers(op, role).reshape(-1) if role in op.constants else _NONE


def emit_group_norm(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a normalization of groups of channels, then a weight and bias for each channel."""
    shape, attributes = builder.plan.values[op.output].shape, dict[str, Any](op.attributes)
    groups = attributes["groups"]
    _, source = builder.read(op.inputs[0], decision.reads[0])
    width = builder.target.lanes if builder.target.batched else 1
    target, sizes = builder.write(op, decision), [groups, math.prod(shape) // groups, width]
    _along(builder, op, (source, target), sizes, _Along(NORMALIZE, attributes["eps"]))
    each = math.prod(shape[1:])
    for role, operation in (("weight", 2), ("bias", 0)):
        numbers = _flat(builder, op, role)
        if numbers.size:
            _with_constant(builder, op, target, np.repeat(numbers, each), operation)


def _with_constant(builder: Builder, op: Op, target: Buffer, numbers: Floats, operation: int) -> None:
    """Add an operation of a plain value with as many constants, in place."""
    line, constant, maps = Plain(numbers.size), builder.constant(numbers), builder.maps
    builder.written(target)
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.combine(
                operation,
                maps.line(line, target),
                maps.line(line, constant),
                maps.line(line, target),
                False,
                builder.kernels.Applied(0, 0.0, 0.0),
                maps.halo(line, target),
            ),
        ),
        [target, constant],
    )


def emit_reduce_axes(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a sum, mean or extreme along any axes."""
    _, source = builder.read(op.inputs[0], decision.reads[0])
    shape, attributes = builder.plan.values[op.inputs[0]].shape, dict[str, Any](op.attributes)
    axes = attributes["axes"]
    how = {"mean": SUM, "sum": SUM, "max": MAXIMUM, "min": MINIMUM}[attributes["how"]]
    if axes and axes != tuple(range(axes[0], axes[-1] + 1)):
        # Axes with others between them are brought together first.
        order = [axis for axis in range(len(shape)) if axis not in axes] + list(axes)
        places = np.arange(math.prod(shape)).reshape(shape).transpose(order)
        together = builder.buffer(Plain(math.prod(shape)).floats(builder.target))
        gather(builder, None, source, together, places, 0.0)
        source, shape = together, tuple(shape[axis] for axis in order)
        axes = tuple(range(len(shape) - len(axes), len(shape)))
    first = axes[0] if axes else len(shape)
    sizes = _sizes(builder, shape, Plain(0), first, first + len(axes))
    scale = 1.0 / sizes[1] if attributes["how"] == "mean" else 1.0
    _along(builder, op, (source, builder.write(op, decision)), sizes, _Along(how, scale))


def emit_adaptive_pool(builder: Builder, op: Op, decision: Decision) -> None:
    """Add pooling whose windows have different sizes: gathered side by side, then summed up."""
    (channels, height, width), attributes = builder.plan.values[op.inputs[0]].shape, dict[str, Any](op.attributes)
    rows, cols = attributes["size"]
    # Along each axis: the places of every window, and which of them it has.
    (down_PH, in_rows_PH), (right_QW, in_cols_QW) = _places(height, rows), _places(width, cols)
    maximum, longest = attributes["how"] == "max", down_PH.shape[1] * right_QW.shape[1]
    table = (down_PH[:, None, :, None] * width + right_QW[None, :, None, :]).reshape(rows * cols, longest)
    inside = (in_rows_PH[:, None, :, None] & in_cols_QW[None, :, None, :]).reshape(rows * cols, longest)
    # What is filled up repeats a pixel, for the greatest, or is nothing, for sums.
    table = np.where(inside, table, table[:, :1] if maximum else -1)
    every = np.arange(channels)[:, None, None] * height * width
    places = np.where(table >= 0, every + table, -1)
    _, source = builder.read(op.inputs[0], decision.reads[0])
    side_by_side = builder.buffer(Plain(places.size).floats(builder.target))
    gather(builder, None, source, side_by_side, places, 0.0)
    lanes = builder.target.lanes if builder.target.batched else 1
    target = builder.write(op, decision)
    sizes = [channels * len(table), longest, lanes]
    _along(builder, op, (side_by_side, target), sizes, _Along(MAXIMUM if maximum else SUM))
    if not maximum:
        shares = np.tile(1.0 / inside.sum(1), channels).astype(np.float32)
        _with_constant(builder, op, target, shares, 2)


def _places(size: int, count: int) -> tuple[Places, Places]:
    """Return the places of each of ``count`` windows of an axis, and whether they are its own: [count, longest]."""
    number = np.arange(count)
    first, end = number * size // count, -(-(number + 1) * size // count)
    places = first[:, None] + np.arange((end - first).max())
    inside = places < end[:, None]
    return np.where(inside, places, first[:, None]), inside
