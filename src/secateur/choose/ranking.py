"""The only ranking in the project: mask the k smallest scores, exactly, ties by position.

Large rankings look for the k-th key in histograms (:mod:`secateur.choose.histogram`) that the compiled kernels, or
torch in chunks, count tensor by tensor: no tensor is copied or joined to another, and memory beyond scores and masks
does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.bits import Bits
from secateur.choose.by_kernels import KernelKeys, takes
from secateur.choose.by_torch import TorchKeys
from secateur.choose.histogram import Cut, Digits, Histogram, kth
from secateur.masks import Masks
from secateur.vocabulary import SelectionError

__all__ = ["keep_largest", "keep_largest_in_rows", "over_mean"]

_CHUNK = 1 << 20


@torch.no_grad()
def keep_largest(
    scores: Mapping[str, Tensor],
    remove: int,
    within: Mapping[str, Tensor] | None = None,
    *,
    absolute: bool = False,
) -> Masks:
    """Return masks that remove the ``remove`` smallest scores of all tensors together.

    Among equal scores those of earlier names (sorted), then of earlier positions, are removed first. Where
    ``within`` is False an element is already removed: it does not compete, and stays removed.

    Args:
        scores: float tensors by name.
        remove: how many to remove, between 0 and the number that compete.
        within: bool tensors of the same names and shapes.
        absolute: rank the absolute values of the scores.

    Raises:
        SelectionError: a score is NaN.

    Example:
        >>> masks = keep_largest({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 2.0])}, 2)
        >>> masks["a"], masks["b"]
        (tensor([ True, False]), tensor([False,  True]))
    """
    if not scores:
        return Masks({})
    held = None if within is None else within if isinstance(within, Masks) else Masks(within)
    part = sum(score.numel() for score in scores.values()) if held is None else held.count().kept
    keys = _keys({name: scores[name] for name in sorted(scores)}, absolute, held)

    def count(digits: Digits) -> Histogram:
        histogram, nan = keys.count(digits)
        if nan is not None:
            raise SelectionError(f"the scores of {nan!r} hold NaN: mend the weights or the criterion")
        return histogram

    if remove == 0:
        count(Digits(0, 0, 1))  # for NaN
        cut = Cut(0, 0, 0)
    else:
        cut = kth(remove, keys.bits, count, keys.guess(remove, part))
    masks = keys.cut(cut)
    return Masks({name: masks[name] for name in scores})


def over_mean(score: Tensor) -> Tensor:
    """Return the scores (U,) of a layer's units over the mean size of those not 0, a scale that layers share.

    Units that are gone score 0. Counted in the mean they would lift those that their layer has left above another
    layer's, which the next round would then all but empty.

    Example:
        >>> over_mean(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 0.5000, 1.5000])
    """
    some = score[score != 0].abs()
    return score / some.mean() if len(some) else score


def _keys(scores: Mapping[str, Tensor], absolute: bool, within: Masks | None) -> KernelKeys | TorchKeys:
    if not takes(scores.values()):
        return TorchKeys(scores, absolute, within)
    if within is None:
        return KernelKeys(scores, absolute, None)
    held = within.stored
    bits = {name: mask if isinstance(mask := held[name], Bits) else Bits.of(mask) for name in scores}
    return KernelKeys(scores, absolute, bits)


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
