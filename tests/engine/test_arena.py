"""Buffers share memory only when they are not needed at the same time."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.arena import Lifetime, arrange


@st.composite
def lifetimes(draw: st.DrawFn) -> Lifetime:
    first = draw(st.integers(0, 9))
    return Lifetime(draw(st.integers(0, 50)), first, first + draw(st.integers(0, 5)))


@given(st.lists(lifetimes(), max_size=20))
def test_living_buffers_never_overlap(given: list[Lifetime]) -> None:
    offsets, size = arrange(given)
    spans = [(offset, offset + each.size) for offset, each in zip(offsets, given, strict=True)]
    assert all(0 <= first <= last <= size for first, last in spans)
    for (a, one), (b, other) in combinations(zip(given, spans, strict=True), 2):
        if a.first <= b.last and b.first <= a.last and a.size and b.size:
            assert one[1] <= other[0] or other[1] <= one[0]
    # Never less than what is needed at once, and never more than all together.
    steps = range(max((each.last for each in given), default=0) + 1)
    needed = max((sum(each.size for each in given if each.first <= step <= each.last) for step in steps), default=0)
    assert needed <= size <= sum(each.size for each in given)


def test_a_chain_takes_turns() -> None:
    offsets, size = arrange([Lifetime(10, step, step + 1) for step in range(20)])
    assert size == 20 and set(offsets) == {0, 10}
