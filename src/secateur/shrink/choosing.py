"""Structured pruning: which units go, chosen by any criterion, and the masks that make them dead."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from secateur.choose.criteria.magnitude import magnitude
from secateur.choose.ranking import keep_largest, over_mean
from secateur.choose.scope import Allocation, Global, PerTensor
from secateur.choose.selection import Criterion
from secateur.graph.coupling import Coupling, Group
from secateur.graph.units import NONE
from secateur.masks import Masks
from secateur.modules import unwrap
from secateur.vocabulary import NamedTensors, SelectionError, Target, Weights

__all__ = ["UnitChoice", "unit_weights"]

_Reduce: TypeAlias = Literal["l2", "sum", "mean", "max"]


def unit_weights(model: nn.Module, coupling: Coupling) -> Weights:
    """Return every parameter that holds units: weights that write and read them, biases, the numbers of norms.

    These are the targets of structured pruning, for :class:`secateur.Pruner` and :func:`secateur.hold`.

    Example:
        >>> from secateur.graph import couple
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        >>> list(unit_weights(net, couple(net, torch.zeros(2, 4))))
        ['0.weight', '0.bias', '1.weight', '1.bias', '3.weight', '3.bias']
    """
    held = {axis.name for axis in coupling.units}
    own = {name: parameter for name, parameter in unwrap(model).named_parameters() if name in held}
    return NamedTensors(own, {name: Target(parameter=weakref.ref(parameter)) for name, parameter in own.items()})


@dataclass(frozen=True)
class UnitChoice:
    """How to choose the units that go; called with weights and a sparsity it returns masks, as a Choice does.

    A unit's score pools the scores of all weights that write it, over every layer it is coupled through. The masks
    of a unit that goes remove all of it: its rows, biases, norms and what
    reads it. :func:`secateur.shrink` then deletes it.

    Attributes:
        coupling: of the network, from :func:`secateur.couple`.
        criterion: scores of weights, by which units are pooled; any that is a function of weights.
        scope: ``Global()`` ranks all units in one list, the scores of each group divided by the mean of those that
            are not 0, so that layers compare; ``PerTensor()`` ranks the units of each group by themselves.
        allocation: with ``PerTensor``: a sparsity for each group, by the weight that writes it first.
        multiple: what is kept of every group is a multiple of this where the group has as many, and all of it where
            it has not.
        reduce: how the scores of a unit's weights become one.
        ignore: globs of weights whose units stay.

    Example:
        >>> from secateur.graph import couple
        >>> net = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> net[0].weight.data[:, 0] = torch.tensor([4.0, -1.0, 3.0, 2.0])
        >>> choice = UnitChoice(couple(net, torch.zeros(1, 1)))
        >>> choice(unit_weights(net, choice.coupling), 0.5)["0.weight"].flatten()
        tensor([ True, False,  True, False])
    """

    coupling: Coupling = field(repr=False)
    criterion: Criterion = magnitude
    scope: Global | PerTensor = Global()  # noqa: RUF009 - a frozen value
    allocation: Allocation | None = None
    multiple: int = 1
    reduce: _Reduce = "l2"
    ignore: Collection[str] = ()

    def __post_init__(self) -> None:
        if type(self.multiple) is not int or self.multiple < 1:
            raise SelectionError(f"multiple= is a whole number of at least 1, got {self.multiple}")
        if self.reduce not in get_args(_Reduce):
            raise SelectionError(f"reduce={self.reduce!r} is none of {', '.join(get_args(_Reduce))}")
        if isinstance(self.ignore, str):
            raise SelectionError(f"ignore= is a list of globs, as in [{self.ignore!r}]")
        if not isinstance(self.scope, Global | PerTensor):
            raise SelectionError(f"units compete in Global() or PerTensor(), not in {self.scope}")
        if self.allocation is not None and isinstance(self.scope, Global):
            raise SelectionError(
                "Global() ranks all units in one list, so there is nothing to allocate; use PerTensor()"
            )

    @torch.no_grad()
    def __call__(
        self,
        weights: Mapping[str, Tensor],
        sparsity: float | None = None,
        within: Mapping[str, Tensor] | None = None,
    ) -> Masks:
        """Return masks of all ``weights`` that remove a share of the units that may go.

        Exactly round-half-even(sparsity * units) go in every ranking, except as ``multiple`` and the last unit of a
        layer, which stays, demand. What ``within`` has removed counts towards the sparsity; what it does not name is
        whole.

        Raises:
            SelectionError: a sparsity is outside [0, 1] or missing, no unit may go, a score is NaN, or a mask of
                ``within`` has not the shape of its weights.
        """
        return self.select(weights, self.scores(weights), sparsity, within)

    def select(
        self,
        weights: Mapping[str, Tensor],
        scores: Mapping[str, Tensor],
        sparsity: float | None = None,
        within: Mapping[str, Tensor] | None = None,
    ) -> Masks:
        """Return the masks that a call returns, for scores that are known already."""
        for name, mask in (within or {}).items():
            if name in weights and mask.shape != weights[name].shape:
                raise SelectionError(f"within= has no mask of shape {list(weights[name].shape)} for {name!r}")
        shares = self._shares(weights, scores, sparsity)
        left = {name: self._inside(name, within) for name in scores}
        kept = self._ranked(scores, shares, left)
        kept = {name: self._rounded(kept[name], scores[name], left[name]) for name in scores}
        removed = {
            u
            for name, group in self.groups.items()
            for u, k in zip(group.units, kept[name].tolist(), strict=True)
            if not k
        }
        removed -= self._spared(removed, scores)
        return self._masks(NamedTensors(weights), removed, within)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Return the groups whose units may go, by the weight that writes each first."""
        found: dict[str, Group] = {}
        for group in self.coupling.groups:
            written = [axis.name for axis in group.axes if axis.role == "writes"]
            ignored = any(fnmatchcase(name, glob) for name in written for glob in self.ignore)
            if written and not group.whole and not ignored and len(group.units) > 1:
                name = written[0]
                found[name if name not in found else f"{name} ({len(found)})"] = group
        return found

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return one score for each unit of every group, float64 (U,), by the weight that writes the group first.

        Raises:
            SelectionError: no unit may go, weights are missing, or a score is NaN.
        """
        groups = self.groups
        if not groups:
            raise SelectionError("no unit of the model may go: see what its coupling says of each group")
        written = {axis.name for group in groups.values() for axis in group.axes if axis.role == "writes"}
        missing = sorted(written - weights.keys())
        if missing:
            raise SelectionError(f"the weights lack {missing}; take them from secateur.unit_weights")
        targets = getattr(weights, "targets", None)
        scores = self.criterion(NamedTensors({name: weights[name] for name in weights if name in written}, targets))
        pooled = {name: self._pooled(group, scores) for name, group in groups.items()}
        for name, score in pooled.items():
            if bool(score.isnan().any()):
                raise SelectionError(f"the scores of the units of {name!r} hold NaN: mend the weights or the criterion")
        return pooled

    def _pooled(self, group: Group, scores: Mapping[str, Tensor]) -> Tensor:
        """Return one score for each unit of a group."""
        place = {unit: index for index, unit in enumerate(group.units)}
        total, count = torch.zeros(len(place), dtype=torch.float64), torch.zeros(len(place), dtype=torch.float64)
        for axis in group.axes:
            if axis.role != "writes":
                continue
            labels = self.coupling.units[axis].tolist()
            own = torch.tensor([index for index, unit in enumerate(labels) if unit in place])
            where = torch.tensor([place[labels[index]] for index in own.tolist()])
            rows = scores[axis.name].movedim(axis.dim, 0).flatten(1)[own.to(scores[axis.name].device)].cpu()
            rows = rows if rows.dtype == torch.float64 else rows.float()
            if self.reduce == "max":
                total = total.scatter_reduce(0, where, rows.amax(1).double(), "amax", include_self=bool(count.any()))
            else:
                pooled = rows.square().sum(1) if self.reduce == "l2" else rows.sum(1)
                total.index_add_(0, where, pooled.double())
            count.index_add_(0, where, torch.full((len(own),), float(rows.shape[1]), dtype=torch.float64))
        if self.reduce == "l2":
            total = total.sqrt()
        if self.reduce == "mean":
            total = total / count
        return over_mean(total) if isinstance(self.scope, Global) else total

    def _shares(
        self, weights: Mapping[str, Tensor], scores: Mapping[str, Tensor], sparsity: float | None
    ) -> dict[str, float]:
        if isinstance(self.allocation, Mapping):
            unknown = sorted(self.allocation.keys() - scores.keys())
            if unknown:
                raise SelectionError(
                    f"the allocation names {unknown}, which write no units that may go: {sorted(scores)} do"
                )
            shares = {name: self.allocation.get(name, sparsity) for name in scores}
        elif self.allocation is not None and sparsity is not None:
            shares = dict(self.allocation({name: weights[self._writer(name)] for name in scores}, sparsity))
        else:
            shares = dict.fromkeys(scores, sparsity)
        for name, share in shares.items():
            if share is None or not 0 <= share <= 1:
                raise SelectionError(f"sparsity is a share between 0 and 1, got {share} for {name!r}")
        return {name: float(share or 0.0) for name, share in shares.items()}

    def _writer(self, name: str) -> str:
        return next(axis.name for axis in self.groups[name].axes if axis.role == "writes")

    def _inside(self, name: str, within: Mapping[str, Tensor] | None) -> Tensor:
        """Return which units of a group have anything left."""
        group = self.groups[name]
        inside = torch.ones(len(group.units), dtype=torch.bool)
        axis = next(axis for axis in group.axes if axis.role == "writes")
        if within is None or axis.name not in within:
            return inside
        labels = self.coupling.units[axis]
        rows = within[axis.name].movedim(axis.dim, 0).flatten(1).any(1).cpu()
        alive = set(labels[rows].tolist())
        return torch.tensor([unit in alive for unit in group.units])

    def _ranked(
        self, scores: Mapping[str, Tensor], shares: Mapping[str, float], left: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        together = [list(scores)] if isinstance(self.scope, Global) else [[name] for name in scores]
        kept: dict[str, Tensor] = {}
        for names in together:
            total, inside = sum(len(scores[n]) for n in names), sum(int(left[n].sum()) for n in names)
            remove = max(0, round(shares[names[0]] * total) - (total - inside))
            kept |= keep_largest({n: scores[n] for n in names}, remove, {n: left[n] for n in names})
        return kept

    def _rounded(self, kept: Tensor, score: Tensor, inside: Tensor) -> Tensor:
        """Keep a multiple of units: the nearest there is, at least one, and no more than are left."""
        step, most = self.multiple, int(inside.sum())
        wanted = max(1, int(kept.sum()))
        if step > 1:
            wanted = max(step, round(int(kept.sum()) / step) * step)
            wanted = wanted if wanted <= most else most // step * step or most
        if wanted == int(kept.sum()):
            return kept
        return keep_largest({"": score}, most - wanted, {"": inside})[""]

    def _spared(self, removed: set[int], scores: Mapping[str, Tensor]) -> set[int]:
        """Return units that must stay so that no axis is left empty: the best of those it has."""
        best = {
            u: float(s) for name, g in self.groups.items() for u, s in zip(g.units, scores[name].tolist(), strict=True)
        }
        spared: set[int] = set()
        for labels in self.coupling.units.values():
            units = set(labels.tolist())
            if units and NONE not in units and not units - removed:
                spared.add(max(units, key=lambda unit: (best[unit], -unit)))
                removed = removed - spared
        return spared

    def _masks(self, weights: NamedTensors, removed: set[int], within: Mapping[str, Tensor] | None) -> Masks:
        masks = {}
        gone = torch.tensor(sorted(removed), dtype=torch.int64)
        for name, weight in weights.items():
            mask = torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
            if within is not None and name in within:
                mask &= within[name]
            for dim in range(weight.ndim):
                labels = self.coupling.axis(name, dim)
                if labels is not None:
                    rows = torch.isin(labels, gone).nonzero().flatten().to(weight.device)
                    mask.index_fill_(dim, rows, False)
            masks[name] = mask
        return Masks(masks, weights.targets)
