"""What was made of a weight: kept as long as its memory is, and made again when the weight changes."""

from __future__ import annotations

import atexit
import threading
import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from secateur.engine.accelerating.programs import ConvPrograms, Floats, LinearPrograms, Window

__all__ = ["Matrix", "Pair", "Programs", "Use", "array", "constants", "forget", "programs"]

# Weights that are not zero, ones that are, and biases that are looked at before each use.
_LOOKED_AT = (4, 1, 2)


@dataclass(frozen=True)
class Matrix:
    """A weight that multiplies rows: of the shape [outputs, inputs], or [inputs, outputs] if transposed."""

    transposed: bool = False


Use: TypeAlias = "Matrix | Window"
Pair: TypeAlias = "tuple[Tensor, Tensor | None]"
Programs: TypeAlias = "LinearPrograms | ConvPrograms"


@dataclass(frozen=True, eq=False)
class _Known:
    """What was made of a weight and a bias, and how to see that they are what they were."""

    programs: Programs
    tuned: bool
    bias: weakref.ref[Any] | None
    versions: tuple[int, int]
    places: tuple[list[int], list[int]]
    numbers: list[float]

    def still(self, pair: Pair) -> bool:
        """Return whether this is good for a weight and a bias.

        Writing to a tensor counts its version up, but not where it goes through ``.data``: so a few weights and biases
        are looked at too.
        """
        if self.versions != _versions(pair) or self.numbers != _at(self.places, pair):
            return False
        return self.bias is None if pair[1] is None else self.bias is not None and self.bias() is _memory(pair[1])


# By the memory of the weight, whoever else looks at it: compiled graphs are given other tensors over the same memory.
_KNOWN: weakref.WeakKeyDictionary[Any, dict[Any, _Known]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()
# Operators of torch outlive this module: at the end nothing may hang on them.
atexit.register(_KNOWN.clear)


def programs(pair: Pair, use: Use, *, tuned: bool | None = None) -> Programs:
    """Return what computes with a weight and a bias.

    Args:
        pair: weight and bias; float32 on the CPU, not made in inference mode.
        use: what is done with them.
        tuned: whether each program is tuned when it is made; None leaves that as it is, not at first.

    Example:
        >>> import torch
        >>> weight = torch.eye(3)
        >>> programs((weight, None), Matrix()) is programs((weight, None), Matrix())
        True
        >>> made = programs((weight, None), Matrix())
        >>> made is programs((weight.mul_(2), None), Matrix())
        False
    """
    key = _key(pair, use)
    with _LOCK:
        known = _KNOWN.setdefault(_memory(pair[0]), {})
        found = known.get(key)
        if found is not None and found.still(pair) and tuned in (None, found.tuned):
            return found.programs
        for other in [other for other, each in known.items() if each.bias is not None and each.bias() is None]:
            del known[other]
        known[key] = _made(pair, use, tuned=found is not None and found.tuned if tuned is None else tuned)
        return known[key].programs


def forget(pair: Pair, use: Use) -> None:
    """Give back the memory of what was made."""
    with _LOCK:
        _KNOWN.get(_memory(pair[0]), {}).pop(_key(pair, use), None)


def constants(pair: Pair, use: Use) -> dict[str, Floats]:
    """Return weight and bias as the operators of a plan have them."""
    weight = array(pair[0])
    if isinstance(use, Window):
        weight = weight.reshape(*weight.shape[:2], *use.kernel)
    elif use.transposed:
        weight = weight.T
    return {"weight": weight} if pair[1] is None else {"weight": weight, "bias": array(pair[1])}


def array(tensor: Tensor) -> Floats:
    """Return the numbers of a float32 tensor on the CPU where they lie, if that is possible."""
    found: Floats = tensor.numpy(force=True)
    return found


def _made(pair: Pair, use: Use, *, tuned: bool) -> _Known:
    given = constants(pair, use)
    made = ConvPrograms(given, use, tuned=tuned) if isinstance(use, Window) else LinearPrograms(given, tuned=tuned)
    bias = None if pair[1] is None else weakref.ref(_memory(pair[1]))
    weight = array(pair[0])
    kept, removed, of_bias = _LOOKED_AT
    places = _some(np.isfinite(weight) & (weight != 0), kept) + _some(weight == 0, removed)
    looked_at = places, [] if pair[1] is None else _some(np.isfinite(array(pair[1])), of_bias)
    return _Known(made, tuned, bias, _versions(pair), looked_at, _at(looked_at, pair))


def _some(wanted: npt.NDArray[np.bool_], count: int) -> list[int]:
    """Return some places where an array is true, far from each other."""
    places = np.flatnonzero(wanted)
    found: list[int] = places[:: max(1, len(places) // count)].tolist()
    return found[:count]


def _key(pair: Pair, use: Use) -> tuple[Any, ...]:
    weight, bias = pair
    own = None if bias is None else (bias.data_ptr(), bias.stride())
    return weight.storage_offset(), weight.shape, weight.stride(), use, own


def _memory(tensor: Tensor) -> Any:
    return tensor.untyped_storage()


def _versions(pair: Pair) -> tuple[int, int]:
    return pair[0]._version, -1 if pair[1] is None else pair[1]._version


def _at(places: tuple[list[int], list[int]], pair: Pair) -> list[float]:
    numbers = array(pair[0])
    found = [numbers.item(place) for place in places[0]]
    if pair[1] is not None:
        of_bias = array(pair[1])
        found += [of_bias.item(place) for place in places[1]]
    return found
