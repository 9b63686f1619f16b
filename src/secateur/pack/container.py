"""The safetensors container of a packed file: its header, checked in full before anything else is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from secateur.pack.records import CHECKSUM, Record
from secateur.vocabulary import CorruptFileError

__all__ = ["MANIFEST", "VERSION", "Packed", "checksum", "header_bytes", "read_header", "read_index", "tensor_checksum"]

VERSION = "1"
MANIFEST = "manifest"  # the note that pack writes itself
# As many tensors as anyone has, and not enough for parsing it to take long or much memory.
MAX_HEADER = 1 << 25
_VERSION_KEY, _TENSOR, _ALIAS, _NOTE = "sct", ":", "=", "@"


@dataclass(frozen=True)
class Packed:
    """What a packed file holds, as its header says; ``print`` shows bytes by tensor.

    Attributes:
        path: of the file.
        size: of the file, in bytes.
        start: of the data, in bytes from the beginning of the file.
        records: of the tensors that are stored, by name, in the order of their data.
        ties: names that stand for the tensor of another name.
        metadata: as given by whoever wrote the file.
        manifest: what was removed from the model, for one who has the whole model; None if nothing was.
        notes: texts by name that tools keep beside the tensors, such as the plan of an engine.
    """

    path: Path
    size: int
    start: int
    records: Mapping[str, Record]
    ties: Mapping[str, str]
    metadata: Mapping[str, str]
    manifest: dict[str, Any] | None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in memory, tied ones once."""
        return sum(record.nbytes for record in self.records.values())

    @property
    def ratio(self) -> float:
        """Compression ratio: bytes of all tensors in memory over bytes of the file."""
        return self.nbytes / self.size

    def __str__(self) -> str:
        head = ["tensor", "type", "shape", "elements", "kept", "bytes", "packed", "positions", "values", "codebook"]
        rows = [_row(name, record) for name, record in self.records.items()]
        rows += [[name, f"= {other}", *[""] * 8] for name, other in self.ties.items()]
        rows.append(["header and its checksum", *[""] * 5, f"{self.start + CHECKSUM:,}", "", "", ""])
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [head, ["-" * width for width in widths], *rows]
        table = [
            "  ".join(
                word.ljust(width) if i < 3 else word.rjust(width)
                for i, (word, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        times = f"compression ratio {self.ratio:.2f} (bytes of the tensors over bytes of the file)"
        return "\n".join([*table, f"{self.nbytes:,} bytes packed into {self.size:,}: {times}"])


def _row(name: str, record: Record) -> list[str]:
    shape = "x".join(map(str, record.shape)) or "scalar"
    values = sum(stream.length for stream in record.values)
    counts = [record.elements, record.kept, record.nbytes, record.packed, record.packed - values - CHECKSUM, values]
    return [name, record.dtype, shape, *(f"{count:,}" for count in counts), str(record.codes or "-")]


def read_index(path: str | Path) -> Packed:
    """Read what a packed file holds, without unpacking it.

    Raises:
        CorruptFileError: it is no packed file of a version known here, or its header is damaged.
        FileNotFoundError: there is no such file.
    """
    with Path(path).open("rb") as file:
        return read_header(file, Path(path))


def checksum(data: bytes) -> bytes:
    """Return the first 8 bytes of the SHA-256 of ``data``."""
    return hashlib.sha256(data).digest()[:CHECKSUM]


def tensor_checksum(name: str, line: str, stored: bytes | memoryview) -> bytes:
    """Return the checksum of a tensor: of its name, its record and its streams as they are in the file."""
    digest = hashlib.sha256(f"{name}\0{line}\0".encode())
    digest.update(stored)
    return digest.digest()[:CHECKSUM]


def header_bytes(
    records: Mapping[str, Record],
    ties: Mapping[str, str],
    metadata: Mapping[str, str],
    notes: Mapping[str, str],
) -> bytes:
    """Return the length and the header of a file with these contents; its checksum ends the data.

    Raises:
        ValueError: a name in ``metadata`` is one of the format's own, one in ``notes`` begins with ``@``, what a name
            stands for is no text, or the header is too long.
    """
    own: dict[str, str] = {_VERSION_KEY: VERSION}
    for key, text in metadata.items():
        if key == _VERSION_KEY or key[:1] in (_TENSOR, _NOTE):
            raise ValueError(f"metadata may not be named {key!r}: names beginning with ':' or '@' and 'sct' are taken")
        own[key] = _text(key, text)
    for key, text in notes.items():
        if key[:1] == _NOTE:
            raise ValueError(f"the note {key!r} gets its '@' from the format: name it {key.lstrip(_NOTE)!r}")
        own[_NOTE + key] = _text(key, text)
    own |= {_TENSOR + name: str(record) for name, record in records.items()}
    own |= {_TENSOR + name: _ALIAS + other for name, other in ties.items()}
    length = sum(record.packed for record in records.values()) + CHECKSUM
    data = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    header = json.dumps({"__metadata__": own, "data": data}, separators=(",", ":"), ensure_ascii=False).encode()
    if len(header) > MAX_HEADER:
        raise ValueError(
            f"{len(records)} tensors, metadata and notes need a header of {len(header):,} bytes; "
            f"{MAX_HEADER:,} are allowed"
        )
    return len(header).to_bytes(8, "little") + header


def _text(key: str, text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{key!r} is a {type(text).__name__}, no text; make one of it")
    return text


def read_header(file: BinaryIO, path: Path) -> Packed:
    """Read and check the header of an open file; nothing else of it is read but the header's checksum.

    Raises:
        CorruptFileError: the file is no packed file of a version known here, or its header is damaged.
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or not 0 < length <= min(MAX_HEADER, size - 8):
            raise ValueError("it has no safetensors header, or one that is cut short")
        head += file.read(length)
        own, data = _parsed(head[8:])
        _check_version(own)
        start = 8 + length
        if type(data) is not int or start + data != size or data < CHECKSUM:
            raise ValueError(f"it is cut short, or longer than its header says ({size:,} bytes)")
        file.seek(size - CHECKSUM)
        if file.read(CHECKSUM) != checksum(head):
            raise ValueError("the checksum of its header differs")
        return _contents(own, path, size, start)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is not a readable packed file: {error}") from error


def _parsed(text: bytes) -> tuple[dict[str, str], int | None]:
    """Return the metadata of a safetensors header and the length of its data (None where that is declared wrongly)."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("its header says something twice")
        return found

    header = json.loads(text.decode(), object_pairs_hook=once, parse_constant=_refuse)
    own = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(own, dict) or not all(isinstance(value, str) for value in own.values()):
        raise ValueError("its header has no metadata; if it is plain safetensors, pack it first (secateur pack)")
    data = header.get("data")
    shape = data.get("shape") if isinstance(data, dict) else None
    length = shape[0] if isinstance(shape, list) and len(shape) == 1 else None
    expected = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    return own, length if header.keys() == {"__metadata__", "data"} and data == expected else None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"its header holds {word}, which is not JSON")


def _check_version(own: Mapping[str, str]) -> None:
    version = own.get(_VERSION_KEY)
    if version is None:
        raise ValueError("it is a plain safetensors file, nothing in it is packed; pack it first (secateur pack)")
    if version != VERSION:
        raise ValueError(f"it has version {version[:20]!r} of the format, known here is {VERSION!r}; update secateur")


def _contents(own: Mapping[str, str], path: Path, size: int, start: int) -> Packed:
    records: dict[str, Record] = {}
    ties: dict[str, str] = {}
    metadata: dict[str, str] = {}
    notes: dict[str, str] = {}
    for key, text in own.items():
        name = key[1:]
        if key[:1] == _TENSOR and text[:1] == _ALIAS:
            ties[name] = text[1:]
        elif key[:1] == _TENSOR:
            try:
                records[name] = Record.parse(text)
            except ValueError as error:
                raise ValueError(f"of the tensor {name[:200]!r}, {error}") from error
        elif key[:1] == _NOTE:
            notes[name] = text
        elif key != _VERSION_KEY:
            metadata[key] = text
    for name, other in ties.items():
        if other not in records:
            raise ValueError(f"its tensor {name[:200]!r} is tied to {other[:200]!r}, which it does not hold")
    manifest: Any = None
    if MANIFEST in notes:
        manifest = json.loads(notes.pop(MANIFEST), parse_constant=_refuse)
        if not isinstance(manifest, dict):
            raise ValueError("its manifest is not a JSON object")
    records = dict(sorted(records.items(), key=lambda each: each[1].offset))
    _check_places(records, size - start - CHECKSUM)
    return Packed(path, size, start, records, ties, metadata, manifest, notes)


def _check_places(records: Mapping[str, Record], length: int) -> None:
    """Refuse tensors that overlap, leave a gap, or end elsewhere than the data do."""
    place = 0
    for name, record in records.items():
        if record.offset != place:
            raise ValueError(f"its tensor {name[:200]!r} begins at {record.offset}, where {place} was expected")
        place = record.end
    if place != length:
        raise ValueError(f"its tensors end at {place}, its data at {length}")
