"""How long the engine takes for each layer at each sparsity, and an allocation that spends a time budget well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from secateur.choose.targets import prunable
from secateur.engine.engine import Engine
from secateur.engine.lowering import lower
from secateur.engine.plan import Plan
from secateur.modules import unwrap
from secateur.vocabulary import SelectionError, Weights

__all__ = ["LayerTimes", "layer_times"]

# Sparsities between which an allocation chooses: every hundredth, and finer where little is left.
_STEPS = np.concatenate([np.arange(0, 0.9, 0.01), np.arange(0.9, 0.9901, 0.0025)])


@dataclass(frozen=True)
class LayerTimes:
    """Seconds that the engine takes for each target at each sparsity, and what the target then loses.

    Attributes:
        rest: seconds of all that is no target.
        curves: for every target, seconds at each measured sparsity, sparsities ascending.
        losses: for every target, minus the logarithm of the share of its squared weights that stays at each of the
            sparsities ``0, 0.01, ... 0.89, 0.9, 0.9025, ... 0.99``, the smallest weights first.
    """

    rest: float
    curves: Mapping[str, Mapping[float, float]]
    losses: Mapping[str, tuple[float, ...]]

    def seconds(self, shares: Mapping[str, float]) -> float:
        """Return how long the network takes with these sparsities by target, as far as that can be told beforehand.

        Between measured sparsities a curve is taken as straight; a target that is not named stays dense.

        Example:
            >>> LayerTimes(1.0, {"a": {0.0: 2.0, 0.9: 1.1}}, {"a": (0.0,) * 127}).seconds({"a": 0.5})
            2.5
        """
        return self.rest + sum(_at(curve, shares.get(name, 0.0)) for name, curve in self.curves.items())

    def allocation(self, seconds: float) -> dict[str, float]:
        """Return sparsities by target that fit a time and take away the least.

        What is taken away is the sum of the losses of all targets: the next weight of one costs its square over the sum
        of those that stay, which is its LAMP score (Lee et al. 2021, arXiv 2010.07611, equation 5). Each target is
        pruned until another bit of its time would cost more of that than in any other target (Lagrange's rule).

        Args:
            seconds: of the whole network, on the engine as it was measured.

        Raises:
            SelectionError: it is not that fast at any sparsity that was measured.

        Example:
            >>> curves = {"slow": {0.0: 9.0, 0.9: 1.0}, "quick": {0.0: 1.0, 0.9: 0.9}}
            >>> times = LayerTimes(0.0, curves, dict.fromkeys(curves, tuple((_STEPS**2).tolist())))
            >>> {name: round(share, 1) for name, share in times.allocation(5.6).items()}
            {'slow': 0.5, 'quick': 0.0}
        """
        if math.isnan(seconds):
            raise SelectionError("a time of NaN seconds is no budget")
        fastest = {name: float(min(max(curve), _STEPS[-1])) for name, curve in self.curves.items()}
        if self.seconds(fastest) > seconds:
            raise SelectionError(
                f"the network takes {self.seconds(fastest):.3g} seconds even at the highest sparsities measured, more "
                f"than the {seconds:.3g} asked for; measure higher ones, or shrink the network"
            )
        low, high = 0.0, 1.0
        while self.seconds(self._best(high)) > seconds:
            high *= 4
            if high > 1e18:
                return fastest
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.seconds(self._best(middle)) > seconds else (low, middle)
        return self._best(high)

    def _best(self, price: float) -> dict[str, float]:
        """Return the sparsity of each target at which loss and time, at a price a second, are the least."""
        chosen = {}
        for name, curve in self.curves.items():
            steps = _STEPS[max(curve) + 1e-9 >= _STEPS]
            times = np.interp(steps, list(curve), list(curve.values()))
            chosen[name] = float(steps[np.argmin(np.array(self.losses[name][: len(steps)]) + price * times)])
        return chosen


def _at(curve: Mapping[float, float], sparsity: float) -> float:
    return float(np.interp(sparsity, list(curve), list(curve.values())))


@torch.no_grad()
def layer_times(
    model: nn.Module,
    example: Any,
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
    *,
    weights: Weights | None = None,
    runs: int = 30,
) -> LayerTimes:
    """Measure how long the engine takes for each layer: with all targets dense, then pruned to each sparsity.

    Args:
        model: the network, left as it was; zeros that it has stay.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name, with a batch axis.
        sparsities: in (0, 1), at which to measure.
        weights: the targets; those of :func:`secateur.prunable` if None.
        runs: of which the fastest counts, for each operator.

    Returns:
        Times on one thread for one sample, targets by name. Targets that are not the weight of an operator of the
        engine are left out.

    Raises:
        SelectionError: a sparsity is not in (0, 1), or no target is the weight of an operator.
        UnsupportedError: the engine lacks operators of the model.
        MissingKernelsError: Secateur was installed without its compiled kernels.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        >>> times = layer_times(net, torch.zeros(1, 64), (0.5, 0.9), runs=3)
        >>> list(times.curves), list(times.curves["0.weight"])
        (['0.weight', '2.weight'], [0.0, 0.5, 0.9])
    """
    if any(not 0 < sparsity < 1 for sparsity in sparsities):
        raise SelectionError(f"sparsities are shares between 0 and 1, got {tuple(sparsities)}")
    targets = prunable(unwrap(model)) if weights is None else weights
    plan = lower(model, example)
    places = {f"{op.where}.weight": op.constants["weight"] for op in plan.ops if "weight" in op.constants}
    names = [name for name in targets if name in places]
    if not names:
        raise SelectionError("no target is the weight of an operator of the engine")
    curves: dict[str, dict[float, float]] = {name: {} for name in names}
    rest = 0.0
    for sparsity in (0.0, *sorted(sparsities)):
        pruned = _pruned(plan, {places[name]: targets[name] for name in names}, sparsity)
        rows = Engine(pruned).tune().profile(runs=runs).rows
        for name in names:
            curves[name][sparsity] = sum(row.seconds for row in rows if f"{row.where}.weight" == name)
        if sparsity == 0:
            rest = sum(row.seconds for row in rows if f"{row.where}.weight" not in curves)
    return LayerTimes(rest, curves, {name: _losses(targets[name]) for name in names})


def _pruned(plan: Plan, targets: Mapping[str, Tensor], sparsity: float) -> Plan:
    """Return a plan with the smallest of some weights zero, chosen layer by layer."""
    constants = dict(plan.constants)
    for name, weight in targets.items():
        array = np.array(constants[name])
        magnitude = weight.detach().abs().cpu().float().numpy().reshape(-1)
        count = round(sparsity * magnitude.size)
        array.reshape(-1)[np.argpartition(magnitude, max(count - 1, 0))[:count]] = 0.0
        constants[name] = array
    return replace(plan, constants=constants)


def _losses(weight: Tensor) -> tuple[float, ...]:
    squares: npt.NDArray[Any] = np.sort(weight.detach().double().square().flatten().cpu().numpy())
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    taken = np.round(_STEPS * squares.size).astype(int)
    left = 1.0 - sums[taken] / max(sums[-1], 1e-300)
    return tuple((-np.log(np.maximum(left, 1e-300))).tolist())
