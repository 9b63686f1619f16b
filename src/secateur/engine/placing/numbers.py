"""What is done number by number, and sums over all positions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from secateur.engine.layouts import Layout, Mapped, Plain, natural, slots
from secateur.engine.placing.activations import OPERATIONS, applied
from secateur.engine.placing.axes import emit_reduce_axes
from secateur.engine.placing.building import Builder, Step
from secateur.engine.placing.convolving import Convolution
from secateur.engine.placing.decisions import Decision, Layouts, preferred
from secateur.engine.placing.maps import Floats
from secateur.engine.placing.moving import decide_plain, expanded
from secateur.engine.plan.values import Op

__all__ = [
    "decide_binary",
    "decide_linear",
    "decide_reduce",
    "decide_unary",
    "emit_binary",
    "emit_linear",
    "emit_reduce",
    "emit_unary",
]

_NONE = np.zeros(0, np.float32)


def _bare(layout: Layout) -> Layout:
    return layout.bare() if isinstance(layout, Mapped) else layout


def decide_unary(layouts: Layouts, op: Op) -> Decision:
    """Leave everything where it is."""
    layout = _bare(preferred(layouts, op.inputs[0]))
    return Decision((layout,), layout)


def emit_unary(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a function of every number."""
    _emit_map(builder, op, decision, _NONE, _NONE)


def _emit_map(builder: Builder, op: Op, decision: Decision, scale: Floats, shift: Floats) -> None:
    layout, source = builder.read(op.inputs[0], decision.reads[0])
    target, function = builder.write(op, decision), applied(builder.kernels, op)
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.map(
                builder.maps.inside(layout, source),
                builder.maps.inside(decision.writes, target),
                scale,
                shift,
                function,
                builder.maps.halo(decision.writes, target),
            ),
        ),
        [source],
    )


def decide_linear(layouts: Layouts, op: Op) -> Decision:
    """Take positions as they come; the last axis are the channels."""
    shape = layouts.shape(op.inputs[0])
    home = layouts.home(op.inputs[0])
    read = _bare(home) if isinstance(home, Mapped) and home.last else natural(shape, layouts.target, last=True)
    if isinstance(read, Plain):
        made: Layout = Plain(math.prod(layouts.shape(op.output)))
    else:
        made = Mapped(layouts.shape(op.output)[-1], read.grid, last=True)
    return Decision((read, made)[: len(op.inputs)], made)


