"""Reading a packed file with numpy alone: every byte is checked, and no more memory is taken than was declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias, TypeVar

import numpy as np

from secateur.pack import positions
from secateur.pack.container import Packed, tensor_checksum
from secateur.pack.records import CHECKSUM, Record
from secateur.pack.streams import Reader
from secateur.pack.values import Bits, Values, bits_of
from secateur.vocabulary import CorruptFileError

__all__ = ["allowed_bytes", "read_all", "read_arrays"]

NamedBits: TypeAlias = tuple[str, Bits]
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
    made = {name: make(bits, contents.records[name].dtype) for name, bits in read_arrays(file, contents)}
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
    for name, record in contents.records.items():
        file.seek(contents.start + record.offset)
        stored = memoryview(file.read(record.packed))
        try:
            if tensor_checksum(name, str(record), stored[:-CHECKSUM]) != bytes(stored[-CHECKSUM:]):
                raise ValueError("its checksum differs")
            yield name, _decoded(record, stored)
        except (ValueError, IndexError) as error:
            raise CorruptFileError(f"{contents.path} is damaged: of the tensor {name!r}, {error}") from error


def _decoded(record: Record, stored: memoryview) -> Bits:
    readers, place = [], 0
    for stream in record.streams:
        readers.append(Reader(stream.method, stored[place : place + stream.length]))
        place += stream.length
    before = len(readers) - len(record.values)
    flat_N = np.zeros(record.elements, bits_of(record.dtype))
    if record.kept:
        values = Values(record, readers[before:])
        if record.order == "all":
            for start in range(0, record.elements, positions.CHUNK):
                part = flat_N[start : start + positions.CHUNK]
                part[:] = values.take(len(part))
        else:
            for places in positions.decode(record, readers[:before]):
                flat_N[places] = values.take(len(places))
        values.finish()
    if record.dtype == "BOOL":
        np.minimum(flat_N, 1, out=flat_N)  # what is neither 0 nor 1 would be no bool to anyone
    return flat_N.reshape(record.shape)
