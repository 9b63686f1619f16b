"""From scores to masks: exact counts, for every granularity, scope and allocation that go together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.bits import Bits
from secateur.choose.criteria.magnitude import magnitude
from secateur.choose.granularity import Column, Element, Granularity, Row, canonical, pool, restore
from secateur.choose.ranking import keep_largest, keep_largest_in_rows
from secateur.choose.scope import Allocation, Global, PerRow, PerTensor, Scope, Window
from secateur.choose.targets import bias_of
from secateur.masks import Masks
from secateur.modules import refuse_valueless
from secateur.vocabulary import (
    CollapseWarning,
    NamedTensors,
    NothingPrunedWarning,
    Scores,
    SelectionError,
    Target,
    Weights,
    near_matches,
)

__all__ = ["Choice", "Criterion", "select"]

Criterion = Callable[[Weights], Scores]


@dataclass(frozen=True)
class Choice:
    """How to choose what goes, as one value: a criterion with its granularity, scope and allocation.

    Called with weights and a sparsity it scores and selects.

    Example:
        >>> Choice(scope=PerTensor())
        Choice(criterion=magnitude, granularity=Element(), scope=PerTensor(), allocation=None)
        >>> Choice()({"w": torch.tensor([3.0, -1.0])}, 0.5)["w"]
        tensor([ True, False])
    """

    criterion: Criterion = magnitude
    granularity: Granularity = Element()  # noqa: RUF009 - a frozen value
    scope: Scope = Global()  # noqa: RUF009
    allocation: Allocation | None = None

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        sparsity: float | None = None,
        within: Mapping[str, Tensor] | None = None,
    ) -> Masks:
        """Score ``weights`` and select; see :func:`select`."""
        named = NamedTensors(weights)
        # Magnitudes of single weights are ranked where these lie. An allocation may look at scores, so it gets them.
        bare = self.criterion is magnitude and _single(self.granularity, self.scope) and not callable(self.allocation)
        scores = named if bare else self.criterion(named)
        targets: Mapping[str, Target] | None = getattr(weights, "targets", None)
        return _select(NamedTensors(scores, targets), sparsity, self, within, absolute=bare)

    def __repr__(self) -> str:
        parts = (self.criterion, self.granularity, self.scope, self.allocation)
        shown = [getattr(part, "__name__", None) or repr(part) for part in parts]
        return "Choice(criterion={}, granularity={}, scope={}, allocation={})".format(*shown)


@torch.no_grad()
def select(
    scores: Mapping[str, Tensor],
    sparsity: float | None = None,
    *,
    granularity: Granularity = Element(),  # noqa: B008 - a frozen value
    scope: Scope = Global(),  # noqa: B008
    allocation: Allocation | None = None,
    within: Mapping[str, Tensor] | None = None,
) -> Masks:
    """Choose what to keep: remove exactly round-half-even(sparsity * n) units in every ranking.

    Ties are broken by position (earlier names in sorted order, then earlier elements, go first), so the result
    depends on nothing but names and scores. Scores may be infinite. Memory beyond the scores, for ``Element``: the
    masks, one bit a score where the compiled kernels are.

    Args:
        scores: float16, bfloat16, float32 or float64 tensors by name; higher = more important.
        sparsity: share of the units to remove, in [0, 1]. May be left out when ``scope`` is a Window (which fixes
            it) or ``allocation`` names every target.
        granularity: what is removed together; sparsity counts these units.
        scope: what competes in one ranking.
        allocation: with ``PerTensor`` or ``PerRow``, how the budget is split: :func:`secateur.uniform`,
            :func:`secateur.erk`, any function of their form, or a dict from name to sparsity (targets it does not
            name take ``sparsity``).
        within: masks to stay inside. What they removed counts towards the sparsity, so that a second call at 0.5
            means 0.5 of the original, and the result keeps nothing that they removed.

    Returns:
        Masks for every name.

    Raises:
        SelectionError: a score is NaN (named), a sparsity is outside [0, 1], or parts do not go together.

    Example:
        >>> masks = select({"w": torch.tensor([0.1, 0.4, 0.2, 0.3])}, sparsity=0.5)
        >>> masks["w"]
        tensor([False,  True, False,  True])
        >>> select({"w": torch.ones(1, 8)}, scope=Window(keep=2, of=4)).sparsity
        0.5
    """
    choice = Choice(granularity=granularity, scope=scope, allocation=allocation)
    return _select(NamedTensors(scores), sparsity, choice, within)


@torch.no_grad()
def _select(
    scores: NamedTensors,
    sparsity: float | None,
    choice: Choice,
    within: Mapping[str, Tensor] | None,
    *,
    absolute: bool = False,
) -> Masks:
    """Select as :func:`select` does, by all parts of a choice but its criterion; if ``absolute``, by magnitudes."""
    granularity, scope = choice.granularity, choice.scope
    _check(scores, sparsity, granularity, scope, choice.allocation)
    share = _shares(scores, sparsity, scope, choice.allocation)
    units, members = _pooled(scores, granularity)
    inside = _units_within(scores, within, granularity, members)
    kept: dict[str, Tensor | Bits] = {}
    if isinstance(scope, Global):
        kept |= _rank_together(units, share, inside, absolute).stored
    elif isinstance(scope, PerTensor):
        for name in units:
            alone = None if inside is None else Masks({name: inside.stored[name]})
            kept |= _rank_together({name: units[name]}, share, alone, absolute).stored
    else:
        kept |= {n: _rank_lines(n, scores, units[n], share[n], (granularity, scope), inside) for n in units}
    ranked = Masks(kept, scores.targets)
    masks = ranked if isinstance(granularity, Element) else _spread(scores, ranked, within, granularity, members)
    _warn(masks, share, scope)
    return masks


def _single(granularity: Granularity, scope: Scope) -> bool:
    """Return whether weights are ranked one by one in whole tensors."""
    return isinstance(granularity, Element) and isinstance(scope, Global | PerTensor)


def _check(
    scores: NamedTensors,
    sparsity: float | None,
    granularity: Granularity,
    scope: Scope,
    allocation: Allocation | None,
) -> None:
    if not scores:
        raise SelectionError("there are no scores to select from")
    refuse_valueless(scores, "prune")
    for name, score in scores.items():
        if not score.is_floating_point():
            raise SelectionError(f"the scores of {name!r} are {score.dtype}; they must be of a float dtype")
        # Chunked, because isnan of a whole tensor would be a temporary of its size. A ranking of scores looks itself.
        chunks = () if _single(granularity, scope) else score.reshape(-1).split(1 << 20)
        if any(bool(part.isnan().any()) for part in chunks):
            raise SelectionError(f"the scores of {name!r} hold NaN: mend the weights or the criterion")
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise SelectionError(f"sparsity is a share between 0 and 1, got {sparsity}")
    if isinstance(scope, PerRow | Window) and isinstance(granularity, Row | Column):
        whole = "row" if isinstance(granularity, Row) else "column"
        raise SelectionError(
            f"{scope} ranks inside each row of a tensor, but {granularity} removes a whole {whole} at once; "
            "use scope=Global() or PerTensor()"
        )
    if allocation is not None and isinstance(scope, Global | Window):
        reason = "ranks all targets in one list" if isinstance(scope, Global) else "fixes the sparsity of all"
        raise SelectionError(f"{scope} {reason}, so there is nothing to allocate; use scope=PerTensor()")
    if isinstance(scope, Window) and sparsity is not None and abs(sparsity - scope.sparsity) > 1e-9:
        raise SelectionError(f"{scope} means sparsity {scope.sparsity:g}, not {sparsity:g}; leave sparsity out")


def _shares(
    scores: NamedTensors, sparsity: float | None, scope: Scope, allocation: Allocation | None
) -> dict[str, float]:
    """Return the sparsity of every tensor."""
    if isinstance(scope, Window):
        return dict.fromkeys(scores, scope.sparsity)
    if isinstance(allocation, Mapping):
        shares = dict(allocation)
        for name in shares.keys() - scores.keys():
            raise SelectionError(f"the allocation names {name!r}, not a target; {near_matches(name, scores)}")
        missing = [name for name in scores if name not in shares]
        if missing and sparsity is None:
            raise SelectionError(f"the allocation leaves out {missing}; name them or give sparsity for the rest")
        shares |= dict.fromkeys(missing, sparsity or 0.0)
    elif sparsity is None:
        raise SelectionError("sparsity is needed: a share between 0 and 1")
    else:
        shares = dict(allocation(scores, sparsity)) if allocation else dict.fromkeys(scores, sparsity)
        missing = [name for name in scores if name not in shares]
        if missing:
            raise SelectionError(f"the allocation gives no sparsity to {missing}; it must name every target")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise SelectionError(f"the allocation gives {name!r} the sparsity {share}, outside 0 to 1")
    return shares


def _members(scores: NamedTensors, granularity: Granularity) -> dict[str, list[str]]:
    """Return the tensors whose units are ranked, each with those that go along with it."""
    members = {name: [name] for name in scores}
    if isinstance(granularity, Row):
        for name in scores:
            bias = bias_of(name)
            if bias != name and bias in scores and scores[bias].ndim == 1 and name in members:
                rows = canonical(scores[name], scores.layout(name)).shape[0]
                if len(scores[bias]) != rows:
                    raise SelectionError(
                        f"{bias!r} has {len(scores[bias])} elements, {name!r} has {rows} rows; take the weights from "
                        "secateur.prunable, which knows how each is laid out"
                    )
                members[name].append(bias)
                members.pop(bias, None)
    if isinstance(granularity, Column):
        members = {name: own for name, own in members.items() if scores[name].ndim > 1}
        if not members:
            raise SelectionError(f"{granularity} has no input axis to remove from: all targets are vectors")
    return members


def _pooled(scores: NamedTensors, granularity: Granularity) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Return one score for each unit, and the tensors that make up the units of each name."""
    members = _members(scores, granularity)
    if isinstance(granularity, Element):
        return dict(scores), members
    units = {}
    for name, own in members.items():
        parts = torch.cat([granularity.split(scores[m], scores.layout(m)) for m in own], dim=-1)
        ones = [granularity.split(torch.ones_like(scores[m], dtype=torch.bool), scores.layout(m)) for m in own]
        real = torch.cat(ones, dim=-1)
        if granularity.reduce == "max":
            # The zeros that pad a partial unit must not win over negative scores.
            parts = parts.masked_fill(~real, -torch.inf)
        units[name] = pool(parts, real.sum(-1), granularity.reduce)
        if bool(units[name].isnan().any()):
            raise SelectionError(f"the scores of {name!r} pool to NaN: infinities of both signs in one unit")
    return units, members


