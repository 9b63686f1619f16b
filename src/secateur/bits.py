"""A bool tensor at one bit an element: how large masks are held, in memory as in files."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Bits"]

_SET_BITS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Bits:
    """An immutable bool tensor on the CPU, packed.

    Args:
        data: uint8, elements in C order, the first of a byte in its highest bit (as ``numpy.packbits`` writes them);
            the bits that fill up the last byte are 0.
        shape: of the bool tensor.
        known: how many bits are set, where that has been counted already.

    Raises:
        ValueError: data and shape do not fit.

    Example:
        >>> bits = Bits.of(torch.tensor([[True, False, True]]))
        >>> bits.data.tolist(), bits.kept, bits.unpack()
        ([160], 2, tensor([[ True, False,  True]]))
    """

    data: Tensor
    shape: torch.Size
    known: int | None = None

    def __post_init__(self) -> None:
        size = self.numel()
        if size < 0 or self.data.dtype != torch.uint8 or self.data.shape != ((size + 7) // 8,):
            raise ValueError(f"{self.data.numel()} bytes of {self.data.dtype} for bits of shape {list(self.shape)}")
        if size % 8 and int(self.data[-1]) & (0xFF >> size % 8):
            raise ValueError("the last byte has bits set beyond the last element")

    @classmethod
    def of(cls, mask: Tensor) -> Bits:
        """Pack a bool tensor."""
        return cls(torch.from_numpy(np.packbits(mask.detach().cpu().numpy())), mask.shape)

    @classmethod
    def ones(cls, shape: torch.Size) -> Bits:
        """Return bits that are all set."""
        size = math.prod(shape)
        # By NumPy: torch would wake its threads, which costs more than the bytes where processors are busy.
        data = np.full((size + 7) // 8, 0xFF, dtype=np.uint8)
        if size % 8:
            data[-1] = (0xFF00 >> size % 8) & 0xFF
        return cls(torch.from_numpy(data), shape, size)

    def unpack(self) -> Tensor:
        """Return the bool tensor, a new one."""
        flat = np.unpackbits(self.data.numpy(), count=self.numel())
        return torch.from_numpy(flat).view(torch.bool).reshape(self.shape)

    def numel(self) -> int:
        """Return how many elements there are."""
        return math.prod(self.shape)

    @functools.cached_property
    def kept(self) -> int:
        """How many bits are set."""
        if self.known is not None:
            return self.known
        data = self.data.numpy()
        parts = (_SET_BITS[data[i : i + _CHUNK]] for i in range(0, len(data), _CHUNK))
        return sum(int(part.sum(dtype=np.int64)) for part in parts)

    def combine(self, other: Bits, operation: Callable[[Tensor, Tensor], Tensor]) -> Bits:
        """Return what a bitwise operation that keeps 0 from 0 and 0, as AND and OR do, makes of two of one shape."""
        return Bits(operation(self.data, other.data), self.shape)

    def __invert__(self) -> Bits:
        return Bits(self.data ^ Bits.ones(self.shape).data, self.shape)
