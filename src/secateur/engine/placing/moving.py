"""What only moves numbers: by naming them anew where that is enough, else by tables."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.engine.layouts import Layout, Mapped, Plain, elements, natural, positions, slots
from secateur.engine.placing.building import Builder, Step
from secateur.engine.placing.decisions import Decision, Layouts, preferred
from secateur.engine.placing.maps import Buffer
from secateur.engine.plan.values import Op

__all__ = [
    "decide_concat",
    "decide_permute",
    "decide_plain",
    "decide_reshape",
    "decide_upsample",
    "emit_concat",
    "emit_constant",
    "emit_indexed",
    "emit_reshape",
    "emit_upsample",
    "expanded",
    "gather",
]

_NONE = np.zeros(0, np.float32)
Places = npt.NDArray[Any]


def decide_plain(layouts: Layouts, op: Op) -> Decision:
    """Number after number."""
    return Decision(
        tuple(Plain(math.prod(layouts.shape(name))) for name in op.inputs), Plain(math.prod(layouts.shape(op.output)))
    )


def decide_reshape(layouts: Layouts, op: Op) -> Decision:
    """Name the numbers anew; a map stays one if its channels and positions do."""
    old, new = layouts.shape(op.inputs[0]), layouts.shape(op.output)
    home = preferred(layouts, op.inputs[0])
    if isinstance(home, Mapped) and len(new) > 1:
        channels = new[-1] if home.last else new[0]
        if channels == home.channels and positions(new, home.last) == home.grid.size == positions(old, home.last):
            return Decision((home,), home, alias=True)
    size = math.prod(old)
    return Decision((Plain(size),), Plain(size), alias=True)


def decide_permute(layouts: Layouts, op: Op) -> Decision:
    """Channels that become the last axis, or are it no more, stay where they are."""
    home, order, shape = preferred(layouts, op.inputs[0]), op.attributes["order"], layouts.shape(op.inputs[0])
    rank = len(shape)
    if isinstance(home, Mapped):
        ahead, behind = (rank - 1, *range(rank - 1)), (*range(1, rank), 0)
        if order == (ahead if home.last else behind):
            return Decision((home,), replace(home, last=not home.last), alias=True)
    return decide_plain(layouts, op)


def emit_reshape(builder: Builder, op: Op, decision: Decision) -> None:
    """Name what is there anew."""
    builder.alias(op, decision)


def emit_indexed(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a move: permute, expand, slice or pad."""
    if decision.alias:
        builder.alias(op, decision)
        return
    places, outside = _places(builder, op)
    _, source = builder.read(op.inputs[0], decision.reads[0])
    target = builder.write(op, decision)
    gather(builder, op, source, target, places, outside)


def _places(builder: Builder, op: Op) -> tuple[Places, float]:
    """Return, for every element of the result, the element it is."""
    shape, a = builder.plan.values[op.inputs[0]].shape, op.attributes
    places: Places = np.arange(math.prod(shape)).reshape(shape)
    if op.kind == "permute":
        return places.transpose(a["order"]), 0.0  # type: ignore[arg-type]
    if op.kind == "expand":
        return np.broadcast_to(places, builder.plan.values[op.output].shape), 0.0
    if op.kind == "slice":
        axis: Any = a["axis"]
        return places[(slice(None),) * axis + (slice(a["start"], a["stop"], a["step"]),)], 0.0
    sides: Any = a["padding"]
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    # NumPy refuses to pad a single number by nothing.
    return np.pad(places, pairs, constant_values=-1) if pairs else places, float(a["value"])  # type: ignore[arg-type]


def gather(builder: Builder, op: Op | None, source: Buffer, target: Buffer, places: Places, outside: float) -> None:
    """Add a move: element i of the result becomes element places[i], `outside` where that is -1."""
    places = np.ascontiguousarray(places.reshape(-1), np.int32)
    if builder.target.batched:
        lanes = np.arange(builder.target.lanes)
        wide = places[:, None] * builder.target.lanes + lanes
        places = np.ascontiguousarray(np.where(places[:, None] >= 0, wide, -1).reshape(-1), np.int32)
    place = builder.kernels.Place
    kind, where = (op.kind, op.where) if op is not None else ("move", "")
    builder.step(
        Step(
            kind,
            where,
            lambda to: to.gather(place(-1, source.offset, 0), place(-1, target.offset, 0), 1, places, outside),
        ),
        [source],
    )


def expanded(
    builder: Builder, given: tuple[Layout, Buffer], old: tuple[int, ...], new: tuple[int, ...], layout: Layout
) -> tuple[Layout, Buffer]:
    """Return a plain value spread over a larger shape, in a layout."""
    padded = (1,) * (len(new) - len(old)) + old
    element = np.broadcast_to(np.arange(math.prod(old)).reshape(padded), new).reshape(-1)
    place = slots(layout)
    target = builder.buffer(layout.floats(builder.target))
    gather(builder, None, given[1], target, np.where(place >= 0, element[place], -1), 0.0)
    return layout, target


