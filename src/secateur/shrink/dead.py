"""Units that nothing needs: their inputs are gone, so that they are constants, or nothing reads them any more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.graph.coupling import Coupling, Site
from secateur.graph.units import NONE

__all__ = ["DeadUnits", "find_dead"]


@dataclass(frozen=True, eq=False)
class DeadUnits:
    """What may go without a trace.

    Attributes:
        units: numbers of the units, as in the coupling.
        folds: what must be added to a bias or a running mean, by name, float64 of its length.
        stays: units that are constants but cannot be folded, each with the place and the reason.
        spared: units kept only because a layer needs one.
    """

    units: frozenset[int]
    folds: dict[str, Tensor] = field(default_factory=dict)
    stays: dict[int, str] = field(default_factory=dict)
    spared: frozenset[int] = frozenset()


class _Reading:
    """A site with its weights: which columns are needed while some rows are removed."""

    def __init__(self, site: Site, coupling: Coupling, weight: Tensor) -> None:
        self.site = site
        self.reads, self._writes = coupling.units[site.reads], coupling.units[site.writes]
        w = weight.detach().movedim((site.writes.dim, site.reads.dim), (0, 1))
        kernel = math.prod(w.shape[2:])
        w_GOIK = w.reshape(site.groups, len(self._writes) // site.groups, len(self.reads), kernel)
        self._used_GOI = (w_GOIK != 0).any(-1)
        self._sums_GOI = w_GOIK.double().sum(-1)
        still = ~site.live & ~site.constant.isnan()
        self._constant_GI = torch.where(still, site.constant, 0.0)
        foldable = site.exact and bool(site.fold)
        self.gone = (still & ((site.constant == 0) | foldable)).all(0)
        self.still, self.uneven = (~site.live).all(0), (~still).any(0)
        self._last = torch.zeros(0, dtype=torch.bool)
        self._needed = self.gone

    def needed(self, removed: Tensor) -> Tensor:
        """Return which columns are read by a row that is kept, bool (I,)."""
        rows = removed[self._writes]
        if not torch.equal(rows, self._last):
            kept = ~rows.view(self._used_GOI.shape[:2]).unsqueeze(-1)
            self._last, self._needed = rows, (self._used_GOI & kept).flatten(0, 1).any(0)
        return self._needed

    def moved(self, removed: Tensor) -> Tensor:
        """Return what the removed columns add to each row, float64 (O,)."""
        constant_GI = self._constant_GI * removed[self.reads]
        return (self._sums_GOI * constant_GI.unsqueeze(1)).sum(-1).flatten()


def find_dead(coupling: Coupling, tensors: Mapping[str, Tensor], keep: Iterable[int] = ()) -> DeadUnits:
    """Find the units whose removal does not change the function of a network, to a fixed point.

    A unit may go if every weight that reads it either reads a constant, which is folded into what is added behind, or
    is zero wherever its row is kept. At least one index of every axis stays.

    Args:
        coupling: of the network.
        tensors: its parameters and buffers, by the names of the coupling.
        keep: units that must stay in any case.
    """
    readings = [_Reading(site, coupling, tensors[site.reads.name]) for site in coupling.sites]
    highest = max([*(int(t.max()) for t in coupling.units.values() if t.numel()), *coupling.pinned], default=NONE)
    fixed = torch.ones(highest + 2, dtype=torch.bool)  # the last place is that of NONE
    for labels in coupling.units.values():
        fixed[labels] = False
    fixed[list(coupling.pinned)] = True
    fixed[list(keep)] = True
    fixed[NONE] = True
    spared: set[int] = set()
    while True:
        removed = _fixed_point(readings, fixed)
        empty = _emptied(coupling, removed)
        if empty is None:
            break
        spared.add(empty)
        fixed[empty] = True
    folds: dict[str, Tensor] = {}
    for reading in readings:
        if reading.site.fold and bool((moved := reading.moved(removed)).any()):
            folds[reading.site.fold] = folds.get(reading.site.fold, 0) + reading.site.sign * moved
    stays = _stays(readings, removed, fixed)
    return DeadUnits(frozenset(removed.nonzero().flatten().tolist()), folds, stays, frozenset(spared))


def _fixed_point(readings: list[_Reading], fixed: Tensor) -> Tensor:
    removed = torch.zeros_like(fixed)
    while True:
        bad = fixed.clone()
        for reading in readings:
            bad[reading.reads[reading.needed(removed) & ~reading.gone]] = True
        if torch.equal(~bad, removed):
            return removed
        removed = ~bad


def _emptied(coupling: Coupling, removed: Tensor) -> int | None:
    """Return a unit to be spared from an axis that would be left empty."""
    for labels in coupling.units.values():
        if labels.numel() and bool(removed[labels].all()):
            return int(labels[0])
    return None


def _stays(readings: list[_Reading], removed: Tensor, fixed: Tensor) -> dict[int, str]:
    """Return why units that are constants stay."""
    reasons: dict[int, str] = {}
    for reading in readings:
        stuck = reading.still & ~reading.gone & reading.needed(removed)
        why = "zero padding ahead of it" if not reading.site.exact else "no bias to take it up"
        for unit, uneven in zip(reading.reads[stuck].tolist(), reading.uneven[stuck].tolist(), strict=True):
            if unit != NONE and not bool(fixed[unit]):
                how = "values that differ from place to place" if uneven else why
                reasons.setdefault(unit, f"a constant that {reading.site.place} reads with {how}")
    return reasons
