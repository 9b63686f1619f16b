"""What an engine is called with, as the kernels take it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.plan import Value
from secateur.vocabulary import SecateurError

__all__ = ["InputError", "as_array"]

Array: TypeAlias = npt.NDArray[Any]

# Whole numbers up to here are floats too.
_WHOLE = 1 << 24


class InputError(SecateurError, ValueError):
    """An engine was called with arrays that do not fit its network, or asked for what this processor lacks."""


def as_array(name: str, value: Value, given: Any) -> Array:
    """Return an input as float32, aligned and in C order.

    Args:
        name: of the input.
        value: its shape and type, of one sample.
        given: an array or tensor with a batch axis in front, on any device; or anything NumPy makes an array of.

    Raises:
        InputError: it has another shape, or holds what are no numbers, or too large ones where indices are needed.

    Example:
        >>> as_array("x", Value((2,)), [[1, 2]])
        array([[1., 2.]], dtype=float32)
    """
    array = np.asarray(_from_torch(given) if hasattr(given, "detach") else given)
    if array.shape[1:] != value.shape or array.ndim != len(value.shape) + 1:
        raise InputError(f"{name} is {list(array.shape)}, not {['samples', *value.shape]}".replace("'", ""))
    whole = value.dtype == "I64"
    if array.dtype.kind not in ("iub" if whole else "fiub"):
        raise InputError(f"{name} holds {array.dtype}, not {'whole' if whole else 'real'} numbers")
    if whole and array.size and max(int(array.max()), -int(array.min())) >= _WHOLE:
        raise InputError(f"{name} holds {array.min()} to {array.max()}; whole numbers below 2^24 can be told apart")
    return np.require(array, np.float32, ["C", "A"])


def _from_torch(given: Any) -> Array:
    try:
        array: Array = given.numpy(force=True)
    except TypeError:  # of a type that NumPy lacks
        array = given.float().numpy(force=True)
    return array
