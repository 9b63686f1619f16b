"""NumPy arrays and notes to a packed file and back, bit by bit, and as torch and others see such files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import second_reader
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from packing_helpers import Opened

import secateur as sc
from secateur.lab import packing
from secateur.lab.show import inspect
from secateur.pack.arrays import NUMPY_DTYPES, Array, load_arrays, write_arrays
from secateur.pack.container import MAX_HEADER
from secateur.vocabulary import BadTargetError, CorruptFileError

DTYPES = st.sampled_from([np.dtype(order + kind) for kind in NUMPY_DTYPES.values() for order in "<>"])


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Arrays of any bits, of any density, transposed, cut and in Fortran's order."""
    dtype = draw(DTYPES)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    raw = random.integers(0, 2 if dtype.kind == "b" else 256, (*shape, dtype.itemsize), np.uint8)
    kept = random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    array = np.ascontiguousarray(raw * kept[..., None]).view(dtype)[..., 0]
    if array.ndim > 1:
        array = draw(st.sampled_from([array, array.T, array[::-1, ::2], np.asfortranarray(array)]))
    return array


def same_bits(one: Array, other: Array) -> bool:
    """Compare values bit by bit, whatever the order of their bytes."""
    first, second = (np.asarray(each, each.dtype.newbyteorder("<")) for each in (one, other))
    return first.shape == second.shape and first.dtype == second.dtype and first.tobytes() == second.tobytes()


TEXT = st.characters(codec="utf-8")
NOTES = st.dictionaries(st.text(TEXT, min_size=1, max_size=8), st.text(TEXT))


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=8), arrays(), max_size=4), NOTES)
def test_every_array_and_note_comes_back(
    tmp_path_factory: pytest.TempPathFactory, named: dict[str, Array], notes: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "x.sct"
    notes = {name: text for name, text in notes.items() if name != "manifest" and name[0] != "@"}
    packed = write_arrays(path, named, notes=notes)
    back, told = load_arrays(path)
    assert told == packed.notes == notes
    assert back.keys() == named.keys()
    for name, array in named.items():
        assert same_bits(back[name], array), name
        assert back[name].flags.c_contiguous and back[name].flags.writeable and back[name].dtype.isnative


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), arrays(), max_size=4))
def test_torch_and_a_reader_written_from_the_page_agree(
    tmp_path_factory: pytest.TempPathFactory, named: dict[str, Array]
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "x.sct"
    write_arrays(path, named, notes={"plan": "anything"})
    tensors, read = sc.unpack(path), second_reader.read(path)
    assert tensors.keys() == read.keys() == named.keys()
    for name, array in named.items():
        assert same_bits(tensors[name].numpy(), array)
        assert read[name].tobytes() == np.asarray(array, array.dtype.newbyteorder("<")).tobytes()


def test_the_file_is_the_one_that_pack_writes(tmp_path: Path) -> None:
    tensors = {"a": torch.eye(40), "b": torch.arange(9), "c": torch.tensor(True), "d": torch.randn(3, 4).half()}
    sc.pack(tensors, tmp_path / "x.sct", metadata={"by": "me"})
    write_arrays(tmp_path / "y.sct", {name: each.numpy() for name, each in tensors.items()}, metadata={"by": "me"})
    assert (tmp_path / "x.sct").read_bytes() == (tmp_path / "y.sct").read_bytes()


def test_one_array_of_two_names_is_stored_once_and_stays_one(tmp_path: Path) -> None:
    one = np.random.default_rng(0).random((20, 30))
    packed = write_arrays(tmp_path / "x.sct", {"a": one, "b": one, "view": one[:], "turned": one.T, "like": one.copy()})
    assert packed.ties == {"b": "a", "view": "a"}
    back, _ = load_arrays(tmp_path / "x.sct")
    assert back["a"] is back["b"] and back["a"] is not back["like"]
    assert same_bits(back["turned"], one.T) and same_bits(back["like"], one)


class Reading(Mapping[str, Array]):
    """Arrays that are made when they are asked for, as of a file of them."""

    def __getitem__(self, name: str) -> Array:
        return np.full((100, 100), float(name))

    def __iter__(self) -> Iterator[str]:
        return iter("12345678")

    def __len__(self) -> int:
        return 8


def test_arrays_made_on_demand_are_not_taken_for_one_another(tmp_path: Path) -> None:
    assert not write_arrays(tmp_path / "x.sct", Reading()).ties
    back, _ = load_arrays(tmp_path / "x.sct")
    assert {name: float(array.max()) for name, array in back.items()} == {name: float(name) for name in "12345678"}


def test_special_values_keep_their_bits(tmp_path: Path) -> None:
    special = np.array([0x7F800001, 0xFFC12345, 0x7F800000, 1, 0x80000001, 0x80000000, 0], np.uint32).view(np.float32)
    write_arrays(tmp_path / "x.sct", {"w": special})
    assert same_bits(load_arrays(tmp_path / "x.sct")[0]["w"], special)


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([1.0], {}, BadTargetError, "'w' is a list"),
    (torch.ones(2), {}, BadTargetError, "'w' is a Tensor"),
    (np.float32(1), {}, BadTargetError, "'w' is a float32"),
    (np.ma.masked_equal([1.0, 2.0], 2.0), {}, BadTargetError, "'w' is a MaskedArray"),
    (np.array(["a"]), {}, BadTargetError, "'w' is of type <U1"),
    (np.array([None]), {}, BadTargetError, "'w' is of type object"),
    (np.zeros(2, "c16"), {}, BadTargetError, "'w' is of type complex128"),
    (np.zeros(2, "M8[s]"), {}, BadTargetError, "'w' is of type datetime64"),
    (np.zeros(2, [("x", "f4")]), {}, BadTargetError, "'w' is of type .*x"),
    (np.ones(2), {"notes": {"manifest": "{}"}}, ValueError, "'manifest' is secateur.pack's own"),
    (np.ones(2), {"notes": {"@plan": ""}}, ValueError, "name it 'plan'"),
    (np.ones(2), {"notes": {"plan": {}}}, ValueError, "'plan' is a dict, no text"),
    (np.ones(2), {"notes": {"plan": "x" * MAX_HEADER}}, ValueError, "notes need a header of"),
    (np.ones(2), {"metadata": {"@plan": ""}}, ValueError, "'@plan'"),
    (np.ones(2), {"metadata": {"epoch": 3}}, ValueError, "'epoch' is a int, no text"),
]