def emit_linear(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a product with a matrix."""
    layout, source = builder.read(op.inputs[0], decision.reads[0])
    residual = builder.read(op.inputs[1], decision.reads[1]) if len(op.inputs) > 1 else None
    target = builder.write(op, decision)
    weights = builder.matrix(op)
    made = Convolution(
        number=builder.number,
        source=layout,
        target=decision.writes,
        residual=residual[0] if residual else None,
        window=((0, 0), (1, 1), (1, 1), (1, 1)),
        groups=1,
        weights=weights,
        bias=builder.bias(op, weights.shape[0]),
        activation=applied(builder.kernels, op),
    )
    if isinstance(layout, Mapped) or builder.target.batched:
        pixels = math.prod(builder.plan.values[op.inputs[0]].shape[:-1])
        if isinstance(layout, Mapped):
            corner = (layout.grid.edges.top, layout.grid.edges.left)
            made = replace(made, window=(corner, *made.window[1:]))
        builder.convolution(op, made, (source, target, residual[1] if residual else None), pixels)
        return
    kernels, rows, columns = builder.kernels, *weights.shape
    dense = made.density > builder.dense_above
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.multiply(
                kernels.Span(source.offset, columns),
                kernels.Span(target.offset, rows),
                made.sparse(kernels),
                made.bias,
                None if residual is None else kernels.Span(residual[1].offset, rows),
                made.activation,
                dense,
            ),
            made.count,
            weights.size,
        ),
        [source, *([residual[1]] if residual else [])],
    )


def decide_reduce(layouts: Layouts, op: Op) -> Decision:
    """Sums over all positions of a channel are made where they are; all others number after number."""
    home = preferred(layouts, op.inputs[0])
    shape, axes = layouts.shape(op.inputs[0]), op.attributes["axes"]
    whole = isinstance(home, Mapped) and not home.last and axes == tuple(range(1, len(shape)))
    if isinstance(home, Mapped) and whole and op.attributes["how"] != "min":
        return Decision((home.bare(),), Plain(shape[0]))
    return decide_plain(layouts, op)


def emit_reduce(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a sum, mean or maximum."""
    layout, source = builder.read(op.inputs[0], decision.reads[0])
    if not isinstance(layout, Mapped):
        emit_reduce_axes(builder, op, decision)
        return
    target, kernels = builder.write(op, decision), builder.kernels
    count = math.prod(layout.grid.size)
    maximum, scale = op.attributes["how"] == "max", 1.0 / count if op.attributes["how"] == "mean" else 1.0
    bare = layout.bare().grid
    outside = np.zeros(0, np.uint8) if bare.exact else np.ascontiguousarray(bare.pixels.reshape(-1) < 0, np.uint8)

    def add(to: Any) -> None:
        if builder.target.batched:
            size = layout.channels * builder.target.lanes
            to.reduce_lanes(builder.maps.inside(layout, source), kernels.Span(target.offset, size), maximum, scale)
        else:
            span = kernels.Span(target.offset, layout.channels)
            to.reduce(builder.maps.inside(layout, source), span, maximum, scale, outside)

    builder.step(Step(op.kind, op.where, add), [source])


def decide_binary(layouts: Layouts, op: Op) -> Decision:
    """Take both operands in the layout of the one that has the shape of the result."""
    shape = layouts.shape(op.output)
    whole = [name for name in op.inputs if layouts.shape(name) == shape]
    made = _bare(preferred(layouts, whole[0])) if whole else natural(shape, layouts.target)
    return Decision(tuple(_operand(layouts, name, shape, made) for name in op.inputs), made)


def _operand(layouts: Layouts, name: str, shape: tuple[int, ...], made: Layout) -> Layout:
    own = layouts.shape(name)
    return made if own == shape else Plain(math.prod(own))


def emit_binary(builder: Builder, op: Op, decision: Decision) -> None:
    """Add an operation of two values, or of one and a constant."""
    shape = builder.plan.values[op.output].shape
    if "other" in op.constants:
        other = builder.numbers(op, "other")
        if _emit_affine(builder, op, decision, other):
            return
    reads = [builder.read(name, layout) for name, layout in zip(op.inputs, decision.reads, strict=True)]
    if "other" in op.constants:
        spread = np.broadcast_to(other, shape).reshape(-1)
        bare = _bare(decision.writes)
        place = slots(bare)
        numbers = np.where(place >= 0, spread[place], 0.0).astype(np.float32)
        reads.append((bare, builder.constant(numbers)))
    shapes = [builder.plan.values[name].shape for name in op.inputs] + [shape]
    swapped, kernels = bool(op.attributes["swapped"]), builder.kernels
    if shapes[0] != shape and shapes[1] == shape:
        reads, shapes, swapped = reads[::-1], shapes[1::-1], not swapped
    if shapes[0] != shape:
        reads[0] = expanded(builder, reads[0], shapes[0], shape, _bare(decision.writes))
    channels = _one_a_channel(shapes[1], shape, decision.writes)
    if shapes[1] != shape and not channels:
        reads[1] = expanded(builder, reads[1], shapes[1], shape, _bare(decision.writes))
    (a_layout, a), (b_layout, b) = reads[:2]
    target, function = builder.write(op, decision), applied(kernels, op)
    operation = OPERATIONS[str(op.attributes["how"])]

    def add(to: Any) -> None:
        rest = (
            builder.maps.inside(decision.writes, target),
            swapped,
            function,
            builder.maps.halo(decision.writes, target),
        )
        first = builder.maps.inside(a_layout, a)
        if channels and not builder.target.batched:
            to.combine_channels(operation, first, kernels.Span(b.offset, b_layout.size), *rest)  # type: ignore[union-attr]
        else:
            to.combine(operation, first, builder.maps.inside(b_layout, b), *rest)

    builder.step(Step(op.kind, op.where, add), [a, b])


def _one_a_channel(own: tuple[int, ...], shape: tuple[int, ...], layout: Layout) -> bool:
    if not isinstance(layout, Mapped) or own == shape:
        return False
    padded = (1,) * (len(shape) - len(own)) + own
    wanted = (1,) * (len(shape) - 1) + (shape[-1],) if layout.last else (shape[0],) + (1,) * (len(shape) - 1)
    return padded == wanted


def _emit_affine(builder: Builder, op: Op, decision: Decision, other: Floats) -> bool:
    """Add an operation with one constant for each channel, if that is what it is."""
    shape, layout = builder.plan.values[op.output].shape, decision.writes
    how, swapped = op.attributes["how"], op.attributes["swapped"]
    if builder.plan.values[op.inputs[0]].shape != shape or how not in ("add", "subtract", "multiply", "divide"):
        return False
    if how == "divide" and swapped:
        return False
    count = layout.channels if isinstance(layout, Mapped) else layout.size if builder.target.batched else 1
    if other.size == 1:
        each = np.full(count, other.reshape(-1)[0], np.float32)
    elif _one_a_channel(other.shape, shape, layout):
        each = other.reshape(-1)
    elif isinstance(layout, Plain) and builder.target.batched:
        each = np.broadcast_to(other, shape).reshape(-1)
    else:
        return False
    each = np.ascontiguousarray(each, np.float32)
    scale = shift = _NONE
    if how in ("multiply", "divide"):
        scale = each if how == "multiply" else (1.0 / each.astype(np.float64)).astype(np.float32)
    else:
        shift = -each if how == "subtract" and not swapped else each
        scale = np.full(count, -1.0, np.float32) if how == "subtract" and swapped else _NONE
    _emit_map(builder, op, decision, scale, shift)
    return True
