"""What was packed comes back bit by bit, for every type, shape and sparsity, and a second reader agrees."""

from __future__ import annotations

import lzma
import zlib
from pathlib import Path

import numpy as np
import pytest
import second_reader
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packing_helpers import bits, random_tensor, same_bits, tensors
from safetensors import safe_open
from torch import Tensor, nn

import secateur as sc
from secateur.pack import streams
from secateur.pack.packing import TORCH_DTYPES, packed_bytes
from secateur.pack.records import Record
from secateur.vocabulary import BadTargetError

pytestmark = pytest.mark.filterwarnings("ignore:.*negative zeros")
FLOATS = [torch.float32, torch.float16, torch.bfloat16]


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=8), tensors, max_size=4))
def test_every_tensor_comes_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, named: dict[str, Tensor]) -> None:
    path = tmp_path_factory.mktemp("pack") / "x.sct"
    packed = sc.pack(named, path)
    back = sc.unpack(path)
    assert back.keys() == named.keys()
    assert all(same_bits(back[name], named[name]) for name in named)
    assert packed.size == path.stat().st_size
    assert packed.nbytes == sum(tensor.nbytes for tensor in named.values())


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=8), tensors, max_size=4))
def test_a_reader_written_from_the_page_agrees(
    tmp_path_factory: pytest.TempPathFactory, named: dict[str, Tensor]
) -> None:
    path = tmp_path_factory.mktemp("pack") / "x.sct"
    sc.pack(named, path)
    read = second_reader.read(path)
    assert read.keys() == named.keys()
    for name, tensor in named.items():
        assert read[name].shape == tuple(tensor.shape)
        assert read[name].tobytes() == bits(tensor).numpy().tobytes()


@pytest.mark.parametrize("dtype", sorted(TORCH_DTYPES))
def test_long_tensors_are_read_in_parts(tmp_path: Path, dtype: str) -> None:
    # Longer than one part of positions, by gaps and by bits, with few values and many, by columns and by rows.
    named = {
        f"{density}-{variety}-{seed}": random_tensor(dtype, (600, 1000), density, variety, seed)
        for density, variety, seed in [(0.02, 0, 1), (0.4, 9, 3), (1.0, 0, 2), (0.003, 1, 2)]
    }
    sc.pack(named, tmp_path / "x.sct")
    back, read = sc.unpack(tmp_path / "x.sct"), second_reader.read(tmp_path / "x.sct")
    for name, tensor in named.items():
        assert same_bits(back[name], tensor), name
        assert read[name].tobytes() == bits(tensor).numpy().tobytes(), name


def test_what_is_zero(tmp_path: Path) -> None:
    tensor = torch.tensor([0.0, -0.0, 1e-45, float("nan"), 2.0])
    packed = sc.pack({"w": tensor}, tmp_path / "x.sct")
    assert packed.records["w"].kept == 4
    assert same_bits(sc.unpack(tmp_path / "x.sct")["w"], tensor)
    mask = torch.tensor([True, False, True, True, True])
    assert sc.pack({"w": tensor}, tmp_path / "x.sct", masks={"w": mask}).records["w"].kept == 3


def test_the_same_tensors_make_the_same_file(tmp_path: Path) -> None:
    named = {"a": random_tensor("F32", (40, 60), 0.1, 0, 3), "b": random_tensor("BF16", (7,), 1.0, 0, 4)}
    sc.pack(named, tmp_path / "x.sct", metadata={"note": "é"})
    sc.pack({name: tensor.clone() for name, tensor in named.items()}, tmp_path / "y.sct", metadata={"note": "é"})
    assert (tmp_path / "x.sct").read_bytes() == (tmp_path / "y.sct").read_bytes()


def test_the_size_is_known_without_a_file(tmp_path: Path) -> None:
    one = random_tensor("F32", (40, 60), 0.1, 0, 3)
    named = {"a": one, "b": random_tensor("BF16", (7,), 1.0, 0, 4), "tied": one}
    assert packed_bytes(named) == sc.pack(named, tmp_path / "x.sct").size


def test_anyone_can_open_it_as_safetensors(tmp_path: Path) -> None:
    sc.pack({"w": torch.eye(30)}, tmp_path / "x.sct", metadata={"trained by": "me"})
    with safe_open(tmp_path / "x.sct", "pt") as file:
        metadata = file.metadata()
        assert metadata["trained by"] == "me"
        assert metadata[":w"].startswith("F32 30x30 30 0 ")
        assert file.get_tensor("data").dtype == torch.uint8


def test_dead_rows_and_columns_cost_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    small = torch.from_numpy((random.random((40, 50)) < 0.2).astype(np.float32))
    large = torch.zeros(400, 500)
    large[torch.arange(0, 400, 10)[:, None], torch.arange(3, 500, 10)] = small
    packed = sc.pack({"small": small, "large": large}, tmp_path / "x.sct").records
    assert packed["large"].packed < packed["small"].packed + 80