def emit_constant(builder: Builder, op: Op, decision: Decision) -> None:
    """Name numbers that are there from the beginning."""
    builder.versions[op.output] = [(decision.writes, builder.constant(builder.numbers(op, "value")))]


def decide_upsample(layouts: Layouts, op: Op) -> Decision:
    """From any map to the one that suits the result."""
    home = preferred(layouts, op.inputs[0])
    read = (
        home.bare()
        if isinstance(home, Mapped) and not home.last
        else natural(layouts.shape(op.inputs[0]), layouts.target)
    )
    return Decision((read,), natural(layouts.shape(op.output), layouts.target))


def emit_upsample(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a move that repeats pixels, the halo included."""
    layout, source = builder.read(op.inputs[0], decision.reads[0])
    target, writes = builder.write(op, decision), decision.writes
    factors: Any = op.attributes["factors"]
    down, right = factors
    height, width = builder.plan.values[op.inputs[0]].shape[1:]
    pixel = np.arange(height * width).reshape(height, width).repeat(down, 0).repeat(right, 1).reshape(-1)
    if not isinstance(layout, Mapped) or not isinstance(writes, Mapped):
        channels = builder.plan.values[op.inputs[0]].shape[0]
        every = (np.arange(channels)[:, None] * height * width + pixel).reshape(-1)
        place, home = slots(writes), elements(layout)
        outside = writes.outside if isinstance(writes, Mapped) else 0.0
        gather(builder, op, source, target, np.where(place >= 0, home[every[place]], -1), outside)
        return
    place = writes.grid.pixels.reshape(-1)
    places = np.where(place >= 0, layout.grid.homes[pixel[place]], -1)
    if builder.target.batched:
        lanes = np.arange(builder.target.lanes)
        places = np.where(places[:, None] >= 0, places[:, None] * builder.target.lanes + lanes, -1).reshape(-1)
    table = np.ascontiguousarray(places, np.int32)
    end, steps = builder.kernels.Place, (layout.channel(builder.target), writes.channel(builder.target))
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.gather(
                end(-1, source.offset, steps[0]),
                end(-1, target.offset, steps[1]),
                writes.channels,
                table,
                writes.outside,
            ),
        ),
        [source],
    )


def decide_concat(layouts: Layouts, op: Op) -> Decision:
    """Channels go side by side in one map; all else is joined number by number."""
    homes = [preferred(layouts, name) for name in op.inputs]
    first = next((home for home in homes if isinstance(home, Mapped)), None)
    axis, rank = op.attributes["axis"], len(layouts.shape(op.output))
    if first is None or axis != (rank - 1 if first.last else 0):
        return decide_plain(layouts, op)
    shapes = [layouts.shape(name) for name in op.inputs]
    channels = [shape[axis] for shape in shapes]  # type: ignore[index]
    bare = first.bare()
    return Decision(tuple(replace(bare, channels=c) for c in channels), replace(bare, channels=sum(channels)))


def emit_concat(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a copy of each part."""
    reads = [builder.read(name, layout) for name, layout in zip(op.inputs, decision.reads, strict=True)]
    target, first = builder.write(op, decision), 0
    for name, (layout, source) in zip(op.inputs, reads, strict=True):
        if isinstance(layout, Mapped) and isinstance(decision.writes, Mapped):
            _copy_channels(builder, op, (layout, source), (decision.writes, target), first)
            first += layout.channels
        else:
            first = _copy_part(builder, op, name, (source, target), first)


def _copy_channels(
    builder: Builder, op: Op, given: tuple[Mapped, Buffer], made: tuple[Mapped, Buffer], first: int
) -> None:
    part = replace(made[0], channels=given[0].channels)
    builder.written(made[1])

    def add(to: Any) -> None:
        shifted = Buffer(0, 0, 0, offset=made[1].offset + first * part.channel(builder.target))
        to.map(
            builder.maps.inside(*given),
            builder.maps.inside(part, shifted),
            _NONE,
            _NONE,
            builder.kernels.Applied(0, 0.0, 0.0),
            builder.maps.halo(part, shifted),
        )

    builder.step(Step(op.kind, op.where, add), [given[1]])


def _copy_part(builder: Builder, op: Op, name: str, buffers: tuple[Buffer, Buffer], first: int) -> int:
    """Add the copy of one part of plain numbers; return where the next begins."""
    width = builder.target.lanes if builder.target.batched else 1
    axis: Any = op.attributes["axis"]
    shape, result = builder.plan.values[name].shape, builder.plan.values[op.output].shape
    outer, size = math.prod(shape[:axis]), math.prod(shape[axis:]) * width
    total, start = math.prod(result[axis:]) * width, first * math.prod(shape[axis + 1 :]) * width
    table, place = np.arange(size, dtype=np.int32), builder.kernels.Place
    builder.written(buffers[1])
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.gather(
                place(-1, buffers[0].offset, size), place(-1, buffers[1].offset + start, total), outer, table, 0.0
            ),
        ),
        [buffers[0]],
    )
    return first + int(shape[axis])
