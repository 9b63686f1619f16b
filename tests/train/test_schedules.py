"""Schedules: exact ends, no surprises on the way, tfmot's polynomial."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

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


@st.composite
def chained(draw: st.DrawFn) -> sc.ChainSchedule:
    """Schedules in order, with steps left between them, jumps in sparsity, and ends at the same step."""
    parts: list[Schedule] = []
    end = draw(st.integers(0, 10))
    for _ in range(draw(st.integers(1, 4))):
        begin = end + draw(st.sampled_from([0, 0, 1, 7]))
        end = begin + draw(st.integers(0, 20))
        first, last, frequency = draw(SHARE), draw(SHARE), draw(st.integers(1, 8))
        kind = draw(st.sampled_from(["ramp", "constant", "once", "rounds", "chain"]))
        if kind == "ramp":
            parts.append(draw(st.sampled_from(RAMPS))(first, last, begin, end, frequency=frequency))
        elif kind == "constant":
            parts.append(sc.ConstantSchedule(last, begin, end, frequency))
        elif kind == "rounds":
            parts.append(sc.RoundsSchedule(last, draw(st.integers(1, 3)), frequency, begin))
        elif kind == "chain":
            half = sc.OneShotSchedule(first, begin)
            parts.append(sc.ChainSchedule((half, sc.LinearSchedule(first, last, begin, end, frequency))))
        else:
            parts.append(sc.OneShotSchedule(last, end))
        end = parts[-1].end_step
    return sc.ChainSchedule(tuple(parts))


@settings(max_examples=300)
@given(chained())
def test_a_chain_changes_only_when_due_and_reaches_its_end(schedule: sc.ChainSchedule) -> None:
    assert schedule.final_sparsity == schedule.parts[-1].final_sparsity
    assert schedule.end_step == schedule.parts[-1].end_step
    values = [schedule(step) for step in range(schedule.end_step + 3)]
    assert all(schedule.due(s) for s in range(1, len(values)) if values[s] != values[s - 1])
    assert schedule.due(schedule.end_step)
    assert values[schedule.end_step] == schedule.final_sparsity == schedule(10**9)
    assert not schedule.due(schedule.end_step + 1)


@given(chained())
def test_a_chain_is_its_parts_one_after_another(schedule: sc.ChainSchedule) -> None:
    before = -1
    for number, part in enumerate(schedule.parts):
        covered = any(later.end_step == part.end_step for later in schedule.parts[number + 1 :])
        for step in range(before + 1, part.end_step + (not covered)):
            assert schedule.due(step) == part.due(step)
            if part.due(step):
                assert schedule(step) == part(step)
        before = max(before, part.end_step - covered)


def test_between_two_parts_the_sparsity_of_the_first_holds() -> None:
    twice = sc.ChainSchedule((sc.OneShotSchedule(0.5, 10), sc.OneShotSchedule(0.8, 100)))
    assert [twice(step) for step in (0, 9, 10, 11, 99, 100, 101)] == [0, 0, 0.5, 0.5, 0.5, 0.8, 0.8]
    assert [step for step in range(200) if twice.due(step)] == [10, 100]
    rise = sc.LinearSchedule(0.0, 0.5, 0, 4, frequency=1)
    jump = sc.ChainSchedule((rise, sc.LinearSchedule(0.7, 0.9, 4, 8, frequency=2)))
    assert [jump(step) for step in range(3, 9)] == pytest.approx([0.375, 0.5, 0.5, 0.8, 0.8, 0.9])


def test_parts_that_end_together_give_way_to_the_last() -> None:
    rise = sc.LinearSchedule(0.0, 0.5, 0, 4, frequency=1)
    schedule = sc.ChainSchedule((rise, sc.ConstantSchedule(0.6, 4), sc.OneShotSchedule(0.8, 4)))
    assert [schedule(step) for step in range(6)] == [0, 0.125, 0.25, 0.375, 0.8, 0.8]
    assert schedule.due(4) and not schedule.due(5)


def test_a_pruner_follows_a_chain_to_its_end() -> None:
    net = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    parts = (sc.OneShotSchedule(0.3, 2), sc.LinearSchedule(0.3, 0.6, 4, 8, frequency=2), sc.OneShotSchedule(0.9, 12))
    pruner = sc.Pruner(net, optimizer, sc.ChainSchedule(parts))
    removed = []
    for _ in range(14):
        net(torch.ones(2, 10)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        removed.append(int((net.weight == 0).sum()))
        assert removed[-1] == round(100 * pruner.schedule(pruner.step_count))
    assert removed == [0, 30, 30, 30, 30, 45, 45, 60, 60, 60, 60, 90, 90, 90]
    assert pruner.finalize().sparsity == 0.9


def test_chains_are_values_and_refuse_disorder() -> None:
    parts = (sc.OneShotSchedule(0.5, 1), sc.OneShotSchedule(0.8, 9))
    assert sc.ChainSchedule(parts) == sc.ChainSchedule(parts) != sc.ChainSchedule(parts[:1])
    assert hash(sc.ChainSchedule(parts)) == hash(sc.ChainSchedule(parts))
    assert eval(repr(sc.ChainSchedule(parts)), vars(sc)) == sc.ChainSchedule(parts)
    for wrong in ((), parts[::-1]):
        with pytest.raises(SelectionError, match="one after the other"):
            sc.ChainSchedule(wrong)
