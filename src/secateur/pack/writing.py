"""Writing a packed file tensor by tensor: each is coded into a temporary file, which the header is put in front of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np

from secateur.files import replacing
from secateur.pack import positions, values
from secateur.pack.container import checksum, header_bytes, tensor_checksum
from secateur.pack.records import MAX_AXES, Record, Stream
from secateur.pack.streams import compress
from secateur.pack.values import Bits
from secateur.vocabulary import BadTargetError

__all__ = ["Writer"]


class Writer:
    """A packed file in the making; used in a ``with``, and there only once :meth:`finish` was called.

    Args:
        path: where it will be; what is there is replaced in one step. None only counts bytes.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        # Beside the file, where there is room for it if there is room for the file.
        self._spool = None if self._path is None else tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
        self._records: dict[str, Record] = {}
        self._ties: dict[str, str] = {}
        self._first: dict[Hashable, str] = {}
        self._place = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spool is not None:
            self._spool.close()

    def add(self, name: str, bits: Bits, dtype: str) -> None:
        """Code a tensor and write it.

        Args:
            name: of the tensor, new to the file.
            bits: of its elements, unsigned integers as wide as they are; those that are 0 are dropped.
            dtype: a key of :data:`secateur.pack.records.DTYPES`.

        Raises:
            BadTargetError: it has more axes than a file can say.
        """
        if bits.ndim > MAX_AXES:
            raise BadTargetError(f"{name!r} has {bits.ndim} axes, a packed file holds at most {MAX_AXES}; reshape it")
        record, streams = _encoded(bits, dtype, self._place)
        self._records[name], self._place = record, record.end
        if self._spool is not None:
            stored = b"".join(streams)
            self._spool.write(stored)
            self._spool.write(tensor_checksum(name, str(record), stored))

    def tied(self, name: str, identity: Hashable) -> bool:
        """Return whether a tensor of the same identity was met before; if so, ``name`` is said to be that one."""
        first = self._first.setdefault(identity, name)
        if first != name:
            self._ties[name] = first
        return first != name

    def finish(self, metadata: Mapping[str, str], notes: Mapping[str, str]) -> int:
        """Put the file in its place; return its bytes.

        Raises:
            ValueError: ``metadata`` or ``notes`` use a name of the format's own, or hold what is no text.
            OSError: the folder cannot be written or the disk is full; ``path`` is then as it was.
        """
        head = header_bytes(self._records, self._ties, metadata, notes)
        tail = checksum(head)
        if self._spool is not None and self._path is not None:
            self._spool.seek(0)
            with replacing(self._path) as file:
                file.write(head)
                shutil.copyfileobj(self._spool, file)
                file.write(tail)
        return len(head) + self._place + len(tail)


def _encoded(bits: Bits, dtype: str, offset: int) -> tuple[Record, list[bytes]]:
    """Return the record of a tensor and its streams."""
    shape, flat_N = bits.shape, bits.reshape(-1)
    keep_N = flat_N != 0
    kept = int(np.count_nonzero(keep_N))
    if not kept:
        return Record(dtype, shape, 0, offset, "none"), []
    places: list[bytes] = []
    order, coding = "all", ""
    live: tuple[bytes, ...] = ()
    if kept < flat_N.size:
        coded, where = positions.encode(keep_N.reshape(shape[0] if len(shape) > 1 else 1, -1))
        flat_N = flat_N[where]
        order, coding, live, places = coded.order, coded.coding, coded.live, [*coded.live, coded.data]
    listed = values.encode(flat_N, dtype)
    packed = [compress(each) for each in (*places, *listed.streams)]
    streams = tuple(Stream(method, len(data)) for method, data in packed)
    before = len(places)
    record = Record(
        dtype,
        shape,
        kept,
        offset,
        order,
        coding,
        streams[: len(live)],
        streams[before - 1] if before else None,
        listed.codes,
        streams[before:],
    )
    return record, [data for _, data in packed]
