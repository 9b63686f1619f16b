"""Tensors of every type and shape, and comparison bit by bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from secateur.pack.packing import INTEGERS, TORCH_DTYPES

# Signalling and quiet NaN with payloads, infinities, subnormal numbers, both zeros, the least and the greatest.
SPECIAL = (0x7F800001, 0xFFC12345, 0x7F800000, 1, 0x80000001, 0x80000000, 0, 0x7F7FFFFF, 0x007FFFFF)


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().view(INTEGERS[tensor.dtype.itemsize])


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))


def random_tensor(dtype: str, shape: tuple[int, ...], density: float, variety: int, seed: int) -> Tensor:
    """Return a tensor of any bits: ``variety`` different values, or as many as chance gives if it is 0."""
    random = np.random.default_rng(seed)
    kind = TORCH_DTYPES[dtype]
    size = kind.itemsize
    pool = random.integers(0, 256, (variety or 4096, size), np.uint8)
    if dtype == "BOOL":
        pool = np.ones_like(pool)
    elif dtype == "F32":
        special = np.array(SPECIAL, "<u4").view(np.uint8).reshape(-1, 4)
        pool[: min(len(pool), len(special))] = special[: len(pool)]
    values = pool[random.integers(0, len(pool), shape)]
    values = np.where((random.random(shape) < density)[..., None], values, 0).astype(np.uint8)
    if len(shape) > 1 and seed % 3 == 0:  # some dead rows and columns
        values[:: 2 + seed % 5] = 0
        values[:, 1 :: 2 + seed % 3] = 0
    flat = torch.from_numpy(np.ascontiguousarray(values)).reshape(-1)
    return flat.view(torch.uint8).view(kind).reshape(shape) if flat.numel() else torch.empty(shape, dtype=kind)


tensors = st.builds(
    random_tensor,
    st.sampled_from(sorted(TORCH_DTYPES)),
    st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 40]), max_size=4).map(tuple),
    st.sampled_from([0.0, 0.004, 0.05, 0.1, 0.4, 0.9, 1.0]),
    st.sampled_from([0, 1, 2, 7, 200, 256, 300]),
    st.integers(0, 1000),
)


def checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:8]


class Opened:
    """A packed file taken apart, to be changed and put together again with every checksum right."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        self.start = 8 + int.from_bytes(data[:8], "little")
        self.header: dict[str, Any] = json.loads(data[8 : self.start])
        self.metadata: dict[str, str] = self.header["__metadata__"]
        self.data = bytearray(data[self.start : -8])

    def write(self, path: Path, sign: bool = True) -> None:
        if sign:
            self._sign()
        length = len(self.data) + 8
        self.header["data"] = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
        text = json.dumps(self.header, separators=(",", ":")).encode()
        head = len(text).to_bytes(8, "little") + text
        path.write_bytes(head + self.data + checksum(head))

    def _sign(self) -> None:
        for key, record in self.metadata.items():
            words = record.split(" ")
            if key[0] != ":" or record[0] == "=" or len(words) < 5 or not words[3].isdigit():
                continue
            place = int(words[3])
            end = place + sum(int(w[1:]) for w in words[4:] if w[0] in "sdl" and w[1:].isdigit())
            if end + 8 <= len(self.data):
                signed = f"{key[1:]}\0{record}\0".encode() + self.data[place:end]
                self.data[end : end + 8] = checksum(signed)
