"""The only ranking in the project: mask the k smallest scores, exactly, ties by position.

Large rankings use a radix search: histograms over the bit patterns of the scores narrow the k-th value down 16 bits
at a time, tensor by tensor and chunk by chunk, so memory beyond scores and masks does not grow with the model. A
histogram is a plain sum over chunks; it could as well be a sum over processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

__all__ = ["keep_largest", "keep_largest_in_rows"]

_CHUNK = 1 << 20
_DIGIT = 16


@torch.no_grad()
def keep_largest(
    scores: Mapping[str, Tensor], remove: int, within: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return bool tensors, True = kept, that remove the ``remove`` smallest scores of all tensors together.

    Among equal scores those of earlier names (sorted), then of earlier positions, are removed first. Where
    ``within`` is False an element is already removed: it does not compete, and stays removed.

    Args:
        scores: float tensors by name, without NaN.
        remove: how many to remove, between 0 and the number that compete.
        within: bool tensors of the same names and shapes.

    Example:
        >>> keep_largest({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 2.0])}, 2)
        {'a': tensor([ True, False]), 'b': tensor([False,  True])}
    """
    masks = {}
    for name, score in scores.items():
        # In C order whatever the layout of the scores: position means the same everywhere, and chunks are views.
        whole = torch.ones(score.shape, dtype=torch.bool, device=score.device)
        masks[name] = whole if within is None else whole.copy_(within[name])
    if remove == 0:
        return masks
    wide = torch.float64 if any(s.dtype == torch.float64 for s in scores.values()) else torch.float32
    threshold, ties = _kth_smallest(scores, masks, remove, wide)
    for name in sorted(scores):
        for chunk, mask in _chunks(scores[name], masks[name], wide):
            tied = mask & (chunk == threshold)
            mask.logical_and_(chunk > threshold)
            here = int(tied.sum())
            if here > ties:
                # The first `ties` of the tied go, in order of position; the others stay.
                mask.logical_or_(tied & (tied.cumsum(0) > ties))
            ties = max(0, ties - here)
    return masks


@torch.no_grad()
def keep_largest_in_rows(scores_RN: Tensor, remove: int, within_RN: Tensor) -> Tensor:
    """Return a bool matrix in which every row has its ``remove`` smallest scores removed.

    What ``within_RN`` has removed already counts first; ties go by position.

    Example:
        >>> keep_largest_in_rows(torch.tensor([[1.0, 2.0], [4.0, 3.0]]), 1, torch.ones(2, 2, dtype=torch.bool))
        tensor([[False,  True],
                [ True, False]])
    """
    mask_RN = within_RN.clone()
    if remove == 0 or scores_RN.numel() == 0:
        return mask_RN
    step = max(1, _CHUNK // scores_RN.shape[1])
    for start in range(0, scores_RN.shape[0], step):
        rows = slice(start, start + step)
        order = scores_RN[rows].argsort(dim=1, stable=True)
        # A second stable sort brings what is already removed to the front, each part still by score.
        gone_first = within_RN[rows].gather(1, order).to(torch.uint8).argsort(dim=1, stable=True)
        mask_RN[rows] = mask_RN[rows].scatter(1, order.gather(1, gone_first)[:, :remove], False)
    return mask_RN


def _chunks(score: Tensor, mask: Tensor, wide: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield flat pieces of a score tensor, widened, with views of its (contiguous) mask."""
    flat, flat_mask = score.detach().reshape(-1), mask.view(-1)
    for start in range(0, flat.numel(), _CHUNK):
        # Adding 0 turns -0.0 into 0.0, so that the two tie.
        yield flat[start : start + _CHUNK].to(wide).add(0.0), flat_mask[start : start + _CHUNK]


def _kth_smallest(
    scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], k: int, wide: torch.dtype
) -> tuple[float, int]:
    """Return the k-th smallest competing score and how many equal to it are among the k smallest."""
    bits = torch.finfo(wide).bits
    prefix: int | None = None
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        histogram = torch.zeros(1 << _DIGIT, dtype=torch.int64)
        for name, score in scores.items():
            for chunk, mask in _chunks(score, masks[name], wide):
                histogram += _count_digits(_keys(chunk[mask]), prefix, shift).cpu()
        below = histogram.cumsum(0)
        digit = int(torch.searchsorted(below, k))
        k -= int(below[digit - 1]) if digit else 0
        prefix = digit - (1 << (_DIGIT - 1)) if prefix is None else (prefix << _DIGIT) | digit
    assert prefix is not None
    integer = torch.int64 if bits == 64 else torch.int32
    return _keys(torch.tensor([prefix], dtype=integer).view(wide)).view(wide).item(), k


def _keys(values: Tensor) -> Tensor:
    """Map floats to signed integers of the same order; the map is its own inverse on bit patterns."""
    integers = values.view(torch.int64 if values.dtype == torch.float64 else torch.int32)
    sign = torch.iinfo(integers.dtype).bits - 1
    return integers ^ ((integers >> sign) & torch.iinfo(integers.dtype).max)


def _count_digits(keys: Tensor, prefix: int | None, shift: int) -> Tensor:
    """Count the 16-bit digit at ``shift`` of the keys whose higher bits are ``prefix``."""
    if prefix is None:
        digits = (keys >> shift) + (1 << (_DIGIT - 1))
    else:
        digits = (keys[(keys >> (shift + _DIGIT)) == prefix] >> shift) & ((1 << _DIGIT) - 1)
    return torch.bincount(digits, minlength=1 << _DIGIT)
