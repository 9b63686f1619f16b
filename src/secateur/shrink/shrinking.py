"""``shrink``: from a network with dead units to a smaller one with the same outputs, proved before it is returned."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.graph.coupling import Coupling, Group
from secateur.graph.following import TraceError, arguments, couple
from secateur.masks import apply
from secateur.modules import in_eval_mode, unwrap
from secateur.shrink.checking import difference, inputs_like, outputs
from secateur.shrink.cutting import Kept, cut, cut_optimizer, guesses, named_tensors
from secateur.shrink.dead import DeadUnits, find_dead
from secateur.shrink.manifest import compare
from secateur.vocabulary import SecateurWarning

__all__ = ["NothingShrunkWarning", "Shrinkage", "shrink", "shrinkage"]

_Found: TypeAlias = tuple[Kept, DeadUnits, float, list[Group]]
_KEY = "_secateur_shrinkage"


class NothingShrunkWarning(SecateurWarning):
    """A network has no unit that could be removed; it is returned as it is."""


@dataclass(frozen=True, eq=False)
class Shrinkage:
    """What was removed from a model; prints as a table.

    Attributes:
        kept: for every tensor that lost something, the indices that were kept along each axis, in terms of the
            tensors of the model it began with.
        removed: units removed, by the weight that wrote them.
        units: units there were, by that weight.
        stays: what could not be removed though it is dead, and why.
        refused: weights whose units the code of the model counts in a way that is not understood.
        unknown: operations that could not be followed.
        folded: biases and running means that took up constants.
        worst: largest difference of an output, as a share of the outputs' range.
        parameters: how many there were, and are.
        manifest: from which a fresh instance of the model's class is cut to these shapes.
    """

    kept: Kept
    removed: dict[str, int]
    units: dict[str, int]
    stays: tuple[str, ...]
    refused: tuple[str, ...]
    unknown: tuple[str, ...]
    folded: tuple[str, ...]
    worst: float
    parameters: tuple[int, int]
    manifest: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        """Return a table of units before and after, and what stayed."""
        width = max([len(name) for name in self.units] + [len("written by")])
        lines = [f"{'written by':<{width}}  units  kept"]
        for name, count in self.units.items():
            lines.append(f"{name:<{width}}  {count:>5}  {count - self.removed.get(name, 0):>4}")
        before, after = self.parameters
        lines.append(f"{before:,} parameters -> {after:,}; outputs differ by {self.worst:.1e} of their range at most")
        lines += [f"stays: {reason}" for reason in self.stays]
        return "\n".join([*lines, *(f"not followed: {what}" for what in self.unknown)])


def shrinkage(model: nn.Module) -> Shrinkage | None:
    """Return what was removed from a model by :func:`shrink`; None if it never was shrunk."""
    found = getattr(unwrap(model), _KEY, None)
    return found if isinstance(found, Shrinkage) else None


def shrink(
    model: nn.Module,
    example: Any,
    *,
    masks: Mapping[str, Tensor] | None = None,
    optimizer: Optimizer | None = None,
) -> nn.Module:
    """Delete every dead unit of a network; return a plain, smaller, dense network with the same outputs.

    A unit (neuron, channel, head) goes if nothing that is kept reads it, or if it does not depend on the inputs: it
    is a constant then, which is folded into the biases or running means of its readers. Where that would not be exact
    it stays, and the record says why. This goes on to a fixed point. Outputs in eval mode are compared on the example
    and on random inputs before anything is returned; units whose removal the code of the model does not bear, because
    it counts them in a way that is not understood, are left whole.

    Args:
        model: any module that ``torch.export`` can trace. It is not changed.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name; real data are best.
        masks: applied to the copy first: what they remove is zero.
        optimizer: of the model; it is pointed at the new parameters and its state is cut along, so that training goes
            on where it was.

    Returns:
        the smaller network, in the mode of the model; :func:`shrinkage` returns the record of what was removed.

    Raises:
        BadTargetError: a mask does not fit the model.

    Warns:
        NothingShrunkWarning: nothing could be removed, or the model could not be traced.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> _ = net[0].weight.data[:5].zero_()
        >>> small = shrink(net, torch.randn(16, 4))
        >>> small
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
          (1): ReLU()
          (2): Linear(in_features=3, out_features=2, bias=True)
        )
        >>> print(shrinkage(small))
        written by  units  kept
        0.weight        8     3
        2.weight        2     2
        58 parameters -> 23; outputs differ by ... of their range at most
    """
    original = unwrap(model)
    masked = _masked(original, masks)
    try:
        coupling = couple(masked, example)
    except TraceError as error:
        warnings.warn(f"{error}; the model is returned whole", NothingShrunkWarning, stacklevel=2)
        coupling = Coupling({}, (), {}, (), (), {}, (str(error),))
    small, kept, dead, worst, refused = _Shrinking(masked, example, coupling).result()
    record = _record(original, small, coupling, (kept, dead, worst, refused))
    if not kept and not coupling.unknown:
        warnings.warn("no unit of the model is dead: it is returned whole", NothingShrunkWarning, stacklevel=2)
    object.__setattr__(small, _KEY, record)
    if optimizer is not None:
        cut_optimizer(optimizer, original, small, kept)
    return small


def _masked(model: nn.Module, masks: Mapping[str, Tensor] | None) -> nn.Module:
    if masks is None:
        return model
    masked = copy.deepcopy(model)
    apply(masked, masks)
    return masked


class _Shrinking:
    """The search for the most that can be removed: everything dead, or less where the code does not bear it."""

    def __init__(self, model: nn.Module, example: Any, coupling: Coupling) -> None:
        self._model, self._coupling = model, coupling
        self._tensors = named_tensors(model)
        inputs = [example, inputs_like(example, 0), inputs_like(example, 1)]
        self._inputs = [arguments(each) for each in inputs]
        with in_eval_mode(model):
            self._expected = [outputs(model, *each) for each in self._inputs]

    def result(self) -> tuple[nn.Module, Kept, DeadUnits, float, list[Group]]:
        """Return the smaller model, what was kept, and the groups that had to be left whole."""
        refused: list[Group] = []
        free = [group for group in self._coupling.groups if not group.whole]
        found = self._attempt(free)
        if found is None:
            accepted: list[Group] = []
            for group in free:
                # Alone first: whatever fails with it is its own doing.
                if self._attempt([*accepted, group]) is not None:
                    accepted.append(group)
                else:
                    refused.append(group)
            found = self._attempt(accepted)
        assert found is not None, "a model must agree with its own copy"
        return (*found, refused)

    def _attempt(self, groups: list[Group]) -> tuple[nn.Module, Kept, DeadUnits, float] | None:
        """Remove what is dead in some groups; None if outputs then differ or the code breaks."""
        free = {unit for group in groups for unit in group.units}
        every = {unit for group in self._coupling.groups for unit in group.units}
        dead = find_dead(self._coupling, self._tensors, every - free)
        units = set(dead.units)
        for guess in guesses(self._model, self._coupling, units):
            small, kept = cut(self._model, self._coupling, units, dead.folds, guess)
            worst, agree = self._compare(small)
            if agree:
                return small, kept, dead, worst
        return None

    def _compare(self, small: nn.Module) -> tuple[float, bool]:
        with in_eval_mode(small):
            try:
                found = [outputs(small, *each) for each in self._inputs]
            except Exception:  # whatever the user's code raises at a size it does not expect
                return float("inf"), False
        apart = [difference(a, b) for a, b in zip(self._expected, found, strict=True)]
        return max(share for share, _ in apart), all(agree for _, agree in apart)


def _record(
    model: nn.Module, small: nn.Module, coupling: Coupling, found: tuple[Kept, DeadUnits, float, list[Group]]
) -> Shrinkage:
    kept, dead, worst, refused = found
    units, removed = {}, {}
    for axis, labels in coupling.units.items():
        if axis.role == "writes":
            units[axis.name] = len(labels)
            removed[axis.name] = len(labels) - len(kept.get(axis.name, {}).get(axis.dim, labels))
    stays = sorted({f"{_written_by(coupling, unit)}: {why}" for unit, why in dead.stays.items()})
    insists = tuple(sorted({a.name for group in refused for a in group.axes if a.role == "writes"}))
    stays += [f"{name}: the model's code insists on its size" for name in insists]
    manifest = compare(model, small)
    earlier = shrinkage(model)
    if earlier is not None:
        kept = _composed(earlier.kept, kept)
        manifest = _merged(earlier.manifest, manifest)
    sizes = cast(tuple[int, int], tuple(sum(p.numel() for p in each.parameters()) for each in (model, small)))
    return Shrinkage(
        kept=kept,
        removed=removed,
        units=units,
        stays=tuple(stays),
        refused=insists,
        unknown=coupling.unknown,
        folded=tuple(sorted(dead.folds)),
        worst=worst,
        parameters=sizes,
        manifest=manifest,
    )


def _written_by(coupling: Coupling, unit: int) -> str:
    for axis, labels in coupling.units.items():
        if axis.role == "writes" and bool((labels == unit).any()):
            return axis.name
    return "a unit"


def _composed(first: Kept, second: Kept) -> Kept:
    """Return what is kept after both, in terms of what there was before the first."""
    both = {name: dict(axes) for name, axes in first.items()}
    for name, axes in second.items():
        for dim, indices in axes.items():
            earlier = both.setdefault(name, {}).get(dim)
            both[name][dim] = indices if earlier is None else earlier[indices]
    return both


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    attributes = {path: dict(changes) for path, changes in first["attributes"].items()}
    for path, changes in second["attributes"].items():
        attributes.setdefault(path, {}).update(changes)
    biases = first["biases"] | second["biases"]
    tensors = first["tensors"] | second["tensors"]
    for name in biases:  # made by the first, cut by the second
        biases[name] = tensors.pop(name, biases[name])
    return {**first, "tensors": tensors, "attributes": attributes, "biases": biases}
