"""Plans laid out: every kind of operator, and random plans of all of them, give what the reference gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import plans
import pytest
from drawn import drawn_plans
from hypothesis import given, settings
from hypothesis import strategies as st
from running import SETS, agrees

from secateur import native
from secateur.engine.engine import Engine
from secateur.engine.layouts import Target
from secateur.engine.placing import RULES, TooLargeError, place
from secateur.engine.plan import KINDS, Plan

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")


def test_every_kind_has_a_rule_and_is_in_the_plan_that_has_all() -> None:
    assert RULES.keys() == KINDS.keys() == {op.kind for op in plans.whole().ops}


@pytest.mark.parametrize("op", plans.whole().ops, ids=lambda op: op.kind)
@pytest.mark.parametrize("instructions", SETS)
def test_every_kind_alone(op: object, instructions: str) -> None:
    plan = alone(plans.whole(), plans.whole().ops.index(op))  # type: ignore[arg-type]
    engine = Engine(plan, instructions=instructions)
    for samples in (1, 3, 17):
        agrees(plan, engine, samples)


def alone(plan: Plan, number: int) -> Plan:
    """Return a plan of one operator, whose inputs are given, with a copy of each."""
    op = plan.ops[number]
    inputs = tuple(dict.fromkeys(op.inputs)) or ("x",)
    values = {name: plan.values[name] for name in (*inputs, op.output)}
    constants = {name: plan.constants[name] for name in op.constants.values()}
    arguments = {"args": [[name, {"value": name}] for name in inputs], "kwargs": {}}
    structure = {"value": op.output}
    return dataclasses.replace(
        plan,
        inputs=inputs,
        outputs=(op.output,),
        values=values,
        ops=(op,),
        constants=constants,
        arguments=arguments,
        structure=structure,
    )


@settings(max_examples=150, deadline=None)
@given(drawn_plans(), st.sampled_from(SETS or [""]), st.integers(1, 3))
def test_random_plans(plan: Plan, instructions: str, threads: int) -> None:
    engine = Engine(plan, instructions=instructions, threads=threads)
    for samples in (1, 3, engine._lanes + 1):
        agrees(plan, engine, samples, 2e-5)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(drawn_plans(most=12), st.sampled_from(SETS or [""]), st.integers(1, 3))
def test_many_random_plans(plan: Plan, instructions: str, threads: int) -> None:
    engine = Engine(plan, instructions=instructions, threads=threads)
    for samples in (1, 2, engine._lanes + 1, 40):
        agrees(plan, engine, samples, 2e-5)


@settings(max_examples=50, deadline=None)
@given(drawn_plans(), st.sampled_from([4, 8, 16]), st.booleans())
def test_buffers_lie_inside_the_arena(plan: Plan, lanes: int, batched: bool) -> None:
    placed = place(plan, Target(lanes, batched), native.load())
    shapes = [plan.values[name].shape for name in plan.inputs]
    assert [int(size) for size in placed.inputs] == [int(np.prod(shape)) for shape in shapes]
    assert placed.arena >= 0 and placed.arena % lanes == 0


def test_values_beyond_the_limit_are_named() -> None:
    plan = plans.plan({"x": (8, 64, 64)}, [("u", "upsample_nearest", "x", {"factors": (2, 2)})], ["u"])
    with pytest.raises(TooLargeError, match="allow them with max_bytes="):
        place(plan, Target(8, False), native.load(), max_bytes=100_000)
    place(plan, Target(8, False), native.load(), max_bytes=1 << 21)
