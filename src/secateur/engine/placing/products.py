"""Products of two values, attention, and rows of a table."""

from __future__ import annotations

import math

import numpy as np

from secateur.engine.layouts import Plain
from secateur.engine.placing.building import Builder, Step
from secateur.engine.placing.decisions import Decision
from secateur.engine.placing.maps import Buffer, Floats
from secateur.engine.placing.moving import expanded
from secateur.engine.plan.values import Op

__all__ = ["emit_attention", "emit_embedding", "emit_matmul"]

_SOFTMAX = 3
_NONE = np.zeros(0, np.float32)
Shaped = tuple[Buffer, tuple[int, ...]]


def emit_matmul(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a product of matrices in the last two axes."""
    operands: list[Shaped] = []
    for name, layout in zip(op.inputs, decision.reads, strict=True):
        operands.append((builder.read(name, layout)[1], builder.plan.values[name].shape))
    if "other" in op.constants:
        other = builder.numbers(op, "other")
        operands.append((builder.constant(other), other.shape))
    if op.attributes["swapped"]:
        operands.reverse()
    shape = builder.plan.values[op.output].shape
    one = _broadcast(builder, operands[0], shape[:-2])
    two = _broadcast(builder, operands[1], shape[:-2])
    sizes = [math.prod(shape[:-2]), shape[-2], one[1][-1], shape[-1]]
    _product(builder, op, (one[0], two[0], builder.write(op, decision)), sizes)


def _broadcast(builder: Builder, given: Shaped, ahead: tuple[int, ...]) -> Shaped:
    """Return a value whose axes ahead of the matrix are as wanted."""
    buffer, shape = given
    wanted = (*ahead, *shape[-2:])
    if math.prod(shape) == math.prod(wanted):
        return buffer, wanted
    _, spread = expanded(builder, (Plain(math.prod(shape)), buffer), shape, wanted, Plain(math.prod(wanted)))
    return spread, wanted


def _product(
    builder: Builder,
    op: Op,
    buffers: tuple[Buffer, Buffer, Buffer],
    sizes: list[int],
    *,
    transposed: bool = False,
    scale: float = 1.0,
) -> None:
    (a, b, target), (batch, rows, depth, columns) = buffers, sizes
    width, kernels = builder.target.lanes if builder.target.batched else 1, builder.kernels
    floats = [batch * rows * depth * width, batch * depth * columns * width, batch * rows * columns * width]
    count = batch * rows * depth * columns
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.product(
                kernels.Span(a.offset, floats[0]),
                kernels.Span(b.offset, floats[1]),
                kernels.Span(target.offset, floats[2]),
                sizes,
                transposed,
                scale,
            ),
            count,
            count,
        ),
        [a, b],
    )


def emit_attention(builder: Builder, op: Op, decision: Decision) -> None:
    """Add softmax(scale q k' + mask) v."""
    reads = [builder.read(name, layout)[1] for name, layout in zip(op.inputs, decision.reads, strict=True)]
    shapes = [builder.plan.values[name].shape for name in op.inputs]
    shape = builder.plan.values[op.output].shape
    ahead, queries, keys = shape[:-2], shapes[0][-2], shapes[1][-2]
    q, k, v = (_broadcast(builder, (reads[i], shapes[i]), ahead)[0] for i in range(3))
    batch, inner = math.prod(ahead), math.prod(ahead) * queries * keys
    masks: list[Buffer] = []
    if len(reads) > 3:
        masks.append(expanded(builder, (Plain(0), reads[3]), shapes[3], (*ahead, queries, keys), Plain(inner))[1])
    fixed = _fixed_mask(builder, op, (*ahead, queries, keys))
    if fixed.size:
        masks.append(builder.constant(fixed))
    scores = builder.buffer(Plain(inner).floats(builder.target))
    scale = float(op.attributes["scale"])  # type: ignore[arg-type]
    _product(builder, op, (q, k, scores), [batch, queries, shapes[0][-1], keys], transposed=True, scale=scale)
    for mask in masks:
        _add(builder, op, scores, mask, inner)
    _softmax(builder, op, scores, [batch * queries, keys])
    builder.written(scores)
    target = builder.write(op, decision)
    _product(builder, op, (scores, v, target), [batch, queries, keys, shape[-1]])


def _fixed_mask(builder: Builder, op: Op, shape: tuple[int, ...]) -> Floats:
    """Return what is always added to the scores; nothing if there is no such."""
    if "mask" not in op.constants and not op.attributes["causal"]:
        return _NONE
    mask: Floats = np.zeros(shape, np.float32)
    if "mask" in op.constants:
        mask = mask + builder.numbers(op, "mask")
    if op.attributes["causal"]:
        mask = np.where(np.tril(np.ones(shape[-2:], bool)), mask, np.float32(-np.inf))
    return mask


def _add(builder: Builder, op: Op, scores: Buffer, mask: Buffer, count: int) -> None:
    line, maps = Plain(count), builder.maps
    builder.written(scores)
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.combine(
                0,
                maps.line(line, scores),
                maps.line(line, mask),
                maps.line(line, scores),
                False,
                builder.kernels.Applied(0, 0.0, 0.0),
                maps.halo(line, scores),
            ),
        ),
        [scores, mask],
    )


def _softmax(builder: Builder, op: Op, scores: Buffer, sizes: list[int]) -> None:
    width, kernels = builder.target.lanes if builder.target.batched else 1, builder.kernels
    total = math.prod(sizes) * width
    builder.written(scores)
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.along(
                kernels.Span(scores.offset, total),
                kernels.Span(scores.offset, total),
                [*sizes, width],
                _SOFTMAX,
                1.0,
                True,
                _NONE,
                _NONE,
            ),
        ),
        [scores],
    )


def emit_embedding(builder: Builder, op: Op, decision: Decision) -> None:
    """Add the rows of a table that indices name."""
    _, source = builder.read(op.inputs[0], decision.reads[0])
    target, kernels = builder.write(op, decision), builder.kernels
    weights = builder.numbers(op, "weight")
    width = builder.target.lanes if builder.target.batched else 1
    count = math.prod(builder.plan.values[op.inputs[0]].shape) * width
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.lookup(
                kernels.Span(source.offset, count),
                kernels.Span(target.offset, count * weights.shape[1]),
                *weights.shape,
                weights.reshape(-1),
            ),
        ),
        [source],
    )
