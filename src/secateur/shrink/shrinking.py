"""``shrink``: from a network with dead units to a smaller one with the same outputs, proved before it is returned."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.graph.coupling import Coupling
from secateur.graph.following import TraceError, arguments, couple
from secateur.masks import apply
from secateur.modules import in_eval_mode, innermost, refuse_keras, refuse_valueless, unwrap
from secateur.shrink.checking import differences, holds_a_number, inputs_like, outputs
from secateur.shrink.cutting import Kept, check_optimizer, cut, cut_optimizer, guesses, named_tensors
from secateur.shrink.dead import DeadUnits
from secateur.shrink.manifest import compare
from secateur.shrink.searching import Attempt, Found, search
from secateur.vocabulary import BadTargetError, SecateurWarning, first_line

__all__ = ["NothingShrunkWarning", "Shrinkage", "note", "record", "shrink", "shrinkage"]

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
            on where it was. LBFGS starts afresh.

    Returns:
        the smaller network, in the mode of the model; :func:`shrinkage` returns the record of what was removed.

    Raises:
        BadTargetError: a mask does not fit the model, it is one of Keras, its weights hold no values yet, it does not
            compute the example or makes no finite number of it, or the optimizer is of another model.

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
    refuse_keras(model, "shrink", inside=True)
    original = unwrap(model)
    refuse_valueless(dict(original.named_parameters()), "shrink")
    if optimizer is not None:
        optimizer = innermost(optimizer)
        check_optimizer(optimizer, original)
    masked = _masked(original, masks)
    try:
        coupling = couple(masked, example)
    except TraceError as error:
        warnings.warn(f"{error}; the model is returned whole", NothingShrunkWarning, stacklevel=2)
        coupling = Coupling({}, (), {}, (), (), {}, (str(error),))
    found = search(coupling, named_tensors(masked), _attempts(masked, example, coupling))
    small: nn.Module = found.small
    counts = cast(tuple[int, int], tuple(sum(p.numel() for p in each.parameters()) for each in (original, small)))
    new = record(coupling, found, counts, compare(original, small))
    if not found.kept and not coupling.unknown:
        warnings.warn("no unit of the model is dead: it is returned whole", NothingShrunkWarning, stacklevel=2)
    note(small, _with_earlier(new, shrinkage(original)))
    if optimizer is not None:
        cut_optimizer(optimizer, original, small, found.kept)
    return small


def note(small: Any, new: Shrinkage) -> None:
    """Leave the record of what was removed on a model, for :func:`shrinkage`."""
    object.__setattr__(small, _KEY, new)


def _masked(model: nn.Module, masks: Mapping[str, Tensor] | None) -> nn.Module:
    if masks is None:
        return model
    masked = copy.deepcopy(model)
    apply(masked, masks)
    return masked


def _attempts(model: nn.Module, example: Any, coupling: Coupling) -> Attempt:
    """Return how to cut a model and compare what it computes then with what it computes now."""
    inputs = [arguments(each) for each in (example, inputs_like(example, 0), inputs_like(example, 1))]
    with in_eval_mode(model):
        try:
            expected = [outputs(model, *each) for each in inputs]
        except Exception as error:  # whatever the user's code raises
            raise BadTargetError(f"{type(model).__name__} does not compute the example: {first_line(error)}") from error
    if not holds_a_number(expected[0]):
        raise BadTargetError(
            f"{type(model).__name__} makes nothing but NaN and infinities of the example, so that no smaller one can "
            "be compared with it; look for them in its weights and in the example"
        )

    def compared(small: nn.Module) -> tuple[float, bool]:
        with in_eval_mode(small):
            try:
                found = [outputs(small, *each) for each in inputs]
            except Exception:  # whatever the user's code raises at a size it does not expect
                return float("inf"), False
        return differences(expected, found)

    def attempt(dead: DeadUnits) -> tuple[nn.Module, Kept, float] | None:
        units = set(dead.units)
        for guess in guesses(model, coupling, units):
            small, kept = cut(model, coupling, units, dead.folds, guess)
            worst, agree = compared(small)
            if agree:
                return small, kept, worst
        return None

    return attempt


def record(coupling: Coupling, found: Found, parameters: tuple[int, int], manifest: dict[str, Any]) -> Shrinkage:
    """Return what is told of a smaller model.

    Args:
        coupling: of the model it was made from.
        found: by the search.
        parameters: how many there were, and are.
        manifest: from which a fresh instance is cut to the same shapes.
    """
    units, removed = {}, {}
    for axis, labels in coupling.units.items():
        if axis.role == "writes":
            units[axis.name] = len(labels)
            removed[axis.name] = len(labels) - len(found.kept.get(axis.name, {}).get(axis.dim, labels))
    stays = sorted({f"{_written_by(coupling, unit)}: {why}" for unit, why in found.dead.stays.items()})
    insists = tuple(sorted({a.name for group in found.refused for a in group.axes if a.role == "writes"}))
    stays += [f"{name}: the model's code insists on its size" for name in insists]
    return Shrinkage(
        kept=found.kept,
        removed=removed,
        units=units,
        stays=tuple(stays),
        refused=insists,
        unknown=coupling.unknown,
        folded=tuple(sorted(found.dead.folds)),
        worst=found.worst,
        parameters=parameters,
        manifest=manifest,
    )


def _with_earlier(new: Shrinkage, earlier: Shrinkage | None) -> Shrinkage:
    """Return a record in terms of the model that was there before anything was removed."""
    if earlier is None:
        return new
    return replace(new, kept=_composed(earlier.kept, new.kept), manifest=_merged(earlier.manifest, new.manifest))


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