def _units_within(
    scores: NamedTensors,
    within: Mapping[str, Tensor] | None,
    granularity: Granularity,
    members: dict[str, list[str]],
) -> Masks | None:
    """Return which units still have something to lose."""
    if within is None:
        return None
    held = within.stored if isinstance(within, Masks) else within
    for name, score in scores.items():
        if name not in held or held[name].shape != score.shape:
            raise SelectionError(f"within= has no mask of shape {list(score.shape)} for {name!r}")
    if isinstance(granularity, Element):
        return Masks({name: held[name] for name in members})
    return Masks(
        {
            name: torch.cat([granularity.split(within[m], scores.layout(m)) for m in own], dim=-1).any(-1)
            for name, own in members.items()
        }
    )


def _budget(n: int, share: float, inside: int) -> int:
    """Return how many of the ``inside`` units that are left must go to reach ``share`` of all ``n``."""
    return max(0, round(share * n) - (n - inside))


def _rank_together(units: dict[str, Tensor], share: Mapping[str, float], inside: Masks | None, absolute: bool) -> Masks:
    """Rank the units of all given tensors in one list; they share one sparsity."""
    n = sum(u.numel() for u in units.values())
    left = n if inside is None else inside.count().kept
    return keep_largest(units, _budget(n, share[next(iter(units))], left), inside, absolute=absolute)


