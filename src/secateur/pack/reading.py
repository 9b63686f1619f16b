"""Reading a packed file with numpy alone: every byte is checked, and no more memory is taken than was declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np

from secateur.pack import positions
from secateur.pack.container import Packed, tensor_checksum
from secateur.pack.kept import Kept
from secateur.pack.records import CHECKSUM, Record
from secateur.pack.streams import Reader
from secateur.pack.values import Bits, Values, bits_of
from secateur.vocabulary import CorruptFileError

__all__ = ["allowed_bytes", "read_all", "read_all_kept", "read_arrays", "read_kept"]

NamedBits: TypeAlias = tuple[str, Bits]
Parts: TypeAlias = "Iterator[tuple[Any, Bits]]"
Made = TypeVar("Made")

# Who does not say how much may be unpacked gets what a network can be packed to, and not what a bomb makes of it.
_MOST_TIMES = 1000
_ALWAYS = 64 << 20


def allowed_bytes(contents: Packed, max_bytes: int | None = None) -> None:
    """Refuse a file whose tensors would take more memory than allowed.

    Args:
        contents: of the file.
        max_bytes: how much is allowed; a thousand times the file, and 64 MiB in any case, if None.

    Raises:
        CorruptFileError: they would take more.
    """
    limit = max(_ALWAYS, _MOST_TIMES * contents.size) if max_bytes is None else max_bytes
    if contents.nbytes > limit:
        raise CorruptFileError(
            f"{contents.path} declares tensors of {contents.nbytes:,} bytes, more than the {limit:,} allowed"
            + ("; if you trust it, allow them with max_bytes=" if max_bytes is None else "")
        )


def read_all(
    file: BinaryIO, contents: Packed, make: Callable[[Bits, str], Made], max_bytes: int | None = None
) -> dict[str, Made]:
    """Read all tensors of a packed file, by name; names that are tied get one and the same.

    Args:
        file: open, as :func:`secateur.pack.container.read_header` left it.
        contents: of that file.
        make: a tensor from its bits and its type, a key of :data:`secateur.pack.records.DTYPES`.
        max_bytes: as :func:`allowed_bytes` has it.

    Raises:
        CorruptFileError: a tensor is damaged, or all together would take more memory than is allowed.
    """
    allowed_bytes(contents, max_bytes)
    return _tied(contents, {n: make(bits, contents.records[n].dtype) for n, bits in read_arrays(file, contents)})


def read_all_kept(
    file: BinaryIO, contents: Packed, make: Callable[[Bits, str], Made], max_bytes: int | None = None
) -> dict[str, Made | Kept]:
    """Read all tensors as :func:`read_kept` does, with the arguments of :func:`read_all`.

    Raises:
        CorruptFileError: as :func:`read_all`.
    """
    allowed_bytes(contents, max_bytes)
    made: dict[str, Made | Kept] = {}
    for name, read in read_kept(file, contents):
        dtype = contents.records[name].dtype
        if isinstance(read, Kept):
            values: Any = make(read.values, dtype)
            made[name] = Kept(read.shape, read.places, values)
        else:
            made[name] = make(read, dtype)
    return _tied(contents, made)


def _tied(contents: Packed, made: dict[str, Made]) -> dict[str, Made]:
    return made | {name: made[other] for name, other in contents.ties.items()}


def read_arrays(file: BinaryIO, contents: Packed) -> Iterator[NamedBits]:
    """Yield the name and the bits of one stored tensor after the other, as unsigned integers of its shape.

    At any time no more is held than the tensor under way, its bytes in the file and a megabyte or two.

    Args:
        file: open, as :func:`secateur.pack.container.read_header` left it.
        contents: of that file; see :func:`allowed_bytes` first.

    Raises:
        CorruptFileError: a tensor is damaged; the text names it.
    """
    yield from _each(file, contents, _dense)


def read_kept(file: BinaryIO, contents: Packed) -> Iterator[tuple[str, Bits | Kept]]:
    """Yield the same, but tensors that are stored without their zeros as they are stored: no zero takes memory.

    Args:
        file: as of :func:`read_arrays`.
        contents: of that file.

    Raises:
        CorruptFileError: a tensor is damaged; the text names it.
    """
    yield from _each(file, contents, _sparse)


def _each(file: BinaryIO, contents: Packed, decoded: Callable[[Record, Parts], Made]) -> Iterator[tuple[str, Made]]:
    for name, record in contents.records.items():
        file.seek(contents.start + record.offset)
        stored = memoryview(file.read(record.packed))
        try:
            if tensor_checksum(name, str(record), stored[:-CHECKSUM]) != bytes(stored[-CHECKSUM:]):
                raise ValueError("its checksum differs")
            yield name, decoded(record, _parts(record, stored))
        except (ValueError, IndexError) as error:
            raise CorruptFileError(f"{contents.path} is damaged: of the tensor {name!r}, {error}") from error


def _parts(record: Record, stored: memoryview) -> Parts:
    """Yield places in the flat tensor and the bits that are there, part by part."""
    readers, place = [], 0
    for stream in record.streams:
        readers.append(Reader(stream.method, stored[place : place + stream.length]))
        place += stream.length
    before = len(readers) - len(record.values)
    if not record.kept:
        return
    values = Values(record, readers[before:])
    if record.order == "all":
        for start in range(0, record.elements, positions.CHUNK):
            end = min(record.elements, start + positions.CHUNK)
            yield slice(start, end), _true(record, values.take(end - start))
    else:
        for places in positions.decode(record, readers[:before]):
            yield places, _true(record, values.take(len(places)))
    values.finish()


def _true(record: Record, bits: Bits) -> Bits:
    # What is neither 0 nor 1 would be no bool to anyone.
    return np.minimum(bits, 1) if record.dtype == "BOOL" else bits


def _dense(record: Record, parts: Parts) -> Bits:
    flat_N = np.zeros(record.elements, bits_of(record.dtype))
    for places, bits in parts:
        flat_N[places] = bits
    return flat_N.reshape(record.shape)


def _sparse(record: Record, parts: Parts) -> Bits | Kept:
    if not record.kept or record.order == "all":
        return _dense(record, parts)
    found = list(parts)
    places = np.concatenate([places for places, _ in found])
    values = np.concatenate([bits for _, bits in found])
    if record.order == "columns":
        # Column after column they are in order within each row.
        rows = places // record.matrix[1]
        order = np.argsort(rows.astype(np.uint16) if record.matrix[0] <= 1 << 16 else rows, kind="stable")
        places, values = places[order], values[order]
    return Kept(record.shape, places, values)
