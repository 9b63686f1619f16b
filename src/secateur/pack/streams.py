"""Byte streams: each is stored as it is, deflated, or coded by LZMA, and read back in parts of bounded size."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable

__all__ = ["Reader", "compress", "compressed_size"]

# LZMA without literal or position contexts is an adaptive range coder with no table to send. The dictionary is small:
# what repeats in weights repeats nearby, and a reader allocates no more than this.
FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}]
# Of longer streams a sample decides, and what takes longer to read must be worth it: deflate (200 MB a second) 1 % of
# the stream, LZMA (50 MB a second) 5 %.
_LONG = 1 << 16
_BLOCK = 1 << 10
_WORTH = {"s": 1.0, "d": 0.99, "l": 0.95}
_FEED = 1 << 16


def compress(data: bytes) -> tuple[str, bytes]:
    """Return the method ("s" stored, "d" deflate, "l" LZMA) that makes ``data`` smallest, and what it makes of it.

    Example:
        >>> method, packed = compress(bytes(1000))
        >>> method, len(packed) < 20
        ('d', True)
    """
    if len(data) <= _LONG:
        return min(((method, pack(data)) for method, pack in _WAYS), key=lambda each: len(each[1]))
    sample = _sample(data)
    method, pack = min(_WAYS, key=lambda way: len(way[1](sample)) / _WORTH[way[0]])
    packed = pack(data)
    return (method, packed) if len(packed) < len(data) else ("s", data)


def compressed_size(data: bytes) -> float:
    """Return how many bytes :func:`compress` makes of ``data``; of a long stream as a sample has it.

    Example:
        >>> compressed_size(bytes(1000)) < 20, compressed_size(bytes(1000000)) < 5000
        (True, True)
    """
    sample = _sample(data)
    return min(len(pack(sample)) for _, pack in _WAYS) * len(data) / max(1, len(sample))


def _sample(data: bytes) -> bytes:
    """Return all of a short stream, else a quarter of as much in blocks from everywhere: no part is like all others."""
    if len(data) <= _LONG:
        return data
    step = 4 * len(data) // (_LONG // _BLOCK)
    return b"".join(data[place : place + _BLOCK] for place in range(step // 2, len(data), step))


def _stored(data: bytes) -> bytes:
    return data


def _huffman(data: bytes) -> bytes:
    """Huffman codes alone, which suit noise better than looking for what repeats."""
    return _deflate(data, zlib.Z_HUFFMAN_ONLY)


def _deflated(data: bytes) -> bytes:
    return _deflate(data, zlib.Z_DEFAULT_STRATEGY)


def _deflate(data: bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(9 if len(data) <= _LONG else 6, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(data) + packer.flush()


def _lzma(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=FILTERS)


_WAYS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("s", _stored),
    ("d", _huffman),
    ("d", _deflated),
    ("l", _lzma),
)


class Reader:
    """Reads a compressed stream from its beginning, never more at a time than was asked for.

    Raises:
        ValueError: (any method) the bytes are not such a stream, end too early or go on too long.

    Example:
        >>> reader = Reader(*compress(b"abcabcabc"))
        >>> reader.exactly(4), reader.upto(100), reader.upto(100)
        (b'abca', b'bcabc', b'')
    """

    def __init__(self, method: str, data: bytes | memoryview) -> None:
        self._data, self._fed = memoryview(data), 0
        self._left: bytes = b""
        self._decoder: zlib._Decompress | lzma.LZMADecompressor | None = None
        if method == "d":
            self._decoder = zlib.decompressobj(-15)
        elif method == "l":
            self._decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=FILTERS)
        elif method != "s":
            raise ValueError(f"there is no compression method {method!r}")

    def upto(self, limit: int) -> bytes:
        """Return the next ``limit`` bytes, or all that are left if these are fewer."""
        parts, wanted = [], limit
        while wanted > 0 and (part := self._next(wanted)):
            parts.append(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def exactly(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        data = self.upto(count)
        if len(data) != count:
            raise ValueError(f"a stream ends {count - len(data)} bytes too early")
        return data

    def finish(self) -> None:
        """Check that everything was read."""
        if self.upto(1):
            raise ValueError("a stream holds more than belongs to it")

    def _next(self, limit: int) -> bytes:
        """Return some of the next ``limit`` bytes; none only at the end."""
        try:
            if self._decoder is None:
                return self._feed(limit)
            if isinstance(self._decoder, lzma.LZMADecompressor):
                return self._next_of_lzma(self._decoder, limit)
            return self._next_of_deflate(self._decoder, limit)
        except (zlib.error, lzma.LZMAError, EOFError) as error:
            raise ValueError(f"a stream cannot be decompressed: {error}") from error

    def _next_of_deflate(self, decoder: zlib._Decompress, limit: int) -> bytes:
        while not decoder.eof:
            # Fed little by little: what is not consumed yet is copied at every call.
            fed = self._left or self._feed(_FEED)
            part = decoder.decompress(fed, limit)
            self._left = decoder.unconsumed_tail
            if part:
                return part
            if not fed:
                raise ValueError("a stream is cut short")
        self._at_end(decoder.unused_data)
        return b""

    def _next_of_lzma(self, decoder: lzma.LZMADecompressor, limit: int) -> bytes:
        while not decoder.eof:
            fed = self._feed(_FEED) if decoder.needs_input else b""
            part = decoder.decompress(fed, max_length=limit)
            if part:
                return part
            if decoder.needs_input and self._fed == len(self._data) and not decoder.eof:
                raise ValueError("a stream is cut short")
        self._at_end(decoder.unused_data)
        return b""

    def _feed(self, limit: int) -> bytes:
        part = bytes(self._data[self._fed : self._fed + limit])
        self._fed += len(part)
        return part

    def _at_end(self, unused: bytes) -> None:
        if unused or self._left or self._fed != len(self._data):
            raise ValueError("a stream is followed by bytes that belong to nothing")
