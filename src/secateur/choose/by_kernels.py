"""Keys of score tensors counted and cut by the compiled kernels, where the tensors lie."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from secateur.bits import Bits
from secateur.choose.histogram import Cut, Digits, Histogram
from secateur.native import load
from secateur.native.tensors import takes

__all__ = ["KernelKeys", "takes"]


class KernelKeys:
    """The keys of all scores that compete. Threads: ``torch.get_num_threads()``.

    Args:
        scores: tensors that the kernels take (:func:`takes`), in the order in which ties are broken.
        absolute: rank their absolute values.
        within: bits of those that compete; None = all.
    """

    def __init__(self, scores: Mapping[str, Tensor], absolute: bool, within: Mapping[str, Bits] | None) -> None:
        dtypes = {score.dtype for score in scores.values()}
        self.bits = 8 * max(dtype.itemsize for dtype in dtypes)
        if self.bits == 16 and len(dtypes) > 1:
            self.bits = 32
        self._kernels = load()
        self._shapes = {name: score.shape for name, score in scores.items()}
        self._arrays = [score.detach() for score in scores.values()]
        self._within = None if within is None else [within[name].data for name in scores]
        self._absolute = absolute

    def count(self, digits: Digits) -> tuple[Histogram, str | None]:
        """Return a histogram, and the name of a tensor that holds NaN."""
        counts = np.zeros(digits.bins, dtype=np.uint64)
        below, nan = self._kernels.count(*self._what(), digits.first, digits.shift, counts, torch.get_num_threads())
        named = None if nan < 0 else list(self._shapes)[nan]
        return Histogram(digits, below, counts.view(np.int64)), named

    def guess(self, k: int, part: int) -> tuple[int, int]:
        """Return keys between which the ``k``-th of ``part`` may lie, from a sample."""
        low, high = self._kernels.bracket(*self._what(), k, part, torch.get_num_threads())
        return low, high

    def cut(self, cut: Cut) -> dict[str, Bits]:
        """Return what is kept."""
        if self._within is None:
            masks = {name: Bits.ones(shape).data for name, shape in self._shapes.items()}
        else:
            masks = {
                name: torch.from_numpy(data.numpy().copy())
                for name, data in zip(self._shapes, self._within, strict=True)
            }
        arguments = (self.bits, self._absolute, cut.key, cut.ties, cut.tied, torch.get_num_threads())
        left = self._kernels.cut(self._arrays, list(masks.values()), *arguments)
        return {name: Bits(masks[name], self._shapes[name], kept) for name, kept in zip(masks, left, strict=True)}

    def _what(self) -> tuple[list[Tensor], list[Tensor] | list[None], int, bool]:
        return self._arrays, self._within or [None] * len(self._arrays), self.bits, self._absolute
