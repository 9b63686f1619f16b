"""Timing several things in turns, so that a machine whose speed drifts treats all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Block", "Pace", "Quartiles", "Times", "in_turns", "timed", "times_faster"]

# Runs so many calls, one after another, and returns how many seconds each of them took.
Block = Callable[[int], Sequence[float]]
Quartiles = tuple[float, float, float]

# Of one turn: more calls make nothing surer.
_MOST = 1000


@dataclass(frozen=True)
class Pace:
    """How long to time.

    Attributes:
        turns: of each contestant.
        seconds: of a turn, about; it has one call that counts at least.
        pause: seconds of rest ahead of each turn, in which threads that wait by spinning give way to the next.

    Raises:
        ValueError: there is no turn, it lasts no time, or the pause is negative.
    """

    turns: int = 20
    seconds: float = 0.05
    pause: float = 0.0

    def __post_init__(self) -> None:
        if self.turns < 1 or not self.seconds > 0 or self.pause < 0:
            raise ValueError(f"{self} needs at least one turn, of more than no time, and no negative pause")


@dataclass(frozen=True)
class Times:
    """Seconds of every call that counted, by turn."""

    turns: tuple[tuple[float, ...], ...]

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(map(len, self.turns))

    def quartiles(self) -> Quartiles:
        """Return the lower quartile, the median and the upper quartile of all calls, in seconds.

        Example:
            >>> Times(((1.0, 2.0), (3.0, 4.0, 5.0))).quartiles()
            (2.0, 3.0, 4.0)
        """
        return _quartiles([seconds for turn in self.turns for seconds in turn])

    def medians(self) -> tuple[float, ...]:
        """Return the median of each turn, in seconds.

        Example:
            >>> Times(((1.0, 2.0), (3.0,))).medians()
            (1.5, 3.0)
        """
        return tuple(float(np.median(turn)) for turn in self.turns)


def times_faster(ours: Sequence[float], theirs: Sequence[float]) -> Quartiles:
    """Return how many times faster one is than another: quartiles of the ratios of their medians in each turn.

    Example:
        >>> times_faster([1.0, 1.0, 1.0], [2.0, 3.0, 4.0])
        (2.5, 3.0, 3.5)
    """
    return _quartiles([their / our for our, their in zip(ours, theirs, strict=True)])


def _quartiles(values: Sequence[float]) -> Quartiles:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(median), float(high)


def timed(call: Callable[[], Any]) -> Block:
    """Return a block of calls in this process; the first of each block, which finds the caches cold, does not count.

    Example:
        >>> len(timed(lambda: None)(3))
        3
    """

    def block(count: int) -> list[float]:
        call()
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return taken

    return block


def in_turns(blocks: Sequence[Block], pace: Pace = Pace()) -> list[Times]:
    """Time blocks of calls in turns, each turn beginning with another of them.

    Args:
        blocks: what takes part, such as :func:`timed` makes.
        pace: how many turns there are and how long one is.

    Example:
        >>> first, second = in_turns([timed(lambda: None), timed(lambda: None)], Pace(turns=4, seconds=1e-6))
        >>> len(first.turns), len(second.turns)
        (4, 4)
    """
    counts = [max(1, min(_MOST, round(pace.seconds / max(min(block(2)), 1e-9)))) for block in blocks]
    taken: list[list[tuple[float, ...]]] = [[] for _ in blocks]
    for turn in range(pace.turns):
        for place in range(len(blocks)):
            which = (turn + place) % len(blocks)
            time.sleep(pace.pause)
            taken[which].append(tuple(blocks[which](counts[which])))
    return [Times(tuple(turns)) for turns in taken]
