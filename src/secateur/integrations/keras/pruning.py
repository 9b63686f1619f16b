"""tfmot's interface: mark what to prune, train with a callback, strip."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from secateur.choose.criteria.magnitude import magnitude
from secateur.choose.granularity import Block, Element, Granularity
from secateur.choose.scope import Allocation, Global, PerTensor, Scope, Window
from secateur.choose.selection import Choice, Criterion
from secateur.integrations.keras.compiled import renew_steps, withdraw_from
from secateur.integrations.keras.masking import Mask, attach, detach, mask_of, masks_in, write
from secateur.integrations.keras.schedules import ConstantSparsity
from secateur.integrations.keras.targets import Pattern, Variable, find, prunable, read
from secateur.masks import Masks
from secateur.train.schedules import Schedule
from secateur.vocabulary import BadTargetError, NamedTensors, NothingPrunedWarning, SelectionError, near_matches

__all__ = ["Group", "Plan", "apply_masks", "groups", "masks_of", "prune", "prune_low_magnitude", "strip_pruning"]

PLAN = "secateur_plan"
Pooling = Literal["AVG", "MAX"]


@dataclass(eq=False)
class Plan:
    """What :func:`prune_low_magnitude` was asked for, noted on the layer or model it was given."""

    schedule: Schedule
    choice: Choice
    include: Sequence[Pattern] | None = None
    ignore: Sequence[Pattern] = ()


@dataclass
class Group:
    """The variables of one plan, which are ranked together."""

    plan: Plan
    members: dict[str, tuple[Variable, Mask]] = field(default_factory=dict)

    def redraw(self, sparsity: float) -> Masks:
        """Prune to ``sparsity`` inside what is kept."""
        weights = NamedTensors({name: target.value() for name, (target, _) in self.members.items()})
        drawn = self.plan.choice(weights, None if _fixed(self.plan.choice) else sparsity, self.masks())
        for name, (target, mask) in self.members.items():
            write(target, mask, target.from_core(drawn[name]))
        return drawn

    def hold(self) -> None:
        """Set to zero what the masks remove."""
        for target, mask in self.members.values():
            write(target, mask, read(mask.values).bool())

    def masks(self) -> Masks:
        """Return the masks as the core sees them, outputs first."""
        return Masks({name: target.to_core(read(mask.values)).bool() for name, (target, mask) in self.members.items()})

    def is_whole(self) -> bool:
        """Return whether nothing was pruned yet."""
        return self.masks().count().removed == 0


def prune_low_magnitude(  # noqa: PLR0913 - tfmot's arguments, and ours by name
    to_prune: Any,
    pruning_schedule: Schedule | None = None,
    block_size: tuple[int, int] = (1, 1),
    block_pooling_type: Pooling = "AVG",
    sparsity_m_by_n: tuple[int, int] | None = None,
    *,
    scope: Literal["layer", "global"] | Scope = "layer",
    criterion: Criterion = magnitude,
    granularity: Granularity | None = None,
    allocation: Allocation | None = None,
    include: Sequence[Pattern] | None = None,
    ignore: Sequence[Pattern] = (),
) -> Any:
    """Mark a model or a layer to be pruned while it trains; train it with :class:`UpdatePruningStep`.

    The model given is the model returned: same class, same layers, same weights. Layers without anything to prune are
    passed over. The interface is that of tfmot's ``prune_low_magnitude``; what follows the star is ours.

    Args:
        to_prune: a ``keras.Model`` of any kind (Sequential, functional, subclassed) or a ``keras.Layer``, built or not.
        pruning_schedule: any schedule of the core; half of the weights at once if None.
        block_size: weights removed together, as rows by columns of a kernel of shape (in, out).
        block_pooling_type: "AVG" or "MAX" of the scores in a block.
        sparsity_m_by_n: remove the m least of every n weights along the inputs; the schedule says only when.
        scope: "layer" gives each the same sparsity, "global" ranks all weights together; or a scope of the core.
        criterion: from weights to scores; any of the core that needs no data.
        granularity: one of the core's, in place of ``block_size``.
        allocation: one of the core's, such as ``secateur.erk``.
        include: names or globs of layers and variables, or layer classes; everything that can be pruned if None.
        ignore: the same, for what to leave out.

    Returns:
        ``to_prune``.

    Raises:
        SelectionError: block, pooling and pattern do not go together.
        BadTargetError: a built model has nothing to prune.

    Example:
        >>> import keras
        >>> from secateur.integrations import keras as sk
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> model = sk.prune_low_magnitude(model, sk.ConstantSparsity(0.75, begin_step=0))
        >>> model.compile("sgd", "mse")
        >>> x = keras.random.normal((16, 8))
        >>> _ = model.fit(x, x[:, :4], verbose=0, callbacks=[sk.UpdatePruningStep()])
        >>> model = sk.strip_pruning(model)
        >>> int(keras.ops.count_nonzero(model.layers[0].kernel.value))
        8
    """
    schedule = ConstantSparsity(0.5, 0) if pruning_schedule is None else pruning_schedule
    choice = Choice(
        criterion,
        granularity or _granularity(block_size, block_pooling_type),
        _scope(scope, sparsity_m_by_n),
        allocation,
    )
    setattr(to_prune, PLAN, Plan(schedule, choice, include, ignore))
    if to_prune.built:
        groups(to_prune)  # so that masks in a file have where to go
    return to_prune


def groups(model: Any) -> list[Group]:
    """Return what is to be pruned in a model, plan by plan, every variable with a mask of its own.

    Train steps that were compiled before a mask was there are compiled anew.

    Raises:
        BadTargetError: nothing was marked, or what was marked has nothing to prune.
    """
    planned: dict[int, tuple[Plan, Variable]] = {}
    for layer in model._flatten_layers(include_self=True):  # what holds others comes before them
        plan = getattr(layer, PLAN, None)
        if plan is not None:  # it counts for all inside, in place of the plan of what holds this layer
            for each in find(layer):
                planned.pop(id(each.variable), None)
            planned |= {id(each.variable): (plan, each) for each in find(layer, plan.include, plan.ignore)}
    found: dict[int, Group] = {}
    fresh = any(mask_of(target) is None for _, target in planned.values())
    for plan, target in planned.values():
        group = found.setdefault(id(plan), Group(plan))
        name = target.name if target.name not in group.members else f"{target.name}:{len(group.members)}"
        group.members[name] = (target, attach(target))
    if not found:
        prunable(model)  # says what there is, if that is nothing
        raise BadTargetError(f"{model.name} is not marked: call prune_low_magnitude on it, or on layers of it, first")
    if fresh:
        renew_steps(model)
    return list(found.values())


def prune(
    model: Any,
    sparsity: float | None = None,
    *,
    choice: Choice = Choice(),  # noqa: B008 - a frozen value
    include: Sequence[Pattern] | None = None,
    ignore: Sequence[Pattern] = (),
    biases: bool = False,
) -> Masks:
    """Prune a built model at once and hold the zeros in the training that follows, until :func:`strip_pruning`.

    Zeros are held by the constraints of variables, wherever a Keras optimizer applies gradients: in ``fit`` and
    ``train_on_batch`` of this model and of any that it is part of, whether they were trained before or not. In a loop
    of your own, compile the step (``tf.function``, ``jax.jit``) after this call, and on JAX again after each further
    one. An optimizer of ``torch.optim`` knows no constraints: call ``apply_masks(model, masks_of(model))`` after its
    step.

    Args:
        model: a ``keras.Model`` or ``keras.Layer``.
        sparsity: share of the weights to remove, in [0, 1]; inside what is pruned already.
        choice: criterion, granularity, scope and allocation of the core.
        include: names or globs of layers and variables, or layer classes; everything that can be pruned if None.
        ignore: the same, for what to leave out.
        biases: also the biases of those layers.

    Returns:
        The masks, outputs first.

    Raises:
        BadTargetError: there is nothing to prune.
        SelectionError: sparsity and choice do not go together.
    """
    targets = find(model, include, ignore, biases)
    if not targets:
        prunable(model, include, ignore)
    group = Group(Plan(ConstantSparsity(0.0, 0), choice), {each.name: (each, attach(each)) for each in targets})
    masks = group.redraw(sparsity)  # type: ignore[arg-type]
    renew_steps(model)
    return masks


def masks_of(model: Any) -> Masks:
    """Return the masks of a model, each shaped as its variable; empty where nothing is being pruned."""
    return Masks({name: read(mask.values).bool().cpu() for name, (_, mask) in masks_in(model).items()})


def apply_masks(model: Any, masks: Mapping[str, Tensor]) -> None:
    """Zero what masks remove, and hold it in the training that follows as :func:`prune` does.

    Args:
        model: a built ``keras.Model`` or ``keras.Layer``.
        masks: as :func:`masks_of` gives them: bool tensors by path, shaped as the variables.

    Raises:
        BadTargetError: a name is no prunable variable of the model, or shapes differ.
    """
    known = {each.name: each for each in find(model, biases=True)}
    for name, mask in masks.items():
        if name not in known:
            raise BadTargetError(f"{model.name} has no prunable variable {name!r}; {near_matches(name, known)}")
        if tuple(mask.shape) != tuple(known[name].variable.shape):
            raise BadTargetError(
                f"the mask of {name!r} has shape {list(mask.shape)}, the variable {list(known[name].variable.shape)}"
            )
    for name, mask in masks.items():
        write(known[name], attach(known[name]), torch.as_tensor(mask))
    renew_steps(model)


def strip_pruning(model: Any) -> Any:
    """End pruning: zeros stay, masks and constraints go; what is saved from now on is a plain Keras model.

    Warns (:class:`secateur.vocabulary.NothingPrunedWarning`) when nothing had been pruned.

    Args:
        model: what :func:`prune_low_magnitude` returned, or any model with such a layer in it.

    Returns:
        The same model.
    """
    held = masks_in(model)
    removed = 0
    for target, mask in held.values():
        kept = read(mask.values).bool()
        removed += int((~kept).sum())
        write(target, mask, kept)  # again: an average of weights over time may have been put in their place
        detach(target)
    if not removed:
        warnings.warn(
            f"nothing of {model.name} was pruned: was it trained with UpdatePruningStep among its callbacks?",
            NothingPrunedWarning,
            stacklevel=2,
        )
    for layer in model._flatten_layers(include_self=True):
        if hasattr(layer, PLAN):
            delattr(layer, PLAN)
    for each in (model, *renew_steps(model)):
        if getattr(each, "optimizer", None) is not None:
            withdraw_from(each.optimizer)
    return model


def _granularity(block_size: tuple[int, int], pooling: str) -> Granularity:
    if block_size == (1, 1):
        return Element()
    reduce: dict[str, Literal["mean", "max"]] = {"AVG": "mean", "MAX": "max"}
    if pooling not in reduce:
        raise SelectionError(f"block_pooling_type is 'AVG' or 'MAX', not {pooling!r}")
    rows, columns = block_size
    return Block(columns, rows, reduce[pooling])


def _scope(scope: str | Scope, m_by_n: tuple[int, int] | None) -> Scope:
    if m_by_n is not None:
        removed, of = m_by_n
        return Window(of - removed, of)
    if isinstance(scope, str):
        if scope not in ("layer", "global"):
            raise SelectionError(f"scope is 'layer', 'global' or a scope of the core, not {scope!r}")
        return PerTensor() if scope == "layer" else Global()
    return scope


def _fixed(choice: Choice) -> bool:
    """Return whether the scope itself says how much goes."""
    return isinstance(choice.scope, Window)
