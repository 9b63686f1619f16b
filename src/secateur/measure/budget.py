"""Structured pruning to a budget: of units, parameters, multiply-adds, or measured latency."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.choose.scope import PerTensor
from secateur.graph.coupling import Coupling
from secateur.graph.following import arguments, couple
from secateur.masks import Masks, apply
from secateur.measure.cost import Timing, latencies
from secateur.modules import in_eval_mode, refuse_keras, unwrap
from secateur.shrink.choosing import UnitChoice, unit_weights
from secateur.shrink.shrinking import shrink, shrinkage
from secateur.vocabulary import NothingPrunedWarning, SecateurWarning, SelectionError, Weights, near_matches

__all__ = ["prune_units"]

_KINDS = ("macs", "parameters", "latency")


def prune_units(
    model: nn.Module,
    example: Any,
    sparsity: float | None = None,
    *,
    target: Mapping[str, float] | None = None,
    choice: UnitChoice | None = None,
    within: Mapping[str, Tensor] | None = None,
    timing: Timing = Timing(warmup=3, repeats=15),  # noqa: B008 - a frozen value
) -> Masks:
    """Remove neurons, filters, coupled channels and heads: choose them, zero them in place, return their masks.

    :func:`secateur.shrink` then deletes them; training under the masks in between is as ever.

    Args:
        model: any module that ``torch.export`` can trace.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name.
        sparsity: share of the units that may go, in [0, 1].
        target: instead of a sparsity, what may be left of one cost as a share of the model's own, found by bisection:
            ``{"macs": 0.5}`` (multiply-adds of layers with weights), ``{"parameters": 0.5}``, or ``{"latency": 0.5}``
            (of the shrunk model on the example, measured in turn with the model). The fewest units go that meet it.
        choice: criterion, scope, allocation and multiple; magnitude in one ranking if left out.
        within: masks to stay inside.
        timing: how latency is measured.

    Raises:
        SelectionError: neither or both of sparsity and target are given, or the target cannot be reached.
        TraceError: the model cannot be traced.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
        >>> masks = prune_units(net, torch.randn(4, 8), target={"macs": 0.5})
        >>> shrunk = shrink(net, torch.randn(4, 8))
        >>> sum(p.numel() for p in shrunk.parameters()) < 0.6 * sum(p.numel() for p in net.parameters())
        True
    """
    refuse_keras(model, "prune_units")
    if (sparsity is None) == (target is None):
        raise SelectionError('give either sparsity= or target=, such as {"macs": 0.5}')
    choice = choice or UnitChoice(couple(model, example))
    weights = unit_weights(model, choice.coupling)
    choice = _borne(model, example, choice, weights)
    if target is not None:
        kind, share = _target(target)
        timed = kind == "latency"
        cost = _latency(model, example, timing) if timed else _counted(choice.coupling, unwrap(model), kind)
        units = sum(len(group.units) for group in choice.groups.values())
        steps = 7 if timed else 1 + units.bit_length()
        scores = choice.scores(weights)
        sparsity = _bisected(lambda at: cost(choice.select(weights, scores, at, within)), share, steps)
    return apply(model, choice(weights, sparsity, within))


def _borne(model: nn.Module, example: Any, choice: UnitChoice, weights: Weights) -> UnitChoice:
    """Leave out units that cannot be deleted because the code of the model counts them: found by trying."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecateurWarning)
        masks = replace(choice, scope=PerTensor(), allocation=None)(weights, 0.5)
        record = shrinkage(shrink(model, example, masks=masks))
    if record is None or not record.refused:
        return choice
    warnings.warn(
        f"the code of the model insists on the size of {', '.join(record.refused)}: their units stay",
        NothingPrunedWarning,
        stacklevel=3,
    )
    return replace(choice, ignore=(*choice.ignore, *record.refused))


def _target(target: Mapping[str, float]) -> tuple[str, float]:
    if len(target) != 1:
        raise SelectionError(f"target= names one cost, got {sorted(target)}")
    kind, share = next(iter(target.items()))
    if kind not in _KINDS:
        raise SelectionError(f"target= knows no {kind!r}; {near_matches(kind, _KINDS)}")
    if not 0 < share <= 1:
        raise SelectionError(f"target= is a share of the model's own {kind}, above 0 and at most 1; got {share}")
    return kind, share


def _bisected(cost: Callable[[float], float], share: float, steps: int) -> float:
    """Return the lowest sparsity found whose cost is at most ``share``."""
    if cost(0.0) <= share:
        return 0.0
    low, high = 0.0, 1.0
    least = cost(high)
    if least > share:
        raise SelectionError(
            f"the target {share:g} cannot be reached: with every unit gone that may go {least:.3f} is left"
        )
    for _ in range(steps):
        middle = (low + high) / 2
        if cost(middle) <= share:
            high = middle
        else:
            low = middle
    return high


def _counted(coupling: Coupling, model: nn.Module, kind: str) -> Callable[[Masks], float]:
    parameters = dict(model.named_parameters())
    uses = {name: coupling.positions.get(name, 0) if kind == "macs" else 1 for name in parameters}
    whole = sum(uses[name] * parameter.numel() for name, parameter in parameters.items())

    def cost(masks: Masks) -> float:
        kept = {name: int(masks[name].sum()) if name in masks else p.numel() for name, p in parameters.items()}
        return sum(uses[name] * kept[name] for name in kept) / max(1, whole)

    return cost


def _latency(model: nn.Module, example: Any, timing: Timing) -> Callable[[Masks], float]:
    args, kwargs = arguments(example)
    whole = copy.deepcopy(unwrap(model))

    def cost(masks: Masks) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecateurWarning)
            small = shrink(whole, example, masks=masks)
        with in_eval_mode(whole), in_eval_mode(small), torch.no_grad():
            before, after = latencies([lambda: whole(*args, **kwargs), lambda: small(*args, **kwargs)], timing)
        return after.median_ms / before.median_ms

    return cost
