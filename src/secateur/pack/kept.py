"""An array without its zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Kept", "count_kept", "kept"]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Kept:
    """An array without its zeros; ``numpy.asarray`` puts them back.

    Attributes:
        shape: of the whole array.
        places: of what is not zero, in the array read row by row; ascending. Shape [N].
        values: what is there, shape [N].

    Example:
        >>> Kept((2, 2), np.array([3]), np.array([0.5])).dense()
        array([[0. , 0. ],
               [0. , 0.5]])
    """

    shape: tuple[int, ...]
    places: Array
    values: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.values.dtype

    @property
    def size(self) -> int:
        """Elements of the whole array."""
        return math.prod(self.shape)

    def dense(self) -> Array:
        """Return the whole array."""
        flat_N = np.zeros(self.size, self.dtype)
        flat_N[self.places] = self.values
        return flat_N.reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.dense() if dtype is None else self.dense().astype(dtype, copy=False)


def kept(array: Array | Kept) -> Kept:
    """Return an array without its zeros.

    Example:
        >>> kept(np.array([[0.0, 2.0]])).places
        array([1])
    """
    if isinstance(array, Kept):
        return array
    flat_N = np.ascontiguousarray(array).reshape(-1)
    places = np.flatnonzero(flat_N)
    return Kept(array.shape, places, flat_N[places])


def count_kept(array: Array | Kept) -> int:
    """Return how many elements are not zero.

    Example:
        >>> count_kept(np.array([[0.0, 2.0]]))
        1
    """
    return len(array.values) if isinstance(array, Kept) else int(np.count_nonzero(array))
