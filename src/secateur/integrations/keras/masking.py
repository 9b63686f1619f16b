"""Masks beside Keras variables: held by constraints, saved with the model."""

from __future__ import annotations

from typing import Any

import keras
import torch

# A saveable that is neither a layer nor a weight has no public base class.
from keras.src.saving.keras_saveable import KerasSaveable
from torch import Tensor

from secateur.integrations.keras.targets import Variable, find, read

__all__ = ["NAME", "Mask", "Zeros", "attach", "detach", "mask_of", "masks_in", "write"]

NAME = "pruning_mask"
PREFIX = NAME + "_"


class Mask(KerasSaveable):  # type: ignore[misc]
    """The mask of one variable, an attribute of its layer: saved with it, though no weight of it.

    A file saved while pruning is under way loads as the plain model it is, masks left out; loaded into a model that
    is being pruned, it brings them back.
    """

    def __init__(self, target: Variable) -> None:
        # Always a variable: a compiled step would take a constant for what it was when it was compiled.
        self.values = keras.Variable(
            keras.ops.ones(target.variable.shape, dtype="bool"), dtype="bool", trainable=False, name=NAME
        )

    def save_own_variables(self, store: Any) -> None:
        """Write the mask, one byte a weight."""
        store["0"] = keras.ops.convert_to_numpy(self.values.value)

    def load_own_variables(self, store: Any) -> None:
        """Read the mask; a file without masks leaves it as it is."""
        if "0" in store:
            self.values.assign(store["0"])

    def _obj_type(self) -> str:
        return "Loss"  # of the kinds that Keras knows how to walk, the one with nothing inside it


class Zeros:
    """A variable's constraint: what the mask removes is zero, after any constraint that was there before."""

    def __init__(self, mask: Mask, before: Any) -> None:
        self.mask, self.before = mask, before

    def __call__(self, value: Any) -> Any:
        """Return the constrained value."""
        if self.before is not None:
            value = self.before(value)
        value = keras.ops.convert_to_tensor(value)
        return keras.ops.where(self.mask.values.value, value, keras.ops.zeros_like(value))


def mask_of(target: Variable) -> Mask | None:
    """Return the mask of a variable, or None."""
    mask: Mask | None = getattr(target.layer, PREFIX + target.key, None)
    return mask


def attach(target: Variable) -> Mask:
    """Give a variable a mask that keeps everything; return the mask it has if it has one."""
    mask = mask_of(target)
    if mask is None:
        mask = Mask(target)
        setattr(target.layer, PREFIX + target.key, mask)
        target.variable.constraint = Zeros(mask, target.variable.constraint)
    return mask


def detach(target: Variable) -> None:
    """Take the mask of a variable away, and put back the constraint it had."""
    if isinstance(target.variable.constraint, Zeros):
        target.variable.constraint = target.variable.constraint.before
    if hasattr(target.layer, PREFIX + target.key):
        delattr(target.layer, PREFIX + target.key)


def masks_in(model: Any) -> dict[str, tuple[Variable, Mask]]:
    """Return every variable of a model that has a mask, with it, by path."""
    found = ((each, mask_of(each)) for each in find(model, biases=True))
    return {each.name: (each, mask) for each, mask in found if mask is not None}


@torch.no_grad()
def write(target: Variable, mask: Mask, kept: Tensor) -> None:
    """Set a mask, and to zero what it removes. ``kept`` is shaped as the variable."""
    mask.values.assign(_native(kept))
    value = read(target.variable)
    target.variable.assign(_native(value.masked_fill(~kept.to(value.device), 0.0)))


def _native(tensor: Tensor) -> Any:
    if keras.backend.backend() == "torch":
        return tensor
    return keras.ops.convert_to_tensor((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