def _rank_lines(
    name: str,
    scores: NamedTensors,
    units: Tensor,
    share: float,
    rule: tuple[Granularity, Scope],
    inside: Masks | None,
) -> Tensor:
    """Rank the units of one tensor inside each of its rows or windows."""
    granularity, scope = rule
    mask = torch.ones_like(units, dtype=torch.bool) if inside is None else inside[name]
    if not isinstance(granularity, Element):
        return _rank_rows(units, mask, share, scope)
    if units.ndim < 2:
        # A vector is one row; it has no inputs to put into windows.
        if isinstance(scope, Window):
            return mask
        return _rank_rows(units.reshape(1, -1), mask.reshape(1, -1), share, scope).reshape(units.shape)
    layout = scores.layout(name)
    units_OIK, mask_OIK = canonical(units, layout), canonical(mask, layout)
    if isinstance(scope, Window):
        # Windows run along the inputs, so these become the last axis.
        units_OKI, mask_OKI = units_OIK.transpose(1, 2), mask_OIK.transpose(1, 2)
        kept = _rank_rows(units_OKI.flatten(0, 1), mask_OKI.flatten(0, 1), share, scope)
        return restore(kept.reshape(units_OKI.shape).transpose(1, 2), units.shape, layout)
    kept = _rank_rows(units_OIK.flatten(1), mask_OIK.flatten(1), share, scope)
    return restore(kept.reshape(units_OIK.shape), units.shape, layout)


