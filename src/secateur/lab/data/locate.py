"""Where the files of a data set are: in the user's folder, or downloaded once into a cache."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from secateur.lab.data.cifar import ARCHIVE
from secateur.lab.data.lookup import LabError
from secateur.vocabulary import MissingExtraError

__all__ = ["SOURCES", "Layout", "MissingDataError", "Source", "find", "folders"]

Layout = Mapping[str, Sequence[str]]  # what a file is for -> the names it may have


class MissingDataError(LabError, FileNotFoundError):
    """Files of a data set are not where they were looked for, or could not be downloaded."""


@dataclass(frozen=True)
class Source:
    """A public file: its name, its md5 and the addresses (without the name) that serve it, best first."""

    file: str
    md5: str
    mirrors: tuple[str, ...]


_MNIST = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)

SOURCES: dict[str, tuple[Source, ...]] = {
    "mnist": (
        Source("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", _MNIST),
        Source("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", _MNIST),
        Source("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", _MNIST),
        Source("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", _MNIST),
    ),
    "fashion-mnist": (
        Source("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", _FASHION),
        Source("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", _FASHION),
        Source("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", _FASHION),
        Source("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", _FASHION),
    ),
    "cifar-10": (Source(ARCHIVE, "c32a1d4ab5d03f1284b67883e8d87530", ("https://www.cs.toronto.edu/~kriz/",)),),
}


def folders(name: str, data_dir: Path | None) -> list[Path]:
    """Return the folders to look in: under ``data_dir`` or $SECATEUR_DATA if given, else the cache.

    Only in the last case is anything downloaded: files already in the cache with the right checksum stay.

    Raises:
        MissingDataError: the folder given does not exist, or a download failed.
        MissingExtraError: pooch, which downloads, is not installed.
    """
    if data_dir is None and not os.environ.get("SECATEUR_DATA"):
        return [_downloaded(name)]
    told_by = "data_dir" if data_dir is not None else "SECATEUR_DATA"
    given = Path(os.environ["SECATEUR_DATA"] if data_dir is None else data_dir)
    if not given.is_dir():
        raise MissingDataError(f"{name}: {told_by} is {given}, and there is no such folder")
    return [given / name, given]


def _downloaded(name: str) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError(f"downloading {name} needs pooch: pip install 'secateur[lab]'") from error
    folder = Path(pooch.os_cache("secateur")) / name
    for source in SOURCES[name]:
        failures = []
        for mirror in source.mirrors:
            try:
                pooch.retrieve(mirror + source.file, known_hash=f"md5:{source.md5}", fname=source.file, path=folder)
                break
            except (OSError, ValueError) as error:  # no network, or a file that is not the published one
                failures.append(f"{mirror}{source.file} ({error})")
        else:
            raise MissingDataError(
                f"{name}: could not download {' nor '.join(failures)}. Get the file(s) "
                f"{', '.join(part.file for part in SOURCES[name])} from {source.mirrors[0]} on a machine "
                "with a network, put them in a folder, and pass --data-dir FOLDER (data_dir= in Python) "
                "or set SECATEUR_DATA"
            )
    return folder


def find(name: str, places: Sequence[Path], layouts: Mapping[str, Layout]) -> tuple[str, dict[str, Path]]:
    """Return the first layout of which one folder holds every file, and the path of each of its files.

    Args:
        name: the data set, for the error.
        places: folders to look in, in this order.
        layouts: ways the data set may be stored, by name, the preferred first.

    Raises:
        MissingDataError: no folder holds all files of a layout; a file of the nearest one is named.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> _ = (folder / "a.bin").write_bytes(b"")
        >>> layout, paths = find("toy", [folder], {"binary": {"images": ["a.gz", "a.bin"]}})
        >>> layout, paths["images"].name
        ('binary', 'a.bin')
    """
    nearest: tuple[int, Path, str] | None = None
    for place in places:
        for layout, wanted in layouts.items():
            paths = {
                use: place / file
                for use, files in wanted.items()
                for file in reversed(files)  # the first name wins
                if (place / file).is_file()
            }
            missing = [files[0] for use, files in wanted.items() if use not in paths]
            if not missing:
                return layout, paths
            if paths and (nearest is None or len(missing) < nearest[0]):
                nearest = (len(missing), place, missing[0])
    if nearest is not None:
        raise MissingDataError(f"{name}: {nearest[2]} is not in {nearest[1]}, though other files of {name} are; add it")
    first = next(iter(next(iter(layouts.values())).values()))[0]
    raise MissingDataError(
        f"{name}: no {first} in {' or '.join(map(str, places))}. Files named "
        f"{', '.join(source.file for source in SOURCES.get(name, ()))} belong there; leave data_dir and "
        "SECATEUR_DATA unset to have them downloaded"
    )
