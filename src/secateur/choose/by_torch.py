"""Keys of score tensors counted and cut with torch alone, in chunks: for any device, and where kernels are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from secateur.choose.histogram import Cut, Digits, Histogram

__all__ = ["TorchKeys"]

CHUNK = 1 << 20
_INTEGERS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


class TorchKeys:
    """The keys of all scores that compete, as :class:`secateur.choose.by_kernels.KernelKeys` has them.

    Here keys are signed integers, lower by ``_offset`` than the unsigned ones unless values are absolute.

    Args:
        scores: float tensors, in the order in which ties are broken.
        absolute: rank their absolute values.
        within: bool tensors of those that compete; None = all.
    """

    def __init__(self, scores: Mapping[str, Tensor], absolute: bool, within: Mapping[str, Tensor] | None) -> None:
        dtypes = {score.dtype for score in scores.values()}
        wide = torch.float64 if torch.float64 in dtypes else torch.float32
        self._wide = dtypes.pop() if len(dtypes) == 1 else wide
        self.bits = 8 * self._wide.itemsize
        self._scores = scores
        self._absolute = absolute
        self._within = within
        self._offset = 0 if absolute else 1 << (self.bits - 1)

    def count(self, digits: Digits) -> tuple[Histogram, str | None]:
        """Return a histogram, and the name of a tensor that holds NaN."""
        below, nan = 0, None
        counts = torch.zeros(digits.bins, dtype=torch.int64)
        low, high = self._clamped(digits.low), self._clamped(digits.high)
        for name, score in self._scores.items():
            mask = None if self._within is None else self._within[name].reshape(-1)
            for start, keys, has_nan in self._chunks(score):
                nan = nan or (name if has_nan else None)
                part = keys if mask is None else keys[mask[start : start + CHUNK]]
                below += int((part < low).sum())
                inside = part[(part >= low) & (part <= high)]
                # Shifted and widened before they are subtracted: the difference of two keys may not fit.
                found = (inside >> digits.shift).long() - ((digits.low - self._offset) >> digits.shift)
                counts += torch.bincount(found, minlength=digits.bins).cpu()
        return Histogram(digits, below, counts.numpy()), nan

    def guess(self, k: int, part: int) -> None:
        """Leave the search to start from all keys."""

    def cut(self, cut: Cut) -> dict[str, Tensor]:
        """Return what is kept."""
        key, ties, masks = cut.key - self._offset, cut.ties, {}
        for name, score in self._scores.items():
            # In C order whatever the layout of the scores: position means the same everywhere, and chunks are views.
            whole = torch.ones(score.shape, dtype=torch.bool, device=score.device)
            masks[name] = whole if self._within is None else whole.copy_(self._within[name])
            for start, keys, _ in self._chunks(score):
                mask = masks[name].view(-1)[start : start + CHUNK]
                tied = mask & (keys == key)
                mask.logical_and_(keys > key)
                here = int(tied.sum())
                if here > ties:
                    # The first `ties` of the tied go, in order of position; the others stay.
                    mask.logical_or_(tied & (tied.cumsum(0) > ties))
                ties = max(0, ties - here)
        return masks

    def _chunks(self, score: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        """Yield the place of flat pieces of a tensor, their keys, and whether they hold NaN."""
        flat = score.detach().reshape(-1)
        integer = _INTEGERS[self._wide]
        lowest, highest = torch.iinfo(integer).min, torch.iinfo(integer).max
        infinity = int(torch.tensor(torch.inf, dtype=self._wide).view(integer))
        for start in range(0, flat.numel(), CHUNK):
            patterns = flat[start : start + CHUNK].to(self._wide).view(integer)
            magnitudes = patterns & highest
            has_nan = bool((magnitudes > infinity).any())
            if self._absolute:
                yield start, magnitudes, has_nan
                continue
            # Negative floats, as integers, are in the order of their magnitudes: turn it round. -0.0 ties with 0.0.
            keys = torch.where(patterns < 0, patterns ^ highest, patterns)
            yield start, keys.masked_fill_(patterns == lowest, 0), has_nan

    def _clamped(self, key: int) -> int:
        """Return a key as the signed integer it is here; those no score has, as the nearest that fits."""
        limits = torch.iinfo(_INTEGERS[self._wide])
        return min(max(key - self._offset, limits.min), limits.max)
