"""CIFAR-10: the published binary batches, the archive they come in, or lossless WebP mosaics of them.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A record of a binary batch is a
label byte, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row. In a mosaic, image k of the batch
of 10,000 sits at row k // 100 and column k % 100; labels are raw bytes in files of their own. A
``test_inexact.json`` beside the mosaics lists test images that are not those published.

The pickled "python version" is not read: opening a pickle runs what is in it.
"""

from __future__ import annotations

import gzip
import math
import tarfile
import zlib
from pathlib import Path

import numpy as np

from secateur.files import read_json
from secateur.lab.data.dataset import Bytes, Raw
from secateur.vocabulary import CorruptFileError, MissingExtraError

__all__ = ["ARCHIVE", "BINARY_FILES", "WEBP_FILES", "read_archive", "read_binary", "read_mosaics"]

BATCH = 10_000  # images in each published batch
RECORD = 1 + 3 * 32 * 32

ARCHIVE = "cifar-10-binary.tar.gz"
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
BINARY_FILES = tuple(f"{batch}.bin" for batch in BATCHES)
WEBP_FILES = (*(f"{batch}.webp" for batch in BATCHES), "train_labels.bin", "test_labels.bin")


def read_binary(folder: Path) -> Raw:
    """Read the six binary batches in ``folder``.

    Raises:
        CorruptFileError: a batch of another size, or with a label over 9.
    """
    return _joined([_records((folder / file).read_bytes(), str(folder / file)) for file in BINARY_FILES])


def read_archive(path: Path) -> Raw:
    """Read the six binary batches inside the published ``.tar.gz``, without unpacking it on disk.

    Raises:
        CorruptFileError: the archive is damaged, a batch is not in it, or a batch is wrong.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and Path(member.name).name in BINARY_FILES:
                    found[Path(member.name).name] = content.read()
            while stream.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise CorruptFileError(f"{path} is not a whole .tar.gz archive ({error}): fetch it again") from error
    for file in BINARY_FILES:
        if file not in found:
            raise CorruptFileError(
                f"{path} holds no {file}: it was cut short, or it is not the binary version of CIFAR-10"
            )
    return _joined([_records(found[file], f"{path}: {file}") for file in BINARY_FILES])


def _records(data: bytes, source: str) -> tuple[Bytes, Bytes]:
    """Return images (N, 3, 32, 32) and labels (N,) of one binary batch."""
    if len(data) != BATCH * RECORD:
        raise CorruptFileError(
            f"{source} holds {len(data):,} bytes, not {BATCH:,} records of {RECORD:,}: it was damaged or "
            "cut short, or it is not a binary batch of CIFAR-10"
        )
    records = np.frombuffer(data, np.uint8).reshape(BATCH, RECORD)
    return records[:, 1:].reshape(BATCH, 3, 32, 32), _checked(records[:, 0], source)


def _checked(labels: Bytes, source: str) -> Bytes:
    if labels.max() > 9:
        raise CorruptFileError(f"{source} holds the label {labels.max()}; labels go from 0 to 9")
    return labels


def _joined(batches: list[tuple[Bytes, Bytes]]) -> Raw:
    *train, (test_images, test_labels) = batches
    train_images = np.concatenate([images for images, _ in train])
    return Raw(train_images, np.concatenate([labels for _, labels in train]), test_images, test_labels)


def read_mosaics(folder: Path) -> Raw:
    """Read the six WebP mosaics and two label files in ``folder``; drop test images that are not exact.

    Raises:
        CorruptFileError: a damaged or lossy mosaic, one of another size, a label file of another length or
            with a label over 9, or a list of inexact images that makes no sense.
        MissingExtraError: Pillow is not installed.
    """
    train_labels = _labels(folder / "train_labels.bin", 5 * BATCH)
    test_labels = _labels(folder / "test_labels.bin", BATCH)
    *train, test_images = [_mosaic(folder / f"{batch}.webp") for batch in BATCHES]
    train_images = np.concatenate(train)
    inexact = _inexact(folder / "test_inexact.json")
    if not inexact:
        return Raw(train_images, train_labels, test_images, test_labels)
    note = f"{BATCH - len(inexact):,} of {BATCH:,} test images: {len(inexact)} that are not exact were dropped"
    keep = np.delete(np.arange(BATCH), inexact)
    return Raw(train_images, train_labels, test_images[keep], test_labels[keep], (note,))


def _labels(path: Path, count: int) -> Bytes:
    data = path.read_bytes()
    if len(data) != count:
        raise CorruptFileError(f"{path} holds {len(data):,} labels, not {count:,}")
    return _checked(np.frombuffer(data, np.uint8), str(path))


def _mosaic(path: Path) -> Bytes:
    """Return the images (N, 3, 32, 32) of one mosaic."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(f"reading {path} needs Pillow: pip install 'secateur[lab]'") from error
    side = math.isqrt(BATCH)
    with path.open("rb") as file:
        if file.read(16)[8:] == b"WEBPVP8 ":
            raise CorruptFileError(f"{path} is a lossy WebP file: its images are not those of CIFAR-10")
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            size = image.size
            pixels = np.asarray(image.convert("RGB")) if size == (32 * side, 32 * side) else None
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path} is not a whole WebP file ({error})") from error
    if pixels is None:
        raise CorruptFileError(f"{path} is {size[0]}x{size[1]} pixels, not {32 * side}x{32 * side}")
    tiles = pixels.reshape(side, 32, side, 32, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(side * side, 3, 32, 32)


def _inexact(path: Path) -> list[int]:
    """Return the test indices listed in ``path``, none if there is no such file."""
    if not path.is_file():
        return []
    content = read_json(path)
    indices = content.get("inexact_test_indices") if isinstance(content, dict) else None
    if not isinstance(indices, list) or not all(type(i) is int and 0 <= i < BATCH for i in indices):
        raise CorruptFileError(
            f'{path} should hold {{"inexact_test_indices": [...]}} with numbers from 0 to {BATCH - 1}'
        )
    return sorted(set(indices))
