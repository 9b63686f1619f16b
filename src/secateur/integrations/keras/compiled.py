"""What a compiled train step knows of masks: constraints as they were when it was compiled; on JAX also the values."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from secateur.integrations.keras.masking import NAME, Mask

__all__ = ["renew_steps", "show_to", "withdraw_from"]


def renew_steps(layer: Any) -> list[Any]:
    """Let every model that trains variables of a layer compile its train step anew, at its next step; return them.

    Keras keeps the compiled step from one ``fit`` to the next, and it trains on without constraints that came later. On
    torch there is nothing to do: a step is not compiled, or sees for itself what changed.
    """
    backend = keras.backend.backend()
    models = [] if backend == "torch" else _trained_with(layer)
    for model in models:
        model.make_train_function(force=True)  # never None: fit may be under way, and this a callback
        if backend == "jax":
            import jax

            # JAX keeps what it compiled of a method for as long as anyone has the old function.
            jax.jit(model.train_step).clear_cache()
    return models


def _trained_with(layer: Any) -> list[Any]:
    """Return all models that trained variables of a layer or model since they were compiled, itself among them."""
    inside = {id(variable) for variable in layer.variables}
    # A layer does not know what it is part of. By type: asking some objects for their class has them do things.
    models = (each for each in gc.get_objects() if issubclass(type(each), keras.Model))
    trained = [each for each in models if getattr(each, "train_function", None) is not None]
    return [each for each in trained if any(id(variable) in inside for variable in each.variables)]


def show_to(optimizer: Any, masks: Sequence[Mask]) -> None:
    """Let JAX's compiled train step see masks change: it knows variables of its optimizer, and no constraint's.

    They are left out of what the optimizer saves, so that files fit an optimizer without them.
    """
    if keras.backend.backend() != "jax":
        return
    withdraw_from(optimizer)
    *_, innermost = _nested(optimizer)  # it is the one that applies constraints
    held = innermost._variables
    held.extend(mask.values for mask in masks)

    def hidden(method: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(store: Any) -> None:
            shown = list(held)
            held[:] = _without_masks(shown)
            try:
                method(store)
            finally:
                held[:] = shown

        return call

    for each in _nested(optimizer):
        each.save_own_variables = hidden(each.save_own_variables)
        each.load_own_variables = hidden(each.load_own_variables)


def withdraw_from(optimizer: Any) -> None:
    """Undo :func:`show_to`."""
    if keras.backend.backend() != "jax":
        return
    for each in _nested(optimizer):
        each.__dict__.pop("save_own_variables", None)
        each.__dict__.pop("load_own_variables", None)
        each._variables[:] = _without_masks(each._variables)


def _nested(optimizer: Any) -> Iterator[Any]:
    """Yield an optimizer and those inside it: mixed precision scales the loss around another."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


def _without_masks(variables: Sequence[Any]) -> list[Any]:
    return [each for each in variables if each.name != NAME]
