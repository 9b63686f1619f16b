"""The k-th smallest key of any number of places, from histograms that only need to be added up.

A key is an unsigned integer in the order of the score it stands for. A histogram counts one digit of the keys within a
range; those of shards, or of the ranks of a process group, add up to that of the whole. So whoever can count, anywhere,
can find the k-th: :func:`kth` asks for a few histograms, each narrower than the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Cut", "Digits", "Histogram", "kth"]

_BINS = 1 << 16


@dataclass(frozen=True)
class Digits:
    """What a histogram tells apart: ``key >> shift``, from ``first`` on, in ``bins`` bins.

    Example:
        >>> Digits.of_range(0, 0xFFFFFFFF)
        Digits(first=0, shift=16, bins=65536)
    """

    first: int
    shift: int
    bins: int

    @classmethod
    def of_range(cls, low: int, high: int) -> Digits:
        """Return the finest digits, of at most 65536 bins, that cover the keys from ``low`` to ``high``."""
        shift = max(0, (high - low + 1).bit_length() - 17)
        while (high >> shift) - (low >> shift) >= _BINS:
            shift += 1
        return cls(low >> shift, shift, (high >> shift) - (low >> shift) + 1)

    @property
    def low(self) -> int:
        """The smallest key that is counted."""
        return self.first << self.shift

    @property
    def high(self) -> int:
        """The largest key that is counted."""
        return ((self.first + self.bins) << self.shift) - 1


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many keys have each digit, and how many lie below the first.

    Example:
        >>> digits = Digits(first=4, shift=0, bins=2)
        >>> here, there = (Histogram(digits, 1, np.array([2, 0])), Histogram(digits, 0, np.array([1, 5])))
        >>> both = here + there
        >>> both.below, both.counts.tolist()
        (1, [3, 5])
    """

    digits: Digits
    below: int
    counts: npt.NDArray[np.int64]

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of both places together."""
        if self.digits != other.digits:
            raise ValueError(f"histograms of different digits do not add up: {self.digits}, {other.digits}")
        return Histogram(self.digits, self.below + other.below, self.counts + other.counts)


@dataclass(frozen=True)
class Cut:
    """Where a ranking is cut: keys below ``key`` go, and of the ``tied`` keys equal to it the first ``ties``."""

    key: int
    ties: int
    tied: int

    def after(self, tied: int) -> Cut:
        """Return the cut of what comes after places, a shard say, that hold ``tied`` of the tied keys.

        Example:
            >>> Cut(key=7, ties=3, tied=5).after(2)
            Cut(key=7, ties=1, tied=3)
        """
        return Cut(self.key, max(0, self.ties - tied), self.tied - tied)


def kth(k: int, bits: int, count: Callable[[Digits], Histogram], guess: tuple[int, int] | None = None) -> Cut:
    """Return the cut that lets exactly the ``k`` smallest keys go.

    Args:
        k: from 1 to the number of keys.
        bits: of a key.
        count: returns the histogram of all keys for the digits it is asked for; for shards, the sum of theirs.
        guess: two keys between which the k-th may lie. A right guess saves histograms, a wrong one costs one or two.

    Example:
        >>> keys = np.array([7, 3, 7, 7, 9])
        >>> def count(digits):
        ...     found = (keys >> digits.shift) - digits.first
        ...     inside = found[(found >= 0) & (found < digits.bins)]
        ...     return Histogram(digits, int((found < 0).sum()), np.bincount(inside, minlength=digits.bins))
        >>> kth(3, 16, count)
        Cut(key=7, ties=2, tied=3)
    """
    low, high = 0, (1 << bits) - 1
    asked = Digits.of_range(*guess) if guess else Digits.of_range(low, high)
    while True:
        histogram = count(asked)
        up_to = histogram.below + histogram.counts.cumsum()
        if k <= histogram.below:
            high = asked.low - 1
        elif k > up_to[-1]:
            low = asked.high + 1
        else:
            place = int(np.searchsorted(up_to, k))
            tied = int(histogram.counts[place])
            low = (asked.first + place) << asked.shift
            high = low + (1 << asked.shift) - 1
            if low == high:
                return Cut(low, k - (int(up_to[place]) - tied), tied)
        asked = Digits.of_range(low, high)
