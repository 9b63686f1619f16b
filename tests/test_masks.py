"""Masks: algebra, counts, application, one bit a weight on disk."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.bits import Bits
from secateur.files import read_tensors, write_tensors
from secateur.masks import bind
from secateur.vocabulary import BadTargetError, CorruptFileError

SHAPES = st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple)


@st.composite
def masks(draw: st.DrawFn) -> sc.Masks:
    shapes = draw(st.dictionaries(st.sampled_from(["a.weight", "b.weight", "c"]), SHAPES, max_size=3))
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    return sc.Masks({name: torch.rand(shape, generator=generator) < 0.5 for name, shape in shapes.items()})


@settings(deadline=None, max_examples=60)
@given(masks())
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, masks: sc.Masks) -> None:
    path = tmp_path_factory.mktemp("masks") / "m.safetensors"
    masks.save(path)
    assert sc.Masks.load(path) == masks


@given(masks())
def test_algebra(masks: sc.Masks) -> None:
    assert ~~masks == masks
    assert (masks & masks) == masks == (masks | masks)
    assert (masks & ~masks).count().kept == 0
    assert (masks | ~masks).count().removed == 0
    count = masks.count()
    assert count.kept == sum(masks.count(name).kept for name in masks)
    assert masks.sparsity == (count.removed / count.total if count.total else 0.0)


def test_a_mask_takes_one_bit_a_weight(tmp_path: Path) -> None:
    sc.Masks({"w": torch.rand(1000, 1000) < 0.1}).save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 1_000_000 / 8 + 500


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("masks") / "m.safetensors"
    saved = sc.Masks({"w": torch.rand(5, 7) < 0.5, "v": torch.rand(3) < 0.5})
    saved.save(path)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    for damaged in (bytes(data), bytes(data[: position % len(data)])):
        path.write_bytes(damaged)
        try:
            loaded = sc.Masks.load(path)
        except CorruptFileError as error:
            assert str(path) in str(error)
        else:
            assert loaded == saved  # a blank or a value that was there already


def test_applying_writes_zeros_in_place_and_nothing_else() -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    parameter, keys = net[0].weight, list(net.state_dict())
    with torch.no_grad():
        parameter[0, 0], parameter[0, 1] = float("nan"), float("inf")
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0] = False
    sc.apply(net, {"0.weight": mask})
    assert net[0].weight is parameter and list(net.state_dict()) == keys
    assert (parameter[0] == 0).all() and (parameter[1:] != 0).all()


def test_what_does_not_fit_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(BadTargetError, match="bool"):
        sc.Masks({"0.weight": torch.ones(3, 4)})
    with pytest.raises(BadTargetError, match=r"did you mean '0\.weight'"):
        sc.apply(net, {"0.wieght": torch.ones(3, 4, dtype=torch.bool)})
    with pytest.raises(BadTargetError, match=r"shape \[4, 3\]"):
        sc.apply(net, {"0.weight": torch.ones(4, 3, dtype=torch.bool)})
    with pytest.raises(BadTargetError, match="differ in shape"):
        _ = sc.Masks({"w": torch.ones(2, dtype=torch.bool)}) & sc.Masks({"w": torch.ones(3, dtype=torch.bool)})


def test_either_name_of_a_tied_parameter_will_do() -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    net["head"].weight = net["embed"].weight
    sc.apply(net, {"head.weight": torch.zeros(5, 4, dtype=torch.bool)})
    assert (net["embed"].weight == 0).all()


def test_tied_weights_lose_what_either_of_their_masks_removes() -> None:
    net = nn.ModuleDict({"embed": nn.Embedding(500, 40), "head": nn.Linear(40, 500, bias=False)})
    net["head"].weight = net["embed"].weight
    one, two = (torch.rand(500, 40) < 0.5 for _ in range(2))
    packed = sc.Masks({"embed.weight": Bits.of(one), "head.weight": Bits.of(two)})
    sc.apply(net, packed)
    assert torch.equal(net["embed"].weight != 0, one & two)


@given(masks(), masks())
def test_masks_of_bits_are_those_of_bools(a: sc.Masks, b: sc.Masks) -> None:
    one, two = (sc.Masks({name: Bits.of(mask) for name, mask in each.items()}) for each in (a, b))
    assert one == a and a == one and ~one == ~a and one.count() == a.count() and repr(one) == repr(a)
    assert copy.deepcopy(one) == a and pickle.loads(pickle.dumps(one)) == a and one.to("cpu") == a
    assert one.to("meta")["a.weight"].is_meta if "a.weight" in one else True
    if all(a[name].shape == b[name].shape for name in a.keys() & b.keys()):
        assert (one & two) == (a & b) == (one & b) and (one | two) == (a | b) == (a | two)


def test_masks_know_their_parameters_until_these_are_gone() -> None:
    net = nn.Linear(2, 2)
    bound = bind(net, {"weight": torch.ones(2, 2, dtype=torch.bool)})
    reference = bound.targets["weight"].parameter
    assert reference is not None and reference() is net.weight
    del net
    assert reference() is None


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    sc.Masks({"w": torch.rand(9) < 0.5}).save(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptFileError, match="m is"):
            sc.Masks.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"version": "2"},
        {"shapes": "{"},
        {"shapes": "[3]"},
        {"shapes": "null"},
        {"shapes": '{"w": [-3, -3]}'},
        {"shapes": '{"w": [9.5]}'},
        {"shapes": '{"w": [99999999999999999999999]}'},
        {"shapes": '{"w": null}'},
        {"shapes": '{"other": [9]}'},
        {"shapes": '{"w": [3, 3]}'},
        {"shapes": "{}"},
        {"crc32": "00000000"},
    ],
    ids=str,
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, change: Mapping[str, str]) -> None:
    path = tmp_path / "m"
    sc.Masks({"w": torch.ones(9, dtype=torch.bool)}).save(path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata)
    assert sc.Masks.load(path).sparsity == 0
    write_tensors(path, tensors, {**metadata, **change})
    with pytest.raises(CorruptFileError):
        sc.Masks.load(path)
    write_tensors(path, tensors, {key: value for key, value in metadata.items() if key not in change})
    with pytest.raises(CorruptFileError):
        sc.Masks.load(path)
    assert json.loads(metadata["shapes"]) == {"w": [9]}


def test_a_missing_file_is_just_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sc.Masks.load(tmp_path / "none")


@given(masks(), masks())
def test_de_morgan(a: sc.Masks, b: sc.Masks) -> None:
    if any(a[name].shape != b[name].shape for name in a.keys() & b.keys()):
        with pytest.raises(BadTargetError, match="differ in shape"):
            _ = a & b
        return
    assert a & b == b & a and a | b == b | a
    assert ~(a & b) == ~a | ~b and ~(a | b) == ~a & ~b
    assert (a & b).keys() == a.keys() | b.keys()
    assert a & (a | b) == a & (b | a)


def test_copies_still_know_the_model_and_pickles_only_names() -> None:
    net = nn.Linear(4, 4)
    masks = sc.prune(net, 0.5)
    twin = copy.deepcopy(masks)
    assert twin == masks and twin["weight"] is not masks["weight"]
    sc.hold(torch.optim.SGD(net.parameters(), lr=0.1), twin).release()
    thawed = pickle.loads(pickle.dumps(masks))
    assert thawed == masks and not thawed.targets


def test_masks_cannot_be_changed_by_item() -> None:
    masks = sc.Masks({"w": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(TypeError):
        masks["w"] = torch.zeros(2, dtype=torch.bool)  # type: ignore[index]
    with pytest.raises(BadTargetError, match="got list"):
        sc.apply(nn.Linear(1, 1), {"weight": [[True]]})  # type: ignore[dict-item]
