"""Schedules: exact ends, no surprises on the way, tfmot's polynomial."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.train.schedules import Schedule
from secateur.vocabulary import SelectionError

SHARE = st.floats(0, 0.99)
RAMPS: list[Callable[..., Schedule]] = [
    sc.PolynomialSchedule,
    sc.LinearSchedule,
    sc.CosineSchedule,
    sc.ExponentialSchedule,
]


@pytest.mark.parametrize("kind", RAMPS)
@given(first=SHARE, last=SHARE, begin=st.integers(0, 50), length=st.integers(0, 200), frequency=st.integers(1, 60))
def test_a_ramp_ends_exactly_and_changes_only_when_due(
    kind: Callable[..., Schedule], first: float, last: float, begin: int, length: int, frequency: int
) -> None:
    first, last = sorted((first, last))
    schedule = kind(first, last, begin, begin + length, frequency=frequency)
    values = [schedule(step) for step in range(begin + length + 3)]
    assert values[begin + length] == last == schedule(10**9)
    assert all(value == 0 for value in values[:begin])
    assert length == 0 or values[begin] == pytest.approx(first)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert all(schedule.due(s) for s in range(1, len(values)) if values[s] != values[s - 1])
    assert schedule.due(begin) and schedule.due(begin + length) and not schedule.due(begin + length + 1)


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(1, 5), st.integers(0, 10))
def test_the_polynomial_is_tfmots_at_every_due_step(first: float, last: float, power: float, k: int) -> None:
    begin, end = 100, 1100
    schedule = sc.PolynomialSchedule(first, last, begin, end, power=power, frequency=100)
    step = begin + 100 * k
    progress = min(1.0, max(0.0, (step - begin) / (end - begin)))
    assert schedule(step) == pytest.approx((first - last) * (1 - progress) ** power + last)


@given(st.floats(0, 0.999), st.integers(1, 12))
def test_every_round_removes_the_same_share_of_what_is_left(final: float, rounds: int) -> None:
    densities = [1.0, *(1 - sparsity for sparsity in sc.geometric_rounds(final, rounds))]
    ratios = [b / a for a, b in itertools.pairwise(densities)]
    assert ratios == pytest.approx([ratios[0]] * rounds)
    assert sc.geometric_rounds(final, rounds)[-1] == final
    schedule = sc.RoundsSchedule(final, rounds, steps_per_round=10, begin_step=5)
    assert [schedule(5 + 10 * i) for i in range(rounds)] == sc.geometric_rounds(final, rounds)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sc.PolynomialSchedule(0.5, 1.5, 0, 10),
        lambda: sc.PolynomialSchedule(-0.1, 0.5, 0, 10),
        lambda: sc.LinearSchedule(0.0, 0.5, 10, 5),
        lambda: sc.CosineSchedule(0.0, 0.5, 0, 10, frequency=0),
        lambda: sc.ExponentialSchedule(0.0, 1.0, 0, 10),
        lambda: sc.OneShotSchedule(90),
        lambda: sc.RoundsSchedule(0.9, 0, 10),
    ],
)
def test_parameters_out_of_range_are_refused(make: Callable[[], Schedule]) -> None:
    with pytest.raises(SelectionError):
        make()


def test_schedules_are_values() -> None:
    assert sc.OneShotSchedule(0.9) == sc.OneShotSchedule(0.9, step=0)
    assert repr(sc.LinearSchedule(0.0, 0.5, 0, 10)) == (
        "LinearSchedule(initial_sparsity=0.0, final_sparsity=0.5, begin_step=0, end_step=10, frequency=100)"
    )
