"""The values every part of the lab passes around: a split of images and labels, and a data set of three."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from secateur.lab.data.lookup import LabError

__all__ = ["Bytes", "Dataset", "Raw", "Split", "channel_statistics", "enlarged", "enlarged_dataset", "placed"]

Bytes = npt.NDArray[np.uint8]

CHUNK = 1024  # images whose sums are taken at once, so that float64 copies stay small


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, decoded into memory.

    Args:
        images: shape (N, C, H, W), float32.
        labels: shape (N,), int64, from 0.

    Raises:
        LabError: a tensor of another shape or type, or not as many labels as images.

    Example:
        >>> len(Split(torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)))
        5
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.float32:
            raise LabError(
                f"images must be float32 of shape (N, C, H, W), not {self.images.dtype} of "
                f"{tuple(self.images.shape)}: call .float(), and .unsqueeze(1) for grey images"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise LabError(
                f"labels must be int64 of shape ({len(self.images)},), one for each image, not "
                f"{self.labels.dtype} of {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one kind of image.

    Args:
        name: what reports call it.
        train, validation, test: splits with images of one shape; validation may be empty.
        classes: labels are in [0, classes).
        augment: whether training batches are to be cropped and flipped at random.
        notes: what a report must say about these images, such as that they were enlarged.

    Raises:
        LabError: splits of different image shapes, an empty training or test split, or a label outside
            the range.

    Example:
        >>> split = Split(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> Dataset("toy", split, split, split, classes=2).shape
        (1, 8, 8)
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    augment: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            split: Split = getattr(self, part)
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise LabError(
                    f"{self.name}: images of {part} are {tuple(split.images.shape[1:])}, those of train "
                    f"{self.shape}; all must have one shape"
                )
            if not len(split):
                if part != "validation":
                    raise LabError(f"{self.name}: the {part} split is empty")
                continue
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.classes:
                raise LabError(
                    f"{self.name}: labels of {part} run from {low} to {high}; with {self.classes} classes "
                    f"they must lie in 0 to {self.classes - 1}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class Raw:
    """A data set as its files hold it: uint8 images (N, C, H, W) and labels (N,), train and test."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes
    notes: tuple[str, ...] = ()


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of (N, C, H, W) images, each (C,), float32.

    Sums are taken in float64. A channel that never changes gets deviation 1, so it can be divided by.

    Example:
        >>> channel_statistics(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
        (tensor([2.]), tensor([1.]))
    """
    count = images.numel() // images.shape[1]
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in torch.split(images, CHUNK):
        exact = chunk.double()
        total += exact.sum(dim=(0, 2, 3))
        squares += exact.square_().sum(dim=(0, 2, 3))
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_(min=0).sqrt_()
    deviation[deviation < 1e-6] = 1.0
    return mean.float(), deviation.float()


def enlarged(images: Tensor, smallest: int) -> Tensor:
    """Return (N, C, H, W) images bilinearly enlarged so that no side is under ``smallest`` pixels.

    Example:
        >>> enlarged(torch.zeros(2, 1, 8, 8), 28).shape
        torch.Size([2, 1, 28, 28])
    """
    height, width = images.shape[2:]
    if min(height, width) >= smallest:
        return images
    size = (max(height, smallest), max(width, smallest))
    if not len(images):
        return images.new_zeros((0, images.shape[1], *size))
    return functional.interpolate(images, size, mode="bilinear", align_corners=False)


def enlarged_dataset(dataset: Dataset, smallest: int) -> Dataset:
    """Return ``dataset`` with each split :func:`enlarged` and a note that says so; itself if large enough.

    Example:
        >>> split = Split(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> enlarged_dataset(Dataset("toy", split, split, split, classes=2), 28).notes
        ('toy: enlarged from 8x8 to 28x28',)
    """
    _, height, width = dataset.shape
    if min(height, width) >= smallest:
        return dataset
    train, validation, test = (
        Split(enlarged(split.images, smallest), split.labels)
        for split in (dataset.train, dataset.validation, dataset.test)
    )
    _, new_height, new_width = train.images.shape[1:]
    note = f"{dataset.name}: enlarged from {height}x{width} to {new_height}x{new_width}"
    return Dataset(dataset.name, train, validation, test, dataset.classes, dataset.augment, (*dataset.notes, note))


def placed(data: Dataset, device: str = "cpu", channels_last: bool = False) -> Dataset:
    """Return the same images on a device; with the channels innermost in memory, as convolutions on CPU like them.

    Example:
        >>> split = Split(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))
        >>> placed(Dataset("toy", split, split, split, classes=2), channels_last=True).train.images.stride()
        (192, 1, 24, 3)
    """
    memory = torch.channels_last if channels_last else torch.contiguous_format

    def moved(split: Split) -> Split:
        return Split(split.images.to(device).contiguous(memory_format=memory), split.labels.to(device))

    return replace(data, train=moved(data.train), validation=moved(data.validation), test=moved(data.test))
