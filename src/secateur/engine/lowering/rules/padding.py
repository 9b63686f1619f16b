"""Padding: a constant around, or more of what is there."""

from __future__ import annotations

import math

from secateur.engine.lowering.batch import Live, Refused
from secateur.engine.lowering.rules.moving import source
from secateur.engine.lowering.rules.parts import gathered, sliced
from secateur.engine.lowering.walk import Call, Rule, Walk, under

__all__ = ["RULES"]


def _pad(walk: Walk, call: Call) -> Live:
    x = source(call)
    mode = call.get("mode", "constant")
    for word in ("reflect", "replicat", "circular"):
        mode = word if word in call.name else mode
    given = call.get("pad", call.get("padding"))
    sides = [(len(x.shape) - 1 - at // 2, given[at], given[at + 1]) for at in range(0, len(given), 2)]
    if mode == "constant":
        return _constant(walk, call, x, sides)
    for dim, before, after in sides:
        size = x.shape[dim]
        x = gathered(walk, call, x, dim, [_shown(place, size, mode) for place in range(-before, size + after)])
    return x


def _shown(place: int, size: int, mode: str) -> int:
    """Return the place of the input that a place in or beyond it shows.

    Example:
        >>> [_shown(place, 4, "reflect") for place in (-2, -1, 0, 3, 4)]
        [2, 1, 0, 3, 2]
    """
    if mode == "circular":
        return place % size
    if mode.startswith("replicat"):
        return min(max(place, 0), size - 1)
    place = abs(place)
    return place if place < size else 2 * (size - 1) - place


def _constant(walk: Walk, call: Call, x: Live, sides: list[tuple[int, int, int]]) -> Live:
    value = float(call.get("value") or 0.0)
    if not math.isfinite(value):
        raise Refused(f"padding with {value}")
    for dim, before, after in sides:
        # Padding below zero takes away.
        x = sliced(walk, call, x, dim, range(max(0, -before), x.shape[dim] - max(0, -after)))
    padding = [0] * (2 * len(x.sample))
    shape = list(x.shape)
    for dim, before, after in sides:
        if before > 0 or after > 0:
            axis = x.axis(dim)
            padding[2 * axis : 2 * axis + 2] = [max(0, before), max(0, after)]
            shape[dim] += max(0, before) + max(0, after)
    if not any(padding):
        return x
    x = walk.floats(call, x)
    name = walk.emit(call, "pad", [x], {"padding": tuple(padding), "value": value})
    return walk.live(name, shape, x.batch, x.dtype)


RULES: dict[str, Rule] = {
    **under(_pad, "pad", "constant_pad_nd", "_pad_circular"),
    **under(_pad, *(f"reflection_pad{axes}d" for axes in (1, 2, 3))),
    **under(_pad, *(f"replication_pad{axes}d" for axes in (1, 2, 3))),
}