def test_few_different_values_are_stored_as_codes(tmp_path: Path) -> None:
    levels = torch.randn(32)[torch.randint(32, (100, 100))]
    record = sc.pack({"w": levels}, tmp_path / "x.sct").records["w"]
    assert record.codes == 32
    assert record.packed < 100 * 100 * 5.2 / 8 + 160
    assert torch.equal(sc.unpack(tmp_path / "x.sct")["w"], levels)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_positions_are_close_to_their_entropy(tmp_path: Path, dtype: torch.dtype, sparsity: float) -> None:
    keep = torch.rand(1000, 1000, generator=torch.Generator().manual_seed(0)) >= sparsity
    record = sc.pack({"w": torch.where(keep, torch.randn(1000, 1000), 0).to(dtype)}, tmp_path / "x.sct").records["w"]
    p = 1 - sparsity
    entropy = -(p * np.log2(p) + sparsity * np.log2(sparsity)) * 1e6 / 8
    assert record.positions is not None
    assert record.positions.length < 1.03 * entropy


@given(st.binary(max_size=3000) | st.builds(lambda b, n: b * n, st.binary(max_size=20), st.integers(0, 9000)))
def test_streams_come_back_in_parts_of_any_size(data: bytes) -> None:
    for method, pack in streams._WAYS:
        reader = streams.Reader(method, pack(data))
        parts = [reader.upto(size) for size in (1, 7, 100)]
        assert b"".join([*parts, reader.upto(1 << 20)]) == data
        reader.finish()


@given(st.sampled_from("sdl"), st.binary(min_size=1, max_size=200), st.integers(0, 199))
def test_streams_cut_short_or_followed_by_more_are_refused(method: str, data: bytes, cut: int) -> None:
    packed = next(pack for way, pack in streams._WAYS if way == method)(data)
    short = streams.Reader(method, packed[: cut % len(packed)])
    with pytest.raises(ValueError, match="stream"):
        short.exactly(len(data))
        short.finish()
    with pytest.raises(ValueError, match="stream"):
        long = streams.Reader(method, packed + b"\0")
        long.exactly(len(data))
        long.finish()


def test_the_filters_are_those_of_the_page() -> None:
    noise = bytes(np.random.default_rng(0).integers(0, 9, 4000, np.uint8))
    assert lzma.decompress(streams._lzma(noise), lzma.FORMAT_RAW, filters=second_reader.LZMA) == noise
    assert zlib.decompress(streams._huffman(noise), -15) == noise


@pytest.mark.parametrize(
    "line",
    [
        "F32 3x4 2 0 rows gaps s2 planes s2 s2 s2 s2",
        "F32 3x4 2 0 live s1 s1 columns bits d9 codes2 l2 d8",
        "F32 - 1 7 all codes1 s4",
        "I64 0x5 0 0 none",
        "BOOL 12 12 0 all planes s12",
    ],
)
def test_records_are_read_as_they_are_written(line: str) -> None:
    assert str(Record.parse(line)) == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "F32",
        "F99 3 0 0 none",
        "F32 3 0 0 none ",
        "F32  3 0 0 none",
        "F32 03 0 0 none",
        "F32 -3 0 0 none",
        "F32 3 4 0 rows gaps s1 planes s1 s1 s1 s1",
        "F32 3 2 0 all planes s2 s2 s2 s2",
        "F32 3 3 0 none",
        "F32 3 2 0 none planes s2 s2 s2 s2",
        "F32 3 2 0 live s1 s1 all planes s2 s2 s2 s2",
        "F32 3 2 0 rows runs s1 planes s2 s2 s2 s2",
        "F32 3 2 0 rows gaps s2 planes s2 s2 s2",
        "F32 3 2 0 rows gaps x2 planes s2 s2 s2 s2",
        "F32 3 2 0 rows gaps s2 codes3 s2 s12",
        "F32 3 2 0 rows gaps s2 codes0 s2 s12",
        "F32 3 2 0 rows gaps s2 codes s2 s12",
        "F32 3 2 0 rows gaps s2 codes2 s2",
        "F32 300 300 0 all codes257 s2 s2",
        "F32 99999999x99999999 0 0 none",
        "F32 0x999999999999999999 0 0 none",
        f"F32 {'x'.join('1' * 33)} 0 0 none",
        "F32 3 0 9999999999999999999 none",
    ],
)
def test_records_that_make_no_sense_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"it|its"):
        Record.parse(line)


@pytest.mark.parametrize("value", [torch.finfo(torch.float32).min, 1e300])
def test_codebooks_make_no_infinities_of_large_values(value: float, tmp_path: Path) -> None:
    net = nn.Linear(4, 2)
    net.register_buffer("mask", torch.tensor([value, 0.1, float("inf")], dtype=torch.float64))
    sc.pack(net, tmp_path / "net.sct", bits=2)
    assert torch.equal(sc.unpack(tmp_path / "net.sct")["mask"], net.mask)  # type: ignore[arg-type]


def test_a_model_without_memory_is_refused(tmp_path: Path) -> None:
    sc.pack(nn.Linear(4, 2), tmp_path / "net.sct")
    with pytest.raises(BadTargetError, match="to_empty"):
        sc.unpack(tmp_path / "net.sct", into=nn.Linear(4, 2, device="meta"))
