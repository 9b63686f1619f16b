"""Units that must stay or go together: numbers, united as a graph is followed, some of them pinned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["NONE", "Units", "none"]

NONE = -1  # the label of what belongs to no unit


def none(count: int) -> Tensor:
    """Return the labels of ``count`` places that belong to no unit.

    Example:
        >>> none(2)
        tensor([-1, -1])
    """
    return torch.full((count,), NONE)


class Units:
    """Numbered units in disjoint sets; a set that holds a pinned unit stays whole.

    Example:
        >>> units = Units()
        >>> a, b = units.new(3), units.new(3)
        >>> units.unite(a[:2], b[1:])
        >>> units.roots(b).tolist()
        [3, 0, 1]
        >>> units.pin([4], "an output of the model")
        >>> units.pinned()
        {0: 'an output of the model'}
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pinned: dict[int, str] = {}

    def new(self, count: int) -> Tensor:
        """Return the numbers of ``count`` new units."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def unite(self, a: Tensor, b: Tensor, place: str = "") -> None:
        """Put units together pair by pair; where one of a pair is no unit, the other is pinned."""
        a, b = torch.broadcast_tensors(a, b)
        for left, right in sorted(set(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))):
            if NONE in (left, right):
                if left != right:
                    self.pin([max(left, right)], f"combined with what belongs to no unit{place and ', at '}{place}")
                continue
            first, second = sorted((self._find(left), self._find(right)))
            self._parents[second] = first

    def pin(self, labels: Iterable[int], reason: str) -> None:
        """Keep the sets of these units whole from now on; the first reason given is remembered."""
        for label in labels:
            if label != NONE:
                self._pinned.setdefault(label, reason)

    def roots(self, labels: Tensor) -> Tensor:
        """Return one number for each set, the same for all its members."""
        if not labels.numel():
            return labels
        distinct, places = labels.unique(return_inverse=True)
        found = [label if label == NONE else self._find(label) for label in distinct.tolist()]
        return torch.tensor(found, dtype=torch.int64)[places]

    def pinned(self) -> dict[int, str]:
        """Return why the sets that are pinned are, by root."""
        reasons: dict[int, str] = {}
        for label, reason in self._pinned.items():
            reasons.setdefault(self._find(label), reason)
        return reasons

    def _find(self, label: int) -> int:
        root = label
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[label] != root:
            self._parents[label], label = root, self._parents[label]
        return root
