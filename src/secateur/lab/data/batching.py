"""Batches of a split: shuffled, cropped and flipped as whole tensors, never image by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from secateur.lab.data.dataset import Split
from secateur.lab.data.lookup import LabError

__all__ = ["batch_count", "batches"]

PADDING = 4


def batch_count(split: Split, size: int) -> int:
    """Return how many batches :func:`batches` gives, a last smaller one included.

    Raises:
        LabError: ``size`` is under 1.

    Example:
        >>> batch_count(Split(torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)), 2)
        3
    """
    if size < 1:
        raise LabError(f"a batch must hold at least 1 image, not {size}")
    return -(-len(split) // size)


def batches(
    split: Split, size: int, generator: torch.Generator | None = None, augment: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the images and labels of ``split``, ``size`` at a time; the last batch may be smaller.

    Args:
        split: what to go through once, on any device.
        size: images in a batch, at least 1.
        generator: source of the order and of the augmentation; without it the order is that of the split,
            and batches are views of it: do not write into them.
        augment: shift each image by up to 4 pixels each way (a random crop of the image padded with 4
            zeros, which after standardising are the mean colour) and mirror every second one, by chance.
            He et al. (2016), arXiv:1512.03385, section 4.2.

    Raises:
        LabError: ``size`` is under 1, or ``augment`` without a generator.

    Example:
        >>> split = Split(torch.zeros(5, 1, 8, 8), torch.arange(5))
        >>> [labels.tolist() for _, labels in batches(split, 2)]
        [[0, 1], [2, 3], [4]]
    """
    batch_count(split, size)
    if generator is None:
        if augment:
            raise LabError("augment=True draws at random: pass a generator, such as torch.Generator()")
        return _in_order(split, size)
    order = torch.randperm(len(split), generator=generator, device=generator.device)
    chunks = [order[start : start + size] for start in range(0, len(split), size)]
    return _shuffled(split, chunks, generator if augment else None)


def _in_order(split: Split, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(split), size):
        yield split.images[start : start + size], split.labels[start : start + size]


def _shuffled(
    split: Split, chunks: Iterable[Tensor], augmentation: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    for chunk in chunks:
        rows = chunk.to(split.images.device)
        images = split.images.index_select(0, rows)
        if augmentation is not None:
            images = _crop_and_flip(images, augmentation)
        yield images, split.labels.index_select(0, rows)


def _crop_and_flip(x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image shifted by its own offset and mirrored or not."""
    count, _, height, width = x_BCHW.shape
    source = generator.device
    offsets = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator, device=source)
    mirrored = torch.randint(0, 2, (count, 1, 1, 1), generator=generator, device=source)
    padded = functional.pad(x_BCHW, (PADDING,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 9, 9, H, W), a view
    rows = torch.arange(count, device=x_BCHW.device)
    down, right = offsets.to(x_BCHW.device)
    cropped = windows[rows, :, down, right]
    return torch.where(mirrored.to(x_BCHW.device).bool(), cropped.flip(3), cropped)
