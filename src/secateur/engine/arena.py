"""Where the buffers of a program lie: those that are never needed at the same time share floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Lifetime", "arrange"]


@dataclass(frozen=True)
class Lifetime:
    """How large a buffer is and from which step to which it is needed, both included."""

    size: int
    first: int
    last: int


def arrange(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Return the place of every buffer and the size of all together.

    The largest are placed first, each into the smallest gap among those that live at the same time.

    Example:
        >>> arrange([Lifetime(4, 0, 1), Lifetime(4, 1, 2), Lifetime(4, 2, 3)])
        ([0, 4, 0], 8)
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for index in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, lifetimes[i].first)):
        own = lifetimes[index]
        beside = [i for i in placed if lifetimes[i].first <= own.last and own.first <= lifetimes[i].last]
        offsets[index] = _gap([(offsets[i], offsets[i] + lifetimes[i].size) for i in beside], own.size)
        placed.append(index)
    ends = [offset + lifetime.size for offset, lifetime in zip(offsets, lifetimes, strict=True)]
    return offsets, max(ends, default=0)


def _gap(taken: list[tuple[int, int]], size: int) -> int:
    best, least, end = None, None, 0
    for first, last in sorted(taken):
        gap = first - end
        if gap >= size and (least is None or gap < least):
            best, least = end, gap
        end = max(end, last)
    return end if best is None else best
