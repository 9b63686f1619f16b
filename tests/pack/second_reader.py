"""A reader of packed files written from docs/format.md alone: numpy and the standard library, nothing of secateur."""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "BOOL": 1}
SIZES |= {f"{sign}{8 * size}": size for sign in "IU" for size in (1, 2, 4, 8)}
LZMA = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}]
DECODERS = {
    "s": bytes,
    "d": lambda data: zlib.decompress(data, -15),
    "l": lambda data: lzma.decompress(data, lzma.FORMAT_RAW, filters=LZMA),
}


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the bits of all tensors."""
    file = path.read_bytes()
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    metadata, data = header["__metadata__"], file[start:]
    assert metadata["sct"] == "1"
    assert header["data"] == {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    assert data[-8:] == hashlib.sha256(file[:start]).digest()[:8]
    told = {key[1:]: value for key, value in metadata.items() if key[0] == ":"}
    tensors = {name: tensor(name, record, data) for name, record in told.items() if record[0] != "="}
    return tensors | {name: tensors[record[1:]] for name, record in told.items() if record[0] == "="}


def tensor(name: str, record: str, data: bytes) -> np.ndarray[Any, Any]:
    dtype, written, kept, offset, *words = record.split(" ")
    shape = () if written == "-" else tuple(map(int, written.split("x")))
    streams, place = [], int(offset)
    for word in words:
        if word[0] in "sdl" and word[1:].isdigit():
            streams.append(DECODERS[word[0]](data[place : place + int(word[1:])]))
            place += int(word[1:])
    signed = f"{name}\0{record}\0".encode() + data[int(offset) : place]
    assert data[place : place + 8] == hashlib.sha256(signed).digest()[:8]
    flat = np.zeros(math.prod(shape), f"<u{SIZES[dtype]}")
    if int(kept):
        where = positions(words, shape, streams)
        flat[where] = values(words, dtype, streams, int(kept))
    return flat.reshape(shape)


def positions(words: list[str], shape: tuple[int, ...], streams: list[bytes]) -> Any:
    """Return where the stored elements are; takes its streams away."""
    if "all" in words:
        return slice(None)
    count_rows, count_columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    rows, columns = np.arange(count_rows), np.arange(count_columns)
    if "live" in words:
        rows, columns = rows[bitmap(streams.pop(0), count_rows)], columns[bitmap(streams.pop(0), count_columns)]
    if "bits" in words:
        numbers = np.flatnonzero(bitmap(streams.pop(0), len(rows) * len(columns)))
    else:
        found, number = [], 0
        for byte in streams.pop(0):
            number += byte
            if byte < 255:
                found.append(number)
                number += 1
        numbers = np.array(found)
    if "rows" in words:
        return rows[numbers // len(columns)] * count_columns + columns[numbers % len(columns)]
    return rows[numbers % len(rows)] * count_columns + columns[numbers // len(rows)]


def bitmap(data: bytes, count: int) -> np.ndarray[Any, Any]:
    return np.unpackbits(np.frombuffer(data, np.uint8))[:count].astype(bool)


def values(words: list[str], dtype: str, streams: list[bytes], kept: int) -> np.ndarray[Any, Any]:
    book = next((int(word[5:]) for word in words if word.startswith("codes")), 0)
    if not book:
        return elements(b"".join(streams), dtype, kept)
    codes = np.frombuffer(streams[0], np.uint8) if book > 1 else np.zeros(kept, np.uint8)
    return elements(streams[-1], dtype, book)[codes]


def elements(planes: bytes, dtype: str, count: int) -> np.ndarray[Any, Any]:
    found = np.zeros(count, f"<u{SIZES[dtype]}")
    for plane in range(SIZES[dtype]):
        byte = np.frombuffer(planes, np.uint8)[plane * count : (plane + 1) * count].astype(found.dtype)
        found |= byte << found.dtype.type(8 * (SIZES[dtype] - 1 - plane))
    if dtype in ("F64", "F32", "F16", "BF16"):
        one = found.dtype.type(1)
        found = (found >> one) | (found << found.dtype.type(8 * SIZES[dtype] - 1))
    return found