def _rank_rows(units_RN: Tensor, mask_RN: Tensor, share: float, scope: Scope) -> Tensor:
    if not isinstance(scope, Window):
        return keep_largest_in_rows(units_RN, round(share * units_RN.shape[1]), mask_RN)
    full = units_RN.shape[1] // scope.of * scope.of
    rest = units_RN.shape[1] - full
    windows = keep_largest_in_rows(
        units_RN[:, :full].reshape(-1, scope.of),
        scope.of - scope.keep,
        mask_RN[:, :full].reshape(-1, scope.of),
    ).reshape(len(units_RN), full)
    tail = keep_largest_in_rows(units_RN[:, full:], max(0, rest - scope.keep), mask_RN[:, full:])
    return torch.cat([windows, tail], dim=1)


def _spread(
    scores: NamedTensors,
    kept: Masks,
    within: Mapping[str, Tensor] | None,
    granularity: Granularity,
    members: dict[str, list[str]],
) -> Masks:
    """Return element masks from unit masks, in the order of the scores."""
    masks = {}
    for name, own in members.items():
        units = kept[name].unsqueeze(-1)
        for member in own:
            score = scores[member]
            size = granularity.split(torch.empty_like(score, device="meta"), scores.layout(member)).shape
            mask = granularity.join(units.expand(size), score.shape, scores.layout(member))
            masks[member] = mask.clone(memory_format=torch.contiguous_format)
    for name, score in scores.items():
        masks.setdefault(name, torch.ones_like(score, dtype=torch.bool))
    if within is not None:
        masks = {name: mask & within[name] for name, mask in masks.items()}
    return Masks({name: masks[name] for name in scores}, scores.targets)


def _warn(masks: Masks, share: Mapping[str, float], scope: Scope) -> None:
    counts = {name: masks.count(name) for name in masks}
    if any(share.values()) and not any(count.removed for count in counts.values()):
        warnings.warn(
            f"nothing was removed at {scope}: the sparsity is too low for targets this small",
            NothingPrunedWarning,
            stacklevel=4,
        )
    matrices = [n for n, mask in masks.stored.items() if len(mask.shape) > 1]
    empty = [n for n in matrices if counts[n].total and share[n] < 1 and not counts[n].kept]
    if empty:
        warnings.warn(f"all weights of {', '.join(empty)} were removed", CollapseWarning, stacklevel=4)
