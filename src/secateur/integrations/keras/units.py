"""Structured pruning of a Keras model: whole neurons and filters, with all that hangs on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from secateur.integrations.keras.building import assign
from secateur.integrations.keras.sizes import counted
from secateur.integrations.keras.tracing import Traced, couple
from secateur.masks import Masks
from secateur.shrink.choosing import UnitChoice, unit_weights

__all__ = ["prune_units"]


def prune_units(model: Any, sparsity: float, example: Any = None, *, choice: UnitChoice | None = None) -> Masks:
    """Remove neurons, filters and coupled channels of a Keras model: choose them and zero them in place.

    :func:`shrink` then deletes them, and what is left can be trained on. Nothing holds the zeros if training goes on
    before that. Units of layers whose configs do not count them stay.

    Args:
        model: a built ``keras.Model`` on the torch backend.
        sparsity: share of the units that may go, in [0, 1].
        example: an array, or what else the model takes, its first axis the batch; made up if left out.
        choice: criterion, scope, allocation and multiple, with the coupling of :func:`couple`; magnitude in one ranking
            if left out.

    Returns:
        The masks, by path, each shaped as its variable.

    Raises:
        BadTargetError: the backend is another, or no example can be made up.
        SelectionError: the sparsity is outside [0, 1], or no unit may go.
        TraceError: the model cannot be traced.

    Example:
        >>> import keras
        >>> from secateur.integrations import keras as sk
        >>> dense = keras.layers.Dense
        >>> model = keras.Sequential([keras.Input((4,)), dense(8), keras.layers.BatchNormalization(), dense(2)])
        >>> masks = sk.prune_units(model, 0.75)
        >>> sk.shrink(model).layers[0].units
        2
    """
    traced = Traced(model)
    choice = choice or UnitChoice(couple(model, example))
    may_shrink = counted(model)
    stay = [name for name, variable in traced.variables.items() if id(variable) not in may_shrink]
    choice = replace(choice, ignore=(*choice.ignore, *stay))
    masks = choice(unit_weights(traced, choice.coupling), sparsity)
    for name, mask in masks.items():
        assign(traced.variables[name], traced.get_parameter(name).masked_fill(~mask, 0.0))
    return masks