@pytest.mark.parametrize(("array", "options", "kind", "text"), BAD, ids=[text for *_, text in BAD])
def test_bad_input_leaves_the_old_file(
    tmp_path: Path, array: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    (tmp_path / "x.sct").write_text("old")
    with pytest.raises(kind, match=text):
        write_arrays(tmp_path / "x.sct", {"v": np.ones(3), "w": array}, **options)
    assert (tmp_path / "x.sct").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.sct"]


def test_more_axes_than_a_file_can_say_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTargetError, match="'w' has 33 axes"):
        sc.pack({"w": torch.ones([1] * 33)}, tmp_path / "x.sct")
    write_arrays(tmp_path / "x.sct", {"w": np.ones([1] * 32)})
    assert load_arrays(tmp_path / "x.sct")[0]["w"].ndim == 32


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.sct").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_arrays(tmp_path / "x.sct", {"w": np.ones(2)})
    assert (tmp_path / "x.sct").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.sct"]


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    sc.pack({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "x.sct")
    with pytest.raises(BadTargetError, match=r"x\.sct: 'w' is of type BF16"):
        load_arrays(tmp_path / "x.sct")


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    write_arrays(path, {"w": np.zeros(20_000_000, np.float32)})
    with pytest.raises(CorruptFileError, match=r"80,000,000 bytes, more than the 67,108,864 allowed; .*max_bytes="):
        load_arrays(path)
    with pytest.raises(CorruptFileError, match="more than the 1,000 allowed"):
        load_arrays(path, max_bytes=1000)
    assert load_arrays(path, max_bytes=80_000_000)[0]["w"].shape == (20_000_000,)


def test_no_changed_byte_and_no_length_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    write_arrays(path, {"w": np.eye(20, dtype=np.float32), "k": np.arange(5)}, notes={"plan": "w then k"})
    whole = path.read_bytes()
    broken = [whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :] for place in range(len(whole))]
    for data in [*broken, *(whole[:length] for length in range(len(whole)))]:
        path.write_bytes(data)
        with pytest.raises(CorruptFileError, match=r"x\.sct"):
            load_arrays(path)


def test_bools_are_0_or_1_whatever_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    write_arrays(path, {"w": np.array([True, False, True, True])})
    opened = Opened(path)
    opened.metadata[":w"] = "BOOL 4 4 0 all planes s4"
    opened.data = bytearray([1, 0, 7, 255, *bytes(8)])
    opened.write(path)
    assert load_arrays(path)[0]["w"].view(np.uint8).tolist() == [1, 0, 1, 1]
    assert sc.unpack(path)["w"].view(torch.uint8).tolist() == [1, 0, 1, 1]


def test_readers_of_models_pass_notes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, net = tmp_path / "x.sct", torch.nn.Linear(4, 2)
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    write_arrays(path, state, notes={"plan": "in words", "tuning": ""}, metadata={"by": "me"})
    other = sc.unpack(path, into=torch.nn.Linear(4, 2))
    assert torch.equal(other.weight, net.weight) and torch.equal(other.bias, net.bias)
    assert sc.read_index(path).metadata == {"by": "me"}
    assert sc.read_index(path).notes == {"plan": "in words", "tuning": ""}
    assert Opened(path).metadata["@plan"] == "in words"
    inspect(path)
    assert "weight" in capsys.readouterr().out
    # Into a plain file and back: notes are of this file alone.
    assert packing.pack(packing.unpack(path)).metadata == {"format": "pt", "by": "me"}
