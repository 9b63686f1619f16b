"""How much each layer minds being pruned, and an allocation that lets all of them mind equally."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from secateur.choose.scope import PerTensor
from secateur.choose.selection import Choice
from secateur.choose.targets import prunable
from secateur.masks import apply
from secateur.modules import unwrap
from secateur.vocabulary import SelectionError, Weights

__all__ = ["Sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Sensitivity:
    """Score of a model with one target pruned at a time.

    Attributes:
        whole: the score with nothing pruned; higher is better.
        curves: for every target, the score at each sparsity, sparsities ascending.
        sizes: weights of every target.
    """

    whole: float
    curves: Mapping[str, Mapping[float, float]]
    sizes: Mapping[str, int]

    def at_drop(self, drop: float) -> dict[str, float]:
        """Return for every target the highest sparsity up to which its score falls by no more than ``drop``.

        Between measured sparsities the curve is taken as straight.

        Example:
            >>> Sensitivity(0.9, {"a": {0.5: 0.9, 1.0: 0.5}}, {"a": 8}).at_drop(0.1)
            {'a': 0.625}
        """
        return {name: _reach(self.whole, curve, drop) for name, curve in self.curves.items()}

    def allocation(self, sparsity: float, whole: bool = False) -> dict[str, float]:
        """Return sparsities by target that cost each the same drop by itself and make up ``sparsity`` in all.

        Args:
            sparsity: share of all the weights, in [0, 1].
            whole: round to whole weights, so that round(sparsity * n) are removed in all.

        Raises:
            SelectionError: the sparsity is outside [0, 1].

        Example:
            >>> both = Sensitivity(0.9, {"a": {1.0: 0.5}, "b": {1.0: 0.1}}, {"a": 4, "b": 4})
            >>> {name: round(share, 3) for name, share in both.allocation(0.6).items()}
            {'a': 0.8, 'b': 0.4}
            >>> both.allocation(0.6, whole=True)
            {'a': 0.75, 'b': 0.5}
        """
        if not 0 <= sparsity <= 1:
            raise SelectionError(f"sparsity is a share between 0 and 1, got {sparsity}")
        if sparsity == 1:  # exactly, where the sums below may round a hair short
            return dict.fromkeys(self.sizes, 1.0)
        total = sum(self.sizes.values())
        drops = [self.whole - score for curve in self.curves.values() for score in curve.values()]
        low, high = 0.0, max([drop for drop in drops if math.isfinite(drop)] + [0.0])
        for _ in range(60):
            middle = (low + high) / 2
            shares = self.at_drop(middle)
            if sum(shares[name] * self.sizes[name] for name in shares) < sparsity * total:
                low = middle
            else:
                high = middle
        shares = _exactly(self.at_drop(high), self.sizes, sparsity * total)
        return _whole(shares, self.sizes, round(sparsity * total)) if whole else shares


def _reach(whole: float, curve: Mapping[float, float], drop: float) -> float:
    """Return how far along its curve a target gets before the drop is passed."""
    before_sparsity, before = 0.0, 0.0
    for sparsity, score in curve.items():
        lost = whole - score
        if not lost <= drop:
            if drop <= before or not math.isfinite(lost):  # a score that is NaN is as bad as any
                return before_sparsity
            return before_sparsity + (sparsity - before_sparsity) * (drop - before) / (lost - before)
        before_sparsity, before = sparsity, max(lost, 0.0)
    return before_sparsity


def _exactly(shares: dict[str, float], sizes: Mapping[str, int], wanted: float) -> dict[str, float]:
    """Move all shares by one amount, within [0, 1], so that they remove ``wanted`` weights: curves have steps."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        moved = {name: min(1.0, max(0.0, share + middle)) for name, share in shares.items()}
        if sum(moved[name] * sizes[name] for name in moved) < wanted:
            low = middle
        else:
            high = middle
    return {name: min(1.0, max(0.0, share + high)) for name, share in shares.items()}


def _whole(shares: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, float]:
    """Round shares to those of whole weights, ``total`` in all; the largest remainders are rounded up."""
    exact = {name: shares[name] * sizes[name] for name in shares}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}  # a hair below a whole number is one
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return {name: counts[name] / sizes[name] if sizes[name] else 0.0 for name in shares}


@torch.no_grad()
def sensitivity(
    model: nn.Module,
    score: Callable[[nn.Module], float],
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0),
    choice: Choice = Choice(scope=PerTensor()),  # noqa: B008 - a frozen value
    *,
    weights: Weights | None = None,
) -> Sensitivity:
    """Prune one target at a time to each sparsity, score the model, and put the weights back.

    Source: Han et al. 2015 (arXiv 1506.02626), section 5 and figure 6; Li et al. 2017 (arXiv 1608.08710), section 3.2.

    Args:
        model: the network, left as it was.
        score: called with the model; higher is better, such as validation accuracy in [0, 1].
        sparsities: in (0, 1].
        choice: criterion and granularity; each target is a ranking of its own.
        weights: the targets; :func:`secateur.prunable` of the model if left out.

    Raises:
        SelectionError: a sparsity is outside [0, 1].

    Example:
        >>> import secateur as sc
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        >>> found = sc.sensitivity(net, lambda m: float(sc.measure(m).targets.kept), [0.5, 1.0])
        >>> found.whole, found.curves["0.weight"]
        (20.0, {0.5: 12.0, 1.0: 4.0})
    """
    model = unwrap(model)
    targets = prunable(model) if weights is None else Weights(weights)
    whole = float(score(model))
    curves: dict[str, dict[float, float]] = {}
    for name, weight in targets.items():
        before = weight.detach().clone()
        alone = Weights({name: weight}, targets.targets)
        curves[name] = {}
        try:
            for sparsity in sorted(sparsities):
                apply(model, choice(alone, sparsity))
                curves[name][float(sparsity)] = float(score(model))
                weight.detach().copy_(before)
        finally:
            weight.detach().copy_(before)
    return Sensitivity(whole, curves, {name: weight.numel() for name, weight in targets.items()})
