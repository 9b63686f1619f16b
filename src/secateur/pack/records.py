"""What a packed file says of each tensor, as one line of text: type, shape, where its bytes are, how they are coded."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DTYPES", "Dtype", "Record", "Stream"]

CHECKSUM = 8
MAX_ELEMENTS = 1 << 48
MAX_AXES = 32


@dataclass(frozen=True)
class Dtype:
    """Bytes of an element, and whether its bits are rotated so that the exponent fills the top byte."""

    size: int
    rotated: bool = False


# By their names in safetensors.
DTYPES = {
    "F64": Dtype(8, True),
    "F32": Dtype(4, True),
    "F16": Dtype(2, True),
    "BF16": Dtype(2, True),
    "F8_E4M3": Dtype(1),
    "F8_E5M2": Dtype(1),
    "C64": Dtype(8),
    "I64": Dtype(8),
    "I32": Dtype(4),
    "I16": Dtype(2),
    "I8": Dtype(1),
    "U64": Dtype(8),
    "U32": Dtype(4),
    "U16": Dtype(2),
    "U8": Dtype(1),
    "BOOL": Dtype(1),
}


@dataclass(frozen=True)
class Stream:
    """How a stream is compressed ("s", "d" or "l", see ``streams``), and its bytes in the file.

    Example:
        >>> str(Stream("d", 120))
        'd120'
    """

    method: str
    length: int

    def __str__(self) -> str:
        return f"{self.method}{self.length}"


@dataclass(frozen=True)
class Record:
    """One tensor of a packed file; ``str`` writes the line that :meth:`parse` reads.

    Attributes:
        dtype: a key of ``DTYPES``.
        shape: of the tensor.
        kept: elements that are not all zero bits.
        offset: of the first stream, from the beginning of the data.
        order: "rows" or "columns", the order in which positions are counted; "all" or "none" where no position is
            stored.
        coding: "gaps" or "bits"; empty where no position is stored.
        live: the streams that say which rows and columns hold anything, if the others are left out of the count.
        positions: the stream of gaps or bits.
        codes: how many different values a codebook holds; 0 where values are stored themselves.
        values: one stream for each byte of an element; with a codebook that of the codes (unless there is but one) and
            that of the codebook.

    Example:
        >>> record = Record.parse("F32 300x784 2303 0 rows gaps d1700 codes32 d1200 s70")
        >>> record.kept, record.values, record.end
        (2303, (Stream(method='d', length=1200), Stream(method='s', length=70)), 2978)
    """

    dtype: str
    shape: tuple[int, ...]
    kept: int
    offset: int
    order: str
    coding: str = ""
    live: tuple[Stream, ...] = ()
    positions: Stream | None = None
    codes: int = 0
    values: tuple[Stream, ...] = ()

    @property
    def elements(self) -> int:
        """Elements, kept or not."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in memory."""
        return self.elements * DTYPES[self.dtype].size

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns: the first axis, and all others."""
        return (self.shape[0], math.prod(self.shape[1:])) if len(self.shape) > 1 else (1, self.elements)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All streams in the order in which they follow each other in the file."""
        return (*self.live, *((self.positions,) if self.positions else ()), *self.values)

    @property
    def packed(self) -> int:
        """Bytes in the file, checksum included."""
        return sum(stream.length for stream in self.streams) + CHECKSUM

    @property
    def end(self) -> int:
        """Offset after the last byte, which is the checksum's."""
        return self.offset + self.packed

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "-"
        words = [self.dtype, shape, str(self.kept), str(self.offset)]
        if self.live:
            words += ["live", *map(str, self.live)]
        words += [self.order, *([self.coding, str(self.positions)] if self.positions else [])]
        if self.kept:
            words += [f"codes{self.codes}" if self.codes else "planes", *map(str, self.values)]
        return " ".join(words)

    @classmethod
    def parse(cls, line: str) -> Record:
        """Read a line.

        Raises:
            ValueError: it is not what ``str`` would write of a record that makes sense.
        """
        words = _Words(line)
        dtype, shape = words.take(), words.shape()
        kept, offset = words.number(), words.number()
        order = words.take()
        live: tuple[Stream, ...] = ()
        if order == "live":
            live, order = (words.stream(), words.stream()), words.take()
        stored = order in ("rows", "columns")
        coding, positions = (words.take(), words.stream()) if stored else ("", None)
        kind = words.take() if kept else "planes"
        codes = words.counted(kind, "codes") if kind != "planes" else 0
        record = cls(dtype, shape, kept, offset, order, coding, live, positions, codes, words.streams())
        # One spelling of every record: no leading zero, no other space.
        if str(record) != line:
            raise ValueError(f"its record is not written as it should be: {line[:200]!r}")
        record._check()
        return record

    def _check(self) -> None:
        """Refuse what contradicts itself."""
        if self.dtype not in DTYPES:
            raise ValueError(f"it has the unknown type {self.dtype[:20]!r}")
        if len(self.shape) > MAX_AXES or max((self.elements, *self.shape)) > MAX_ELEMENTS:
            raise ValueError("its shape is too large")
        if self.kept > self.elements:
            raise ValueError(f"it keeps {self.kept} of {self.elements} elements")
        places = {"all": self.kept == self.elements > 0, "none": self.kept == 0}
        stored = self.order in ("rows", "columns") and self.coding in ("gaps", "bits") and self.kept > 0
        if not places.get(self.order, stored) or (self.live and not stored):
            raise ValueError(f"its positions are coded as {self.order[:20]} {self.coding[:20]}")
        expected = min(2, self.codes) or DTYPES[self.dtype].size
        if len(self.values) != (expected if self.kept else 0) or self.codes > min(256, self.kept):
            raise ValueError("its values are not the streams they should be")


class _Words:
    """The words of a line, taken one by one."""

    def __init__(self, line: str) -> None:
        self._words = line.split(" ")
        self._words.reverse()

    def take(self) -> str:
        if not self._words:
            raise ValueError("its record is cut short")
        return self._words.pop()

    def number(self) -> int:
        return _number(self.take())

    def counted(self, word: str, name: str) -> int:
        number = _number(word.removeprefix(name)) if word.startswith(name) else 0
        if not number:
            raise ValueError(f"its values are coded as {word[:20]!r}, which is not known")
        return number

    def shape(self) -> tuple[int, ...]:
        word = self.take()
        return () if word == "-" else tuple(map(_number, word.split("x", MAX_AXES + 1)))

    def stream(self) -> Stream:
        word = self.take()
        if word[:1] not in ("s", "d", "l"):
            raise ValueError(f"it has a stream {word[:20]!r}, of a kind that is not known")
        return Stream(word[0], _number(word[1:]))

    def streams(self) -> tuple[Stream, ...]:
        found = []
        while self._words:
            found.append(self.stream())
        return tuple(found)


def _number(word: str) -> int:
    # 18 digits are beyond every limit and quick to read.
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise ValueError(f"its record has {word[:20]!r} where a number should be")
    return int(word)
