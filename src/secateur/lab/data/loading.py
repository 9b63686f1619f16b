"""From a name to a standardised data set: read, divide, enlarge, standardise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from secateur.lab.data import cifar, locate
from secateur.lab.data.dataset import (
    Bytes,
    Dataset,
    Raw,
    Split,
    channel_statistics,
    enlarged_dataset,
)
from secateur.lab.data.idx import IDX_FILES, read_idx_files
from secateur.lab.data.lookup import LabError, called, positionals, resolve, user_callable
from secateur.lab.data.splits import stratified
from secateur.vocabulary import MissingExtraError, near_matches

__all__ = ["load", "names"]

# The digits have no published test part: a fifth of each class is set apart once and for all.
DIGITS_TEST_SHARE = 0.2
DIGITS_TEST_SEED = 1797

CIFAR_LAYOUTS: dict[str, locate.Layout] = {
    "binary": {file: (file,) for file in cifar.BINARY_FILES},
    "binary in a folder": {file: (f"cifar-10-batches-bin/{file}",) for file in cifar.BINARY_FILES},
    "archive": {cifar.ARCHIVE: (cifar.ARCHIVE,)},
    "mosaics": {file: (file,) for file in cifar.WEBP_FILES},
}


def names() -> tuple[str, ...]:
    """Return the names :func:`load` knows besides a user's own ``package.module:callable``.

    Example:
        >>> names()
        ('digits', 'mnist', 'fashion-mnist', 'cifar-10')
    """
    return ("digits", "mnist", "fashion-mnist", "cifar-10")


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    seed: int = 0,
    validation: float = 0.1,
    smallest: int = 0,
) -> Dataset:
    """Return a data set in memory, its inputs standardised by the training split's mean and deviation.

    ``digits`` comes with scikit-learn and needs no files; a fixed 20 % of each class are its test split.
    ``mnist``, ``fashion-mnist`` and ``cifar-10`` keep their published test split, and are downloaded into
    a cache (with checksums) unless a folder is given. A user's ``package.module:callable`` is called
    without arguments and must return a :class:`Dataset`; it is taken as it is, apart from ``smallest``.

    Args:
        name: one of :func:`names`, in any spelling of case, hyphens and underscores, or
            ``package.module:callable``, importable from the current directory.
        data_dir: folder with the files, or with a folder ``<name>`` that has them; by default that of
            the environment variable ``SECATEUR_DATA``. With either, nothing is downloaded.
        seed: decides which training images are set apart for validation; never touches the test split.
        validation: share of the training part set apart, class by class, in [0, 1).
        smallest: images with a side under this many pixels are enlarged to it once, bilinearly.

    Raises:
        LabError: an unknown name, an option out of range, or user code that is missing or returns
            something else.
        MissingDataError: files are not in the folder given, or a download failed.
        CorruptFileError: a file is damaged, cut short or of another kind.
        MissingExtraError: scikit-learn, pooch or Pillow is needed and not installed.

    Example:
        >>> digits = load("digits", smallest=28)
        >>> digits.shape, len(digits.train), len(digits.validation), len(digits.test)
        ((1, 28, 28), 1294, 144, 359)
        >>> digits.notes
        ('digits: enlarged from 8x8 to 28x28',)
    """
    if not 0 <= validation < 1:
        raise LabError(f"validation must be a share in [0, 1), not {validation}")
    if smallest < 0:
        raise LabError(f"smallest must be a number of pixels from 0, not {smallest}")
    if ":" in name:
        return enlarged_dataset(_user_dataset(name), smallest)
    known = resolve(name, names())
    if known is None:
        raise LabError(f"unknown data set {name!r}: {near_matches(name, names())} (your own: package.module:callable)")
    dataset = _divided(known, _read(known, data_dir), validation, seed)
    return _standardised(enlarged_dataset(dataset, smallest))


def _divided(name: str, raw: Raw, validation: float, seed: int) -> Dataset:
    stay, taken = stratified(raw.train_labels, validation, seed)
    if not len(stay):
        raise LabError(f"{name}: validation={validation} leaves none of {len(taken)} images to train on")
    return Dataset(
        name=name,
        train=_split(raw.train_images, raw.train_labels, stay),
        validation=_split(raw.train_images, raw.train_labels, taken),
        test=_split(raw.test_images, raw.test_labels, np.arange(len(raw.test_labels))),
        classes=10,
        augment=name == "cifar-10",
        notes=raw.notes,
    )


def _read(name: str, data_dir: Path | None) -> Raw:
    if name == "digits":
        return _digits()
    places = locate.folders(name, data_dir)
    if name != "cifar-10":
        return read_idx_files(name, locate.find(name, places, {"IDX": IDX_FILES})[1])
    layout, paths = locate.find(name, places, CIFAR_LAYOUTS)
    path = next(iter(paths.values()))
    if layout == "archive":
        return cifar.read_archive(path)
    return cifar.read_mosaics(path.parent) if layout == "mosaics" else cifar.read_binary(path.parent)


def _digits() -> Raw:
    """Read the 1,797 digits of 8x8 pixels in 17 greys that come with scikit-learn (Kaynak, 1995)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("digits needs scikit-learn: pip install 'secateur[lab]'") from error
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.uint8)
    stay, taken = stratified(labels, DIGITS_TEST_SHARE, DIGITS_TEST_SEED)
    return Raw(images[stay], labels[stay], images[taken], labels[taken])


def _split(images: Bytes, labels: Bytes, rows: npt.NDArray[np.intp]) -> Split:
    return Split(torch.from_numpy(images[rows]).float(), torch.from_numpy(labels[rows]).long())


def _standardised(dataset: Dataset) -> Dataset:
    """Standardise, in place, splits that nobody else holds yet: a copy would double the memory."""
    mean, deviation = channel_statistics(dataset.train.images)
    for split in (dataset.train, dataset.validation, dataset.test):
        split.images.sub_(mean[:, None, None]).div_(deviation[:, None, None])
    return dataset


def _user_dataset(name: str) -> Dataset:
    function = user_callable(name)
    _, required = positionals(function)
    if required:
        raise LabError(f"{name} is called without arguments, but it needs {', '.join(required)}")
    dataset = called(name, function)
    if not isinstance(dataset, Dataset):
        raise LabError(f"{name} returned a {type(dataset).__name__}, not a secateur.lab.data.Dataset")
    return dataset
