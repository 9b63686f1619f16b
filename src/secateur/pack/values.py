"""The kept values of a tensor: their bytes plane by plane, or codes into a codebook of the few different ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.pack.records import DTYPES, Record
from secateur.pack.streams import Reader, compressed_size

__all__ = ["Coded", "Values", "bits_of", "encode"]

Bits: TypeAlias = npt.NDArray[Any]  # unsigned integers as wide as an element

_MOST_CODES = 256
_SAMPLE = 1 << 12


@dataclass(frozen=True)
class Coded:
    """Values as they go into a file: the size of the codebook, 0 without one, and the streams."""

    codes: int
    streams: tuple[bytes, ...]


def bits_of(dtype: str) -> np.dtype[Any]:
    """Return the unsigned integers, least significant byte first, that hold the bits of an element.

    Example:
        >>> bits_of("F32")
        dtype('uint32')
    """
    return np.dtype(f"<u{DTYPES[dtype].size}")


def encode(bits_N: Bits, dtype: str) -> Coded:
    """Code values: by a codebook if at most 256 differ and that is shorter, else plane by plane.

    Planes go from the most significant byte to the least. Those of floats are rotated left by one bit first, so that
    all of the exponent, which compresses well, is in the first plane and the sign joins the mantissa.

    Example:
        >>> encode(np.array([7, 9, 7], np.uint32), "I32").codes
        2
        >>> encode(np.arange(300, dtype=np.uint32), "I32").codes
        0
    """
    planes = Coded(0, tuple(plane.tobytes() for plane in _planes(bits_N, dtype)))
    step = max(1, len(bits_N) // _SAMPLE)
    if len(np.unique(bits_N[::step])) > _MOST_CODES:
        return planes
    book, codes = np.unique(bits_N, return_inverse=True)
    if len(book) > _MOST_CODES:
        return planes
    coded_book = b"".join(plane.tobytes() for plane in _planes(book, dtype))
    if len(book) == 1:
        return Coded(1, (coded_book,))
    coded = Coded(len(book), (codes.astype(np.uint8).tobytes(), coded_book))
    # Of a few values, such as a bias, hardly any two are equal, and a codebook would not pay.
    return coded if _size(coded) < _size(planes) else planes


def _size(coded: Coded) -> float:
    return sum(map(compressed_size, coded.streams))


def _planes(bits_N: Bits, dtype: str) -> list[npt.NDArray[np.uint8]]:
    kind = DTYPES[dtype]
    turned = np.ascontiguousarray(_rotated(bits_N, 1) if kind.rotated else bits_N)
    bytes_NS = turned.view(np.uint8).reshape(-1, kind.size)
    return [bytes_NS[:, each] for each in reversed(range(kind.size))]


def _joined(planes: list[bytes], dtype: str) -> Bits:
    """Undo :func:`_planes`."""
    kind = DTYPES[dtype]
    bytes_NS = np.empty((len(planes[0]), kind.size), np.uint8)
    for each, plane in zip(reversed(range(kind.size)), planes, strict=True):
        bytes_NS[:, each] = np.frombuffer(plane, np.uint8)
    bits_N = bytes_NS.reshape(-1).view(bits_of(dtype))
    return _rotated(bits_N, 8 * kind.size - 1) if kind.rotated else bits_N


def _rotated(bits_N: Bits, left: int) -> Bits:
    kind = bits_N.dtype.type
    turned: Bits = (bits_N << kind(left)) | (bits_N >> kind(8 * bits_N.itemsize - left))
    return turned


class Values:
    """Reads the values of a record in their order.

    Raises:
        ValueError: (any method) the streams are damaged, or there is a code that the codebook does not have.
    """

    def __init__(self, record: Record, streams: list[Reader]) -> None:
        self._dtype, self._streams = record.dtype, streams
        self._book: Bits | None = None
        if record.codes:
            *self._streams, book = streams
            size = DTYPES[record.dtype].size
            self._book = _joined([book.exactly(record.codes) for _ in range(size)], record.dtype)
            book.finish()

    def take(self, count: int) -> Bits:
        """Return the next ``count`` values as their bits."""
        planes = [stream.exactly(count) for stream in self._streams]
        if self._book is None:
            return _joined(planes, self._dtype)
        if not planes:
            return np.broadcast_to(self._book, count)
        codes = np.frombuffer(planes[0], np.uint8)
        if count and codes.max() >= len(self._book):
            raise ValueError(f"it has a code that its codebook of {len(self._book)} does not have")
        return self._book[codes]

    def finish(self) -> None:
        """Check that all values were taken."""
        for stream in self._streams:
            stream.finish()
