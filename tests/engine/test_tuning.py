"""What was measured: written, read, and chosen among ways that all agree."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import plans
import pytest
from running import SETS, agrees, given

from secateur import native
from secateur.engine.engine import Engine
from secateur.engine.layouts import Target
from secateur.engine.placing import place
from secateur.engine.placing.convolving import Tiling, candidates
from secateur.engine.plan import Plan
from secateur.engine.tuning import Tuned
from secateur.vocabulary import CorruptFileError

needs_kernels = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")


def layers() -> Plan:
    """Return a plan of four sparse convolutions and a linear layer."""
    random = np.random.default_rng(0)

    def sparse(*shape: int) -> np.ndarray:
        made = np.where(random.random(shape) < 0.3, random.normal(size=shape) / 3, 0)
        return made.astype(np.float32)

    constants = {"a": sparse(12, 3, 3, 3), "b": sparse(10, 12, 3, 3), "c": sparse(10, 10, 1, 1), "d": sparse(5, 10)}
    constants["e"] = sparse(12, 12, 3, 3)  # which Winograd's filtering is tried on
    window: dict[str, Any] = {**plans.WINDOW, "padding": (1, 1, 1, 1), **plans.RELU}
    ops = [
        ("a1", "conv", "x", window, {"weight": "a"}),
        ("e1", "conv", "a1 a1", window, {"weight": "e"}),
        ("b1", "conv", "e1", {**window, "stride": (2, 2)}, {"weight": "b"}),
        ("c1", "conv", "b1 b1", {**plans.WINDOW, **plans.RELU}, {"weight": "c"}),
        ("m", "reduce", "c1", {"how": "mean", "axes": (1, 2), "keep": False}),
        ("y", "linear", "m", plans.NONE, {"weight": "d"}),
    ]
    return plans.plan({"x": (3, 16, 16)}, ops, ["y"], constants)


def test_it_goes_through_text() -> None:
    tuned = Tuned(
        "avx2", sys.maxsize, {0: Tiling(2, 4, 1, 64), 3: Tiling(1, 1, 8, 1)}, {0: Tiling(7, 1, 2, 5, winograd=True)}
    )
    assert Tuned.from_json(tuned.to_json()) == tuned


GOOD = {"instructions": "avx2", "batched_from": 4, "single": {"0": [1, 1, 1, 1, False]}, "batched": {}}
BAD: list[Any] = [
    7,
    [],
    {},
    {**GOOD, "more": 1},
    {**GOOD, "instructions": 3},
    {**GOOD, "batched_from": 1},
    {**GOOD, "batched_from": 1.5},
    {**GOOD, "batched_from": True},
    {**GOOD, "batched_from": sys.maxsize + 1},
    {**GOOD, "single": []},
    {**GOOD, "single": {"zero": [1, 1, 1, 1, False]}},
    {**GOOD, "single": {"0": [1, 1, 1, 1]}},
    {**GOOD, "single": {"0": [1, 1, 1, 1, 1]}},
    {**GOOD, "single": {"0": [1, 1, 3, 1, False]}},
    {**GOOD, "single": {"0": [0, 1, 1, 1, False]}},
    {**GOOD, "single": {"0": [1, 1 << 31, 1, 1, False]}},
    {**GOOD, "single": {"0": ["1", 1, 1, 1, False]}},
    {**GOOD, "batched": {"0": [1, 1, 1, 1.0, True]}},
]


@pytest.mark.parametrize("given", BAD, ids=str)
def test_what_was_never_measured_is_refused(given: Any) -> None:
    with pytest.raises(CorruptFileError, match="damaged"):
        Tuned.from_json(json.dumps(given))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(CorruptFileError):
        Tuned.from_json(text)


@needs_kernels
@pytest.mark.parametrize("instructions", SETS)
def test_every_way_of_a_convolution_agrees(instructions: str) -> None:
    plan, lanes = layers(), Engine(layers(), instructions=instructions)._lanes
    for batched in (False, True):
        target = Target(lanes, batched)
        placed = place(plan, target, native.load())
        assert any(each.scratch(target) for each in placed.convolutions)
        ways = {each.number: candidates(each, target) for each in placed.convolutions}
        for turn in range(max(map(len, ways.values()))):
            tilings = {number: choices[turn % len(choices)] for number, choices in ways.items()}
            parts = ({}, tilings) if batched else (tilings, {})
            tuned = Tuned(instructions, 2 if batched else sys.maxsize, *parts)
            agrees(plan, Engine(plan, instructions=instructions, tuned=tuned), 3)


@needs_kernels
def test_tilings_that_nothing_proposed_agree_or_are_refused() -> None:
    plan = layers()
    best = Engine(plan).instructions
    for tiling in (
        Tiling(1, 1, 8, 1),
        Tiling(3, 2, 4, 5),
        Tiling(1000, 1000, 1, 1),
        Tiling(1, 1, 1, 1 << 30),
        Tiling(1, 1, 1, 1, True),
    ):
        tuned = Tuned(best, sys.maxsize, dict.fromkeys(range(6), tiling))
        try:
            engine = Engine(plan, tuned=tuned)
        except ValueError:
            continue
        agrees(plan, engine, 2)


@needs_kernels
def test_what_was_measured_with_other_instructions_is_passed_over() -> None:
    plan = layers()
    tuned = Tuned("abacus", 2, {0: Tiling(1, 1, 8, 1)})
    plain, other = Engine(plan), Engine(plan, tuned=tuned)
    assert other.batched_from == plain.batched_from
    inputs = given(plan, 3)
    assert np.array_equal(plain.run(inputs)["y"], other.run(inputs)["y"])


@needs_kernels
def test_tuning_agrees_and_is_kept() -> None:
    plan = layers()
    engine = Engine(plan).tune()
    for samples in (1, 2, 40):
        agrees(plan, engine, samples)
    assert engine._tuned is not None and engine._tuned.single.keys() == {0, 1, 2, 3}
    again = Engine(plan, tuned=engine._tuned)
    inputs = given(plan, 40)
    assert np.array_equal(engine.run(inputs)["y"], again.run(inputs)["y"])
