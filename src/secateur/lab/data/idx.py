"""MNIST and Fashion-MNIST: images and labels in IDX files, gzipped or not.

The format is described by LeCun, Cortes and Burges on the MNIST page: two zero bytes, a type byte
(8 = unsigned), the number of dimensions, each dimension as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from secateur.lab.data.dataset import Bytes, Raw
from secateur.vocabulary import CorruptFileError

__all__ = ["IDX_FILES", "read_idx", "read_idx_files"]

PARTS = {
    "train images": "train-images{}idx3-ubyte",
    "train labels": "train-labels{}idx1-ubyte",
    "test images": "t10k-images{}idx3-ubyte",
    "test labels": "t10k-labels{}idx1-ubyte",
}

# Some tools unpack the files under a name with a dot before "idx".
IDX_FILES: dict[str, tuple[str, ...]] = {
    part: (name.format("-") + ".gz", name.format("-"), name.format(".") + ".gz", name.format("."))
    for part, name in PARTS.items()
}

PUBLISHED = (60_000, 10_000)

# The two sets share their file names; the md5 of the 60,000 training labels tells them apart.
TRAIN_LABELS = {
    "mnist": "e86ee40d66677c011a9abda399ec8c4d",
    "fashion-mnist": "3236f6424fc25388b2834cb19942cf7e",
}


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Return the array of an IDX file of unsigned bytes, gzipped or not.

    Args:
        path: the file.
        dimensions: how many the array must have: 3 for images, 1 for labels.

    Raises:
        CorruptFileError: the file is damaged, cut short, too long, empty of items, or another kind of file.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> _ = (folder / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
        >>> read_idx(folder / "labels", 1)
        array([7, 3], dtype=uint8)
    """
    data = _unzipped(path)
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise CorruptFileError(f"{path} holds {len(data)} bytes, fewer than an IDX header: fetch it again")
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise CorruptFileError(
            f"{path} begins with {data[:4].hex()}, not {bytes([0, 0, 8, dimensions]).hex()}: it is not an "
            f"IDX file of bytes in {dimensions} dimension(s)"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape) or not math.prod(shape):
        raise CorruptFileError(
            f"{path} should hold {' x '.join(map(str, shape))} bytes after its header, but holds "
            f"{len(data) - header:,}: it was damaged or cut short; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _unzipped(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptFileError(f"{path} is not a whole gzip file ({error}): fetch it again") from error


def read_idx_files(name: str, paths: Mapping[str, Path]) -> Raw:
    """Read the four files of ``mnist`` or ``fashion-mnist``.

    Args:
        name: which of the two, to notice files of the other.
        paths: a path for each key of ``IDX_FILES``.

    Raises:
        CorruptFileError: a damaged file, images that are not 28x28, a label over 9, not one label for each
            image, or the files of the other data set.
    """
    train_images, train_labels = _pair(paths["train images"], paths["train labels"])
    test_images, test_labels = _pair(paths["test images"], paths["test labels"])
    digest = hashlib.md5(train_labels.tobytes(), usedforsecurity=False).hexdigest()
    for other, known in TRAIN_LABELS.items():
        if digest == known and other != name:
            raise CorruptFileError(f"{paths['train labels']} belongs to {other}, not to {name}")
    counts = (len(train_images), len(test_images))
    notes: tuple[str, ...] = ()
    if counts != PUBLISHED:
        notes = (
            f"{name}: {counts[0]:,} training and {counts[1]:,} test images, not the published "
            f"{PUBLISHED[0]:,} and {PUBLISHED[1]:,}",
        )
    return Raw(train_images, train_labels, test_images, test_labels, notes)


def _pair(image_path: Path, label_path: Path) -> tuple[Bytes, Bytes]:
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if images.shape[1:] != (28, 28):
        raise CorruptFileError(f"{image_path} holds {images.shape[1]}x{images.shape[2]} images, not 28x28")
    if len(images) != len(labels):
        raise CorruptFileError(
            f"{label_path} holds {len(labels):,} labels for the {len(images):,} images of {image_path}"
        )
    if labels.max() > 9:
        raise CorruptFileError(f"{label_path} holds the label {labels.max()}; labels go from 0 to 9")
    return images[:, None], labels
