"""Convolutions and pools whose windows reach over edges, blocks and whole images."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import plans
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import SETS, agrees

from secateur import native
from secateur.engine.engine import Engine
from secateur.engine.layouts import Target
from secateur.engine.placing import place
from secateur.engine.plan import Plan

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")

IMAGES = [(1, 1), (1, 19), (23, 1), (5, 3), (17, 31), (4, 4), (2, 64)]
WINDOWS: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "1x1": ((1, 1), {}),
    "3x3": ((3, 3), {"padding": (1, 1, 1, 1)}),
    "stride 2": ((3, 3), {"stride": (2, 2), "padding": (1, 1, 1, 1)}),
    "stride over blocks": ((2, 2), {"stride": (5, 7), "padding": (1, 1, 1, 1)}),
    "padding wider than blocks": ((3, 3), {"padding": (9, 9, 9, 9)}),
    "one side": ((2, 3), {"padding": (0, 3, 2, 0)}),
    "dilation over blocks": ((3, 3), {"dilation": (4, 5), "padding": (4, 4, 5, 5)}),
    "kernel larger than blocks": ((7, 7), {"padding": (3, 3, 3, 3)}),
    "kernel larger than images": ((31, 3), {"padding": (15, 15, 1, 1)}),
}


def convolved(image: tuple[int, int], window: str, groups: int = 1) -> Plan:
    kernel, more = WINDOWS[window]
    channels, outputs = 2 * groups, 3 * groups
    weight = plans.numbers(outputs, 2, *kernel) / math.sqrt(2 * math.prod(kernel))
    weight[np.random.default_rng(1).random(weight.shape) < 0.4] = 0
    attributes = {**plans.WINDOW, **more, "groups": groups, **plans.RELU}
    ops = [("y", "conv", "x", attributes, {"weight": "w", "bias": "b"})]
    return plans.plan({"x": (channels, *image)}, ops, ["y"], {"w": weight, "b": plans.numbers(outputs)})


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_convolutions_of_odd_images(image: tuple[int, int], window: str) -> None:
    for groups in (1, 4):
        try:
            plan = convolved(image, window, groups)
        except ValueError:
            assert math.prod(WINDOWS[window][0]) > math.prod(image)  # the window does not fit
            continue
        for instructions in SETS:
            engine = Engine(plan, instructions=instructions)
            agrees(plan, engine, 1)
            agrees(plan, engine, 17)


POOLS: list[tuple[str, dict[str, Any]]] = [
    ("max_pool", {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1)}),
    ("max_pool", {"kernel": (2, 3), "stride": (1, 3), "padding": (0, 1, 2, 0), "dilation": (1, 2)}),
    ("average_pool", {"kernel": (3, 3), "stride": (1, 2), "padding": (1, 1, 1, 1), "count_padding": False}),
    ("average_pool", {"kernel": (3, 2), "stride": (3, 2), "padding": (2, 1, 0, 1), "count_padding": True}),
    ("adaptive_pool", {"size": (3, 5), "how": "average"}),
    ("adaptive_pool", {"size": (4, 2), "how": "max"}),
]


@pytest.mark.parametrize("kind, attributes", POOLS, ids=str)
@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_pools_of_numbers_of_either_sign(kind: str, attributes: dict[str, Any], shift: float) -> None:
    """Padding never wins over negative numbers, and is counted only if that was asked for."""
    ops = [
        ("s", "binary", "x", plans.add(), {"other": "shift"}),
        ("p", kind, "s", attributes),
        ("q", kind, "p", attributes),
    ]
    for image in ((17, 31), (9, 17), (8, 16)):
        plan = plans.plan({"x": (3, *image)}, ops, ["p", "q"], {"shift": np.array(shift, np.float32)})
        for instructions in SETS:
            engine = Engine(plan, instructions=instructions)
            agrees(plan, engine, 1)
            agrees(plan, engine, 17)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.lists(st.sampled_from(sorted(WINDOWS)), min_size=2, max_size=4),
    st.integers(1, 20),
)
def test_readers_with_different_windows_share_a_value(image: tuple[int, int], windows: list[str], samples: int) -> None:
    """A value keeps the widest halo that any of its readers wants."""
    ops, constants = [("r", "unary", "x", plans.unary("relu"))], {}
    for number, window in enumerate(windows):
        kernel, more = WINDOWS[window]
        size = [(n - 1) * d + 1 for n, d in zip(kernel, more.get("dilation", (1, 1)), strict=True)]
        padding = more.get("padding", (0, 0, 0, 0))
        if any(image[axis] + sum(padding[2 * axis : 2 * axis + 2]) < size[axis] for axis in (0, 1)):
            continue
        constants[f"w{number}"] = plans.numbers(2, 2, *kernel) / math.sqrt(2 * math.prod(kernel))
        attributes = {**plans.WINDOW, **more, **plans.NONE}
        ops.append((f"y{number}", "conv", "r", attributes, {"weight": f"w{number}"}))  # type: ignore[arg-type]
    plan = plans.plan({"x": (2, *image)}, ops, [op[0] for op in ops], constants)
    agrees(plan, Engine(plan), samples)


def pooled(image: tuple[int, int], kind: str, activation: str, kernel: int = 3, padding: int = 1) -> Plan:
    weight = plans.numbers(5, 3, kernel, kernel) / (3 * kernel)
    weight[np.random.default_rng(1).random(weight.shape) < 0.4] = 0
    window = {**plans.WINDOW, "padding": (padding,) * 4, **plans.NONE, "activation": activation}
    square: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
    square |= {"dilation": (1, 1)} if kind == "max_pool" else {"count_padding": False}
    ops = [
        ("c", "conv", "x", window, {"weight": "w", "bias": "b"}),
        ("p", kind, "c", square),
        ("y", "conv", "p", {**plans.WINDOW, "padding": (1, 1, 1, 1), **plans.NONE}, {"weight": "v"}),
    ]
    constants = {"w": weight, "b": plans.numbers(5), "v": plans.numbers(2, 5, 3, 3) / 7}
    return plans.plan({"x": (3, *image)}, ops, ["y"], constants)


def kinds(plan: Plan, batched: bool = False) -> list[str]:
    return [step.kind for step in place(plan, Target(16, batched), native.load()).steps]


@pytest.mark.parametrize("kind", ["max_pool", "average_pool"])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("image", [(8, 8), (16, 16), (17, 31), (24, 24), (12, 10), (2, 3)], ids=str)
def test_pools_are_taken_from_the_sums_of_convolutions(image: tuple[int, int], kind: str, activation: str) -> None:
    plan = pooled(image, kind, activation)
    for instructions in SETS:
        engine = Engine(plan, instructions=instructions)
        agrees(plan, engine, 1)
        agrees(plan, engine, 18)


def test_a_pool_that_was_fused_is_no_step() -> None:
    plan = pooled((24, 24), "max_pool", "relu")
    assert "max_pool" not in kinds(plan) and "max_pool" not in kinds(plan, batched=True)
    agrees(plan, Engine(plan).tune(), 1)
    # Blocks of 7 x 7 cut through squares.
    assert "max_pool" in kinds(pooled((28, 28), "max_pool", "relu"))
    assert "max_pool" not in kinds(pooled((28, 28), "max_pool", "relu"), batched=True)


def test_what_others_read_too_is_not_fused() -> None:
    plan = pooled((24, 24), "max_pool", "relu")
    more = dataclasses.replace(plan, outputs=("y", "c"), structure={"tuple": [{"value": "y"}, {"value": "c"}]})
    assert "max_pool" in kinds(more)
    agrees(more, Engine(more), 3)
