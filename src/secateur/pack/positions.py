"""Where the kept elements of a tensor are: gaps between them, or a bitmap, by rows or by columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.pack.records import Record
from secateur.pack.streams import Reader, compressed_size

__all__ = ["Coded", "decode", "encode"]

Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[Any]
Alive: TypeAlias = tuple[Bools, Bools]

# A gap of 255 or more is written as bytes of 255, each counting as much, and a byte for the rest.
ESCAPE = 255
CHUNK = 1 << 17


@dataclass(frozen=True)
class Coded:
    """Positions as they go into a file.

    Attributes:
        order: "rows" or "columns".
        coding: "gaps" or "bits".
        live: bitmaps of rows and columns, when those without any kept element are left out of the count.
        data: the gaps or the bits.
    """

    order: str
    coding: str
    live: tuple[bytes, ...]
    data: bytes


def encode(keep_OI: Bools) -> tuple[Coded, Integers]:
    """Code where a matrix is True; also return these places as indices into it, row by row, in the order of the code.

    Rows and columns without any are left out where that makes the code shorter, bits of two bitmaps included.

    Example:
        >>> coded, places = encode(np.eye(9, dtype=bool))
        >>> coded.order, coded.coding, places.tolist()
        ('rows', 'gaps', [0, 10, 20, 30, 40, 50, 60, 70, 80])
    """
    best, shortest = None, 0.0
    for coded in _candidates(keep_OI):
        length = sum(map(compressed_size, (*coded.live, coded.data)))
        if best is None or length < shortest:
            best, shortest = coded, length
    assert best is not None
    alive = _alive(list(best.live), keep_OI.shape)
    places = _listed(keep_OI if alive is None else _compact(keep_OI, alive), best.order)
    return best, _Grid(keep_OI.shape, best.order, alive).flat(places)


def _candidates(keep_OI: Bools) -> Iterator[Coded]:
    yield from _codings(keep_OI, ())
    alive: Alive = np.asarray(keep_OI.any(1)), np.asarray(keep_OI.any(0))
    if len(keep_OI) > 1 and not (alive[0].all() and alive[1].all()):
        yield from _codings(_compact(keep_OI, alive), tuple(np.packbits(each).tobytes() for each in alive))


def _codings(matrix: Bools, live: tuple[bytes, ...]) -> Iterator[Coded]:
    for order in ("rows", "columns") if len(matrix) > 1 else ("rows",):
        bits = (matrix if order == "rows" else matrix.T).ravel()
        yield Coded(order, "gaps", live, _gaps(np.flatnonzero(bits)))
        yield Coded(order, "bits", live, np.packbits(bits).tobytes())


def _compact(keep_OI: Bools, alive: Alive) -> Bools:
    return keep_OI[alive[0]][:, alive[1]]


def _listed(matrix: Bools, order: str) -> Integers:
    return np.flatnonzero(matrix if order == "rows" else matrix.T)


def _gaps(places: Integers) -> bytes:
    """Return the numbers of elements skipped before each place, as bytes."""
    gaps = np.diff(places, prepend=-1) - 1
    escapes = gaps // ESCAPE
    coded = np.full(len(gaps) + int(escapes.sum()), ESCAPE, np.uint8)
    coded[np.cumsum(escapes + 1) - 1] = gaps % ESCAPE
    return coded.tobytes()


def _alive(bitmaps: Sequence[bytes], shape: tuple[int, ...]) -> Alive | None:
    """Return which rows and which columns two bitmaps name; None if there are none."""
    if not bitmaps:
        return None
    rows, columns = (
        np.unpackbits(np.frombuffer(bitmap, np.uint8), count=size).astype(bool)
        for bitmap, size in zip(bitmaps, shape, strict=True)
    )
    return rows, columns


class _Grid:
    """From places counted in some order, dead rows and columns left out, to indices into the flat tensor."""

    def __init__(self, shape: tuple[int, ...], order: str, alive: Alive | None) -> None:
        self._width, self._by_rows = shape[1], order == "rows"
        self._alive = None if alive is None else tuple(map(np.flatnonzero, alive))
        self.shape = shape if self._alive is None else tuple(map(len, self._alive))
        # Divided in 32 bits where they suffice: that is several times faster.
        self._kind = np.dtype(np.uint32 if shape[0] * shape[1] < 1 << 32 else np.uint64)

    def flat(self, places: Integers) -> Integers:
        if self._by_rows and self._alive is None:
            return places
        narrow: Any = places.astype(self._kind)
        length = self._kind.type(self.shape[1 if self._by_rows else 0])
        row, column = narrow // length, narrow % length
        if not self._by_rows:
            row, column = column, row
        if self._alive is not None:
            row, column = self._alive[0][row], self._alive[1][column]
        flat: Integers = row.astype(np.int64) * self._width + column
        return flat


def decode(record: Record, streams: list[Reader]) -> Iterator[Integers]:
    """Yield where the kept elements of a record are, part by part, as indices into its flat tensor.

    Args:
        record: with positions.
        streams: those of the live rows and columns, if any, and that of the positions.

    Raises:
        ValueError: the streams do not say where exactly ``record.kept`` elements of the tensor are.
    """
    *live, data = streams
    bitmaps = [_bitmap(reader, size) for reader, size in zip(live, record.matrix, strict=False)]
    grid = _Grid(record.matrix, record.order, _alive(bitmaps, record.matrix))
    limit, kept = grid.shape[0] * grid.shape[1], 0
    for places in _from_gaps(data) if record.coding == "gaps" else _from_bits(data, limit):
        kept += len(places)
        if kept > record.kept or (len(places) and places[-1] >= limit):
            raise ValueError("its positions lie outside of it or are too many")
        yield grid.flat(places)
    if kept != record.kept:
        raise ValueError(f"it has {kept} positions, not {record.kept}")
    data.finish()


def _bitmap(reader: Reader, size: int) -> bytes:
    bitmap = reader.exactly((size + 7) // 8)
    reader.finish()
    return bitmap


def _from_gaps(data: Reader) -> Iterator[Integers]:
    last = -1
    while part := data.upto(CHUNK):
        gaps: Bytes = np.frombuffer(part, np.uint8)
        ends = gaps != ESCAPE
        places = np.cumsum(gaps.astype(np.int64) + ends)
        places += last
        last = int(places[-1])
        yield places[ends]


def _from_bits(data: Reader, limit: int) -> Iterator[Integers]:
    # Eight elements a byte: parts no longer than the gaps'.
    for start in range(0, limit, CHUNK):
        bits = np.unpackbits(np.frombuffer(data.exactly((min(CHUNK, limit - start) + 7) // 8), np.uint8))
        yield np.flatnonzero(bits) + start
