"""Shapes are those that the reference computes, whatever the attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import plans
import reference
from hypothesis import assume, given
from hypothesis import strategies as st

from secateur.engine.plan import KINDS, Op, Value
from secateur.engine.plan.attributes import Choice, Flag, Int, Ints, Real
from secateur.engine.plan.checking import infer

SMALL = st.integers(1, 4)
SHAPES = st.lists(SMALL, max_size=4).map(tuple)
REALS = st.sampled_from([0.0, 0.5, 1.0, -1.0])


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Attributes of a type, most of them small enough to go with small shapes."""
    if isinstance(kind, Int):
        return st.integers(kind.low, 3)
    if isinstance(kind, Ints):
        numbers = st.integers(kind.low, 3)
        sizes = {"min_size": kind.count, "max_size": kind.count} if kind.count else {"max_size": 6}
        return st.lists(numbers, **sizes).map(tuple)
    if isinstance(kind, Real):
        return REALS.filter(lambda value: value >= kind.low)
    if isinstance(kind, Flag):
        return st.booleans()
    assert isinstance(kind, Choice)
    return st.sampled_from(kind.words)


@st.composite
def operators(draw: st.DrawFn) -> tuple[Op, list[tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """An operator of any kind with shapes that go together now and then."""
    name = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[name]
    attributes = {key: draw(of_type(each)) for key, each in kind.attributes.items()}
    if "alpha" in attributes:  # seldom right by chance
        word = "activation" if "activation" in attributes else "how"
        attributes |= {word: draw(st.sampled_from(["relu", "tanh"])), "alpha": 0.0, "beta": 0.0}
    count = draw(st.integers(kind.inputs[0], min(kind.inputs[1], 4)))
    first = draw(SHAPES)
    shapes = [first] + [draw(st.sampled_from([first, first[::-1], first[-2:]]) | SHAPES) for _ in range(count - 1)]
    roles = [
        *kind.required,
        *draw(st.lists(st.sampled_from(kind.optional), unique=True) if kind.optional else st.just([])),
    ]
    near = st.tuples(SMALL, *map(st.just, first[-1:])) | st.tuples(SMALL, SMALL, SMALL, SMALL) | st.just(first[-1:])
    constants = {role: draw(near | SHAPES) for role in roles}
    reads = tuple(f"x{i}" for i in range(count))
    return Op(name, reads, "y", attributes, {role: role for role in roles}), shapes[:count], constants


@given(operators())
def test_what_goes_together_has_the_shape_of_the_reference(
    drawn: tuple[Op, list[tuple[int, ...]], dict[str, tuple[int, ...]]],
) -> None:
    op, shapes, constants = drawn
    whole = KINDS[op.kind].reads == "I64"
    values = [Value(shape, "I64" if whole else "F32") for shape in shapes]
    try:
        found = infer(op, values, constants)
    except ValueError:
        assume(False)
    arrays = [np.zeros((2, *shape), np.int64 if whole else np.float64) for shape in shapes]
    with np.errstate(all="ignore"):
        given = {role: plans.numbers(*shape) for role, shape in constants.items()}
        result = reference.OPERATORS[op.kind](op, arrays, {role: array.astype(float) for role, array in given.items()})
    assert result.shape[1:] == found.shape
