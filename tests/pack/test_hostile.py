"""Files cut, flipped, spliced, rewritten or made with bad intent: refused by name, without a crash or a bill."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from packing_helpers import Opened, checksum, random_tensor, same_bits
from safetensors.torch import save_file
from torch import Tensor, nn

import secateur as sc
from secateur.pack.streams import FILTERS
from secateur.vocabulary import BadTargetError, CorruptFileError

pytestmark = pytest.mark.filterwarnings("ignore:.*negative zeros")


def example(seed: int = 0) -> dict[str, Tensor]:
    """Every coding there is: gaps and bits, rows and columns, live ones, planes and codes, all and none, a tie."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(30, generator=generator)
    return {
        "gaps": random_tensor("F32", (20, 30), 0.05, 0, 1 + seed),
        "bits": random_tensor("BF16", (20, 30), 0.5, 0, 2 + seed),
        "live": random_tensor("F32", (40, 60), 0.3, 20, 3 + 3 * seed),
        "coded": random_tensor("F16", (20, 30), 0.3, 9, 4 + seed),
        "dense": dense,
        "tied": dense,
        "zeros": torch.zeros(50),
        "steps": torch.tensor(7),
        "flags": torch.tensor([True, False, True]),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    for seed in range(2):
        sc.pack(example(seed), folder / f"{seed}.sct", metadata={"note": "free"})
    return [folder / "0.sct", folder / "1.sct"]


def accepted(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors, or None if the file is refused as it should be; any other error fails the test."""
    try:
        return sc.unpack(path)
    except CorruptFileError as error:
        assert str(path) in str(error)
        return None


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 5])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def insert(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place:place] = chance.randbytes(chance.randint(1, 9))


def remove(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    del data[place : place + chance.randint(1, 9)]


def overwrite(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place : place + 8] = chance.choice([bytes(8), b"\xff" * 8, b"9" * 8, chance.randbytes(8)])[: len(data) - place]


def append(data: bytearray, chance: random.Random) -> None:
    data += chance.choice([b"\0", bytes(data[-20:]), chance.randbytes(30)])


BLIND: list[Callable[[bytearray, random.Random], None]] = [flip, cut, insert, remove, overwrite, append]


@pytest.mark.parametrize("change", BLIND, ids=lambda change: change.__name__)
def test_no_changed_byte_is_accepted(change: Callable[..., None], files: list[Path], tmp_path: Path) -> None:
    chance, whole = random.Random(change.__name__), files[0].read_bytes()
    path = tmp_path / "x.sct"
    for _ in range(700):
        data = bytearray(whole)
        change(data, chance)
        path.write_bytes(data)
        assert accepted(path) is None or data == whole


def test_every_single_byte_counts(files: list[Path], tmp_path: Path) -> None:
    whole, path = files[0].read_bytes(), tmp_path / "x.sct"
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert accepted(path) is None, place


def test_every_length_is_refused(files: list[Path], tmp_path: Path) -> None:
    whole, path = files[0].read_bytes(), tmp_path / "x.sct"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert accepted(path) is None, length


def test_spliced_files_are_refused(files: list[Path], tmp_path: Path) -> None:
    one, other = (file.read_bytes() for file in files)
    path, chance = tmp_path / "x.sct", random.Random(0)
    for _ in range(300):
        first, second = chance.randrange(len(one)), chance.randrange(len(other))
        path.write_bytes(one[:first] + other[second:])
        assert accepted(path) is None
    for place in range(0, min(len(one), len(other)), 16):
        path.write_bytes(one[:place] + other[place : place + 16] + one[place + 16 :])
        if path.read_bytes() != one:
            assert accepted(path) is None


def test_a_tensor_in_the_place_of_another_is_refused(files: list[Path], tmp_path: Path) -> None:
    # Right checksum of the header, streams of the right lengths: only the tensor's own checksum tells.
    opened = Opened(files[0])
    opened.metadata[":other"] = opened.metadata.pop(":steps")
    opened.write(tmp_path / "x.sct", sign=False)
    with pytest.raises(CorruptFileError, match="'other', its checksum differs"):
        sc.unpack(tmp_path / "x.sct")


WORDS = "0 1 2 3 7 8 99 600 2400 999999999999999999 F32 I8 BOOL 20x30 - 0x0 gaps bits rows columns all none live planes"
WORDS += " codes1 codes9 codes256 s0 s1 s8 d7 l7 d99999999 =dense =tied"


def rewritten(record: str, chance: random.Random) -> str:
    """Return a record with some words changed, most of them numbers near what they were."""
    words = record.split(" ")
    for _ in range(chance.choice([1, 1, 2, 3])):
        place = chance.randrange(len(words))
        word = words[place]
        if word[-1:].isdigit() and "x" not in word and chance.random() < 0.7:
            head = word.rstrip("0123456789")
            words[place] = head + str(max(0, int(word[len(head) :] or 0) + chance.choice([-8, -2, -1, 1, 2, 8])))
        else:
            words[place] = chance.choice(WORDS.split())
        if chance.random() < 0.1:
            words.insert(place, chance.choice(WORDS.split()))
        if chance.random() < 0.1 and len(words) > 1:
            del words[place]
    return " ".join(words)


def test_hostile_files_with_right_checksums_do_no_harm(files: list[Path], tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / "x.sct"
    survived = 0
    tracemalloc.start()
    try:
        for _ in range(3000):
            opened = Opened(files[0])
            key = chance.choice([key for key in opened.metadata if key[0] == ":"])
            if chance.random() < 0.6:
                opened.metadata[key] = rewritten(opened.metadata[key], chance)
            for _ in range(chance.choice([0, 1, 4])):
                opened.data[chance.randrange(len(opened.data))] = chance.randrange(256)
            opened.write(path)
            tensors = accepted(path)
            survived += tensors is not None
            assert tensors is None or sum(t.nbytes for t in tensors.values()) < 1 << 27
        # Numpy takes memory for zeros lazily; what is counted is what a file of 3 kB may declare at the very most.
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert survived > 10  # some codes and values may be changed at will by whoever signs them


BOMB = 1 << 30


def bomb(method: str) -> bytes:
    import lzma

    if method == "d":
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(bytes(1 << 26)) + packer.flush()
    return lzma.compress(bytes(1 << 26), lzma.FORMAT_RAW, filters=FILTERS)


@pytest.mark.parametrize("method", ["d", "l"])
@pytest.mark.parametrize("where", ["positions", "codes", "codebook"])
def test_a_bomb_does_not_go_off(tmp_path: Path, method: str, where: str) -> None:
    path = tmp_path / "x.sct"
    sc.pack({"w": random_tensor("F32", (20, 30), 0.3, 9, 1)}, path)
    opened = Opened(path)
    data = bomb(method)
    words = ["F32", "20x30", "180", "0", "rows", "bits", "s75", "codes9", "s180", "s36"]
    parts = {6: bytes(75), 8: bytes(180), 9: bytes(36)}
    place = {"positions": 6, "codes": 8, "codebook": 9}[where]
    words[place], parts[place] = f"{method}{len(data)}", data
    if where != "positions":
        parts[6] = b"\xff" * 22 + b"\xf0" + bytes(52)
    opened.metadata[":w"] = " ".join(words)
    opened.data = bytearray(b"".join(parts.values()) + bytes(8))
    opened.write(path)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match="'w'"):
            sc.unpack(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("record", ["F32 {n} 0 0 none", "F32 {n} {n} 0 all codes1 s4"])
def test_who_declares_much_is_refused_before_anything_is_taken(tmp_path: Path, record: str) -> None:
    path = tmp_path / "x.sct"
    sc.pack({"w": torch.ones(10)}, path)
    opened = Opened(path)
    opened.metadata[":w"] = record.format(n=1 << 40)
    opened.data = bytearray(bytes(8) if "none" in record else bytes(12))
    opened.write(path)
    with pytest.raises(CorruptFileError, match="max_bytes="):
        sc.unpack(path)
    with pytest.raises(CorruptFileError, match="more than the 1,000 allowed"):
        sc.unpack(path, max_bytes=1000)
    with pytest.raises(BadTargetError, match="does not fit"):
        sc.unpack(path, into=nn.Linear(10, 1))
    for manifest, told in (("{}", "manifest is of version None"), ('{"version": 1}', "does not fit")):
        opened.metadata["@manifest"] = manifest
        opened.write(path)
        with pytest.raises((CorruptFileError, BadTargetError), match=told):
            sc.unpack(path, into=nn.Linear(10, 1))


def test_what_really_is_large_can_be_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    sc.pack({"w": torch.zeros(20_000_000)}, path)
    with pytest.raises(CorruptFileError, match="80,000,000 bytes"):
        sc.unpack(path)
    assert sc.unpack(path, max_bytes=80_000_000)["w"].shape == (20_000_000,)


def headed(header: object, data: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = len(text).to_bytes(8, "little") + text
    return head + data + checksum(head)


def proper(length: int = 8, **metadata: object) -> dict[str, object]:
    data = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    return {"__metadata__": {"sct": "1", **metadata}, "data": data}


HEADERS = {
    "empty": b"",
    "too short": b"\x08\0\0",
    "no header": bytes(8),
    "endless": (1 << 62).to_bytes(8, "little") + b"{}",
    "not text": headed(b"\xff\xfe"),
    "not JSON": headed(b'{"__metadata__"'),
    "a list": headed([1]),
    "a number": headed(b"1"),
    "too deep": headed(b"[" * 200_000),
    "a huge number": headed(b'{"data":' + b"9" * 100_000 + b"}"),
    "NaN": headed(b'{"__metadata__":{"sct":"1"},"data":NaN}'),
    "no data": headed({"__metadata__": {"sct": "1"}}),
    "twice": headed(b'{"__metadata__":{"sct":"1","sct":"1"},"data":{}}'),
    "more entries": headed({**proper(), "more": {}}),
    "no string": headed(proper(x=1)),
    "negative": headed(proper(-8)),
    "wrong length": headed(proper(9)),
    "a bool for a length": headed(proper(True)),
    "a float for a length": headed(proper(16.0)),
    "no checksum": headed(proper(0), b"")[:-8],
    "a tie to nothing": headed(proper(**{":a": "=b"}), b""),
    "a tie to a tie": headed(proper(**{":a": "=b", ":b": "=a"}), b""),
    "a tensor beyond the data": headed(proper(**{":a": "F32 1 0 8 none"}), b""),
    "two tensors in one place": headed(proper(16, **{":a": "F32 1 0 0 none", ":b": "F32 1 0 0 none"})),
    "data of no tensor": headed(proper(16)),
    "a manifest of another kind": headed(proper(**{"@manifest": "[1]"}), b""),
    "half a character": headed(proper(16, **{":\ud800": "F32 1 0 0 none"})),
}


@pytest.mark.parametrize("name", HEADERS)
def test_bad_headers_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.sct"
    path.write_bytes(HEADERS[name])
    with pytest.raises(CorruptFileError, match=r"x\.sct"):
        sc.unpack(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    path.write_bytes(headed({"__metadata__": {"sct": "2"}, "whatever": 1}))
    with pytest.raises(CorruptFileError, match=r"version '2'.*update secateur"):
        sc.unpack(path)


def test_a_plain_safetensors_file_is_told_apart(tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "a")
    save_file({"w": torch.ones(3)}, tmp_path / "b", {"format": "pt"})
    for name in "ab":
        with pytest.raises(CorruptFileError, match=r"plain safetensors.*secateur pack"):
            sc.unpack(tmp_path / name)


def test_a_damaged_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    sc.pack(net, tmp_path / "x.sct")
    data = bytearray((tmp_path / "x.sct").read_bytes())
    data[-20] ^= 1  # of the last tensor
    (tmp_path / "x.sct").write_bytes(data)
    other = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CorruptFileError, match=r"'1\.bias'"):
        sc.unpack(tmp_path / "x.sct", into=other)
    assert all(same_bits(before[name], tensor) for name, tensor in other.state_dict().items())


def test_a_file_of_another_model_is_named(tmp_path: Path) -> None:
    sc.pack(nn.Linear(4, 4), tmp_path / "x.sct")
    with pytest.raises(BadTargetError, match=r"'weight' is \[4, 4\] of torch\.float32 in the file, \[5, 4\]"):
        sc.unpack(tmp_path / "x.sct", into=nn.Linear(4, 5))
    with pytest.raises(BadTargetError, match=r"lacks '0\.bias', '0\.weight' and holds 'bias', 'weight'"):
        sc.unpack(tmp_path / "x.sct", into=nn.Sequential(nn.Linear(4, 5)))
    with pytest.raises(BadTargetError, match="bfloat16"):
        sc.unpack(tmp_path / "x.sct", into=nn.Linear(4, 4).to(torch.bfloat16), max_bytes=80)


def test_missing_files_and_folders_are_the_systems_to_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sc.unpack(tmp_path / "none.sct")
    with pytest.raises(IsADirectoryError):
        sc.read_index(tmp_path)


def test_no_more_memory_is_taken_than_declared(tmp_path: Path) -> None:
    # Numpy's and Python's own allocations; torch only wraps them.
    named = {f"w{i}": random_tensor("F32", (1000, 1000), density, 0, 1) for i, density in enumerate([0.02, 0.3, 1.0])}
    packed = sc.pack(named, tmp_path / "x.sct")
    largest = max(record.packed for record in packed.records.values())
    tracemalloc.start()
    try:
        sc.unpack(tmp_path / "x.sct")
        assert tracemalloc.get_traced_memory()[1] < packed.nbytes + largest + (8 << 20)
    finally:
        tracemalloc.stop()
