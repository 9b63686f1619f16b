"""Named NumPy arrays to a packed file and back, where there is no torch: what an engine keeps and loads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.pack.container import MANIFEST, Packed, read_header, read_index
from secateur.pack.kept import Kept
from secateur.pack.reading import read_all, read_all_kept
from secateur.pack.values import Bits, bits_of
from secateur.pack.writing import Writer
from secateur.vocabulary import BadTargetError

__all__ = ["NUMPY_DTYPES", "load_arrays", "load_kept", "write_arrays"]

Array: TypeAlias = npt.NDArray[Any]

# Those of the format that NumPy has, by its kind and bytes of an element; it lacks BF16 and the floats of 8 bits.
NUMPY_DTYPES = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "C64": "c8",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U64": "u8",
    "U32": "u4",
    "U16": "u2",
    "U8": "u1",
    "BOOL": "b1",
}
_NAMES = {kind: name for name, kind in NUMPY_DTYPES.items()}


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, Array],
    *,
    notes: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Packed:
    """Write arrays to a packed file, one after the other and in one atomic step; they are not changed.

    As with :func:`secateur.pack`, elements whose bits are all zero take no room and everything else is kept bit by bit;
    an array under two names is stored once. Order in memory is not kept: arrays come back in C order.

    Args:
        path: of the file, by convention ``.sct``.
        arrays: by name, of any shape: floats of 16, 32 or 64 bits, integers, bools or complex64, of either byte order.
        notes: texts by name that a tool keeps beside the arrays, such as ``{"plan": ...}``; in the file these names
            have an ``@`` in front. :func:`secateur.unpack` passes them over.
        metadata: texts to put into the file's header; names beginning with ``:`` or ``@`` and ``sct`` are taken.

    Returns:
        What the file holds, to be printed.

    Raises:
        BadTargetError: something is no array, or one of a type that cannot be stored.
        ValueError: a name in ``notes`` or ``metadata`` is taken, a value no text, or all of it longer than 32 MiB.
        OSError: the file cannot be written; what was at ``path`` is still there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     packed = write_arrays(folder + "/x.sct", {"w": np.eye(30, dtype=np.float32)}, notes={"plan": "w @ x"})
        ...     arrays, notes = load_arrays(folder + "/x.sct")
        >>> packed.records["w"].kept, float(arrays["w"].sum()), notes
        (30, 30.0, {'plan': 'w @ x'})
    """
    notes = dict(notes or {})
    if MANIFEST in notes:
        raise ValueError(f"the note {MANIFEST!r} is secateur.pack's own; choose another name")
    # Held, as a mapping may read an array whenever it is asked: in freed memory two would pass for one.
    arrays = dict(arrays)
    types = {name: _type(name, array) for name, array in arrays.items()}
    with Writer(path) as writer:
        for name, array in arrays.items():
            if not writer.tied(name, _identity(array)):
                ordered = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
                writer.add(name, ordered.view(bits_of(types[name])), types[name])
        writer.finish(metadata or {}, notes)
    return read_index(path)


def load_arrays(path: str | Path, *, max_bytes: int | None = None) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays and the notes of a packed file, every byte of it checked before an array is handed out.

    Args:
        path: of a file that :func:`write_arrays` or :func:`secateur.pack` wrote.
        max_bytes: the most that all arrays together may take in memory; a thousand times the file (64 MiB in any case)
            if left out, so that a small hostile file cannot fill the memory.

    Returns:
        Arrays by name, in C order, writable, names of one stored array sharing it; and notes by name, without their
        ``@``, at most 32 MiB of text.

    Raises:
        CorruptFileError: the file is damaged, hostile, of another version or no packed file; the text names the array.
        BadTargetError: it holds a tensor of a type that NumPy does not have.
        FileNotFoundError: there is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_arrays(folder + "/x.sct", {"step": np.array(7), "seen": np.array([True, False])})
        ...     load_arrays(folder + "/x.sct")
        ({'step': array(7), 'seen': array([ True, False])}, {})
    """
    path = Path(path)
    with path.open("rb") as file:
        contents = _known(read_header(file, path))
        return read_all(file, contents, _array, max_bytes), dict(contents.notes)


def load_kept(path: str | Path, *, max_bytes: int | None = None) -> tuple[dict[str, Array | Kept], dict[str, str]]:
    """Read the same, but arrays that are stored without their zeros as they are stored: no zero takes memory.

    Args:
        path: as of :func:`load_arrays`.
        max_bytes: as of :func:`load_arrays`.

    Raises:
        CorruptFileError: as :func:`load_arrays`.
        BadTargetError: as :func:`load_arrays`.
        FileNotFoundError: there is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_arrays(folder + "/x.sct", {"w": np.eye(3, dtype=np.float32)})
        ...     load_kept(folder + "/x.sct")[0]["w"].places
        array([0, 4, 8])
    """
    path = Path(path)
    with path.open("rb") as file:
        contents = _known(read_header(file, path))
        return read_all_kept(file, contents, _array, max_bytes), dict(contents.notes)


def _known(contents: Packed) -> Packed:
    """Return the same, if NumPy has the types of all that is in it."""
    for name, record in contents.records.items():
        if record.dtype not in NUMPY_DTYPES:
            raise BadTargetError(
                f"{contents.path}: {name!r} is of type {record.dtype}, which NumPy does not have; pack it as float32, "
                "or read it where there is torch, by secateur.unpack"
            )
    return contents


def _array(bits: Bits, dtype: str) -> Array:
    return bits.view(NUMPY_DTYPES[dtype])


def _type(name: str, array: object) -> str:
    """Return the type of an array as the format names it."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise BadTargetError(f"{name!r} is a {type(array).__name__}, no plain array; give np.asarray of it")
    known = _NAMES.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    if known is None:
        raise BadTargetError(f"{name!r} is of type {array.dtype}, which a packed file cannot hold; convert it first")
    return known


def _identity(array: Array) -> Hashable:
    """Return what only names of the same array have in common."""
    if not array.size:
        return id(array)
    return (array.__array_interface__["data"], array.dtype, array.shape, array.strides)
