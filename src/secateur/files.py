"""Writing files so that a crash loses nothing: a temporary name beside the file, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from secateur.vocabulary import CorruptFileError

if TYPE_CHECKING:
    # Packed files are written in a Python that has no torch.
    from torch import Tensor

__all__ = [
    "file_to_write",
    "read_json",
    "read_tensors",
    "replacing",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
]


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step: readers see the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is then as it was.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` when the ``with`` ends well, and is gone if it does not.

    Where ``path`` is a link, that of the file it leads to.

    Raises:
        OSError: as :func:`file_to_write`, or the folder cannot be written.
    """
    path = file_to_write(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:  # it would name the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are made private; the finished file gets the usual permissions.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_folder(path.parent)


def file_to_write(path: str | Path) -> Path:
    """Return the file that writing to ``path`` makes or replaces, through links; nothing is written yet.

    Raises:
        OSError: there is no folder to write in, or ``path`` is a folder, a device or another thing that is no file,
            whose place a file would take.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file, and a file would take its place", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    return path


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; folders cannot be opened for this on Windows."""
    if os.name != "posix":
        return
    # The new file is in place by now; some network file systems refuse to sync a folder.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 in one step (see :func:`write_bytes`)."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented JSON in one step; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> object:
    """Read a JSON file.

    Raises:
        CorruptFileError: the file is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptFileError(f"{path} is not valid JSON ({error}); it was damaged or cut short") from error


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and string metadata as a safetensors file in one step."""
    from safetensors.torch import save

    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        flat = tensor.detach().contiguous().cpu()
        # safetensors has no views: a tied tensor is written under each of its names.
        storage = flat.untyped_storage().data_ptr()
        own[name] = flat.clone() if storage in seen else flat
        seen.add(storage)
    write_bytes(path, save(own, metadata=dict(metadata)))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file; return its tensors and its metadata.

    Raises:
        CorruptFileError: the file is truncated or not a safetensors file.
        FileNotFoundError: there is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = Path(path).read_bytes()
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise CorruptFileError(f"{path} is not a readable safetensors file ({error})") from error
    except KeyError as error:
        raise CorruptFileError(f"{path} holds a tensor of type {error}, which this version cannot read") from error
    # In the order of the file, which the reader does not keep.
    ordered = {name: tensors[name] for name in header if name in tensors}
    return ordered, dict(header.get("__metadata__", {}))
