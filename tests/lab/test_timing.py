"""Times and ratios against NumPy, and turns that treat all alike."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.lab.timing import Pace, Times, in_turns, timed, times_faster

SECONDS = st.floats(1e-7, 10.0)
TURNS = st.lists(st.lists(SECONDS, min_size=1, max_size=5).map(tuple), min_size=1, max_size=8).map(tuple)


@given(TURNS)
def test_quartiles_are_those_of_all_calls(turns: tuple[tuple[float, ...], ...]) -> None:
    times = Times(turns)
    everything = np.concatenate([np.array(turn) for turn in turns])
    assert times.quartiles() == pytest.approx(np.percentile(everything, [25, 50, 75]))
    assert times.calls == len(everything)


@given(TURNS, st.floats(0.1, 10))
def test_ratios_are_of_the_same_turns(turns: tuple[tuple[float, ...], ...], factor: float) -> None:
    ours = Times(turns).medians()
    assert ours == pytest.approx([np.median(turn) for turn in turns])
    assert times_faster(ours, [factor * each for each in ours]) == pytest.approx((factor,) * 3)
    assert times_faster(ours, ours) == (1, 1, 1)


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    drift = [1.0, 2.0, 4.0, 8.0]
    assert times_faster(drift, [3 * each for each in drift]) == (3, 3, 3)


def test_each_turn_begins_with_another_and_everyone_has_every_turn() -> None:
    order: list[str] = []

    def block(name: str) -> list[float]:
        order.append(name)
        return [1.0]

    times = in_turns([lambda _, name=name: block(name) for name in "abc"], Pace(turns=3))  # type: ignore[misc]
    assert "".join(order[3:]) == "abcbcacab"  # after a first look at how long calls take
    assert [len(each.turns) for each in times] == [3, 3, 3]


def test_a_turn_holds_as_many_calls_as_fit_and_one_at_least() -> None:
    def lasting(seconds: float) -> list[int]:
        asked: list[int] = []

        def block(count: int) -> list[float]:
            asked.append(count)
            return [seconds] * count

        in_turns([block], Pace(turns=2, seconds=0.1))
        return asked[1:]

    assert lasting(0.01) == [10, 10]
    assert lasting(5.0) == [1, 1]
    assert lasting(0.0) == [1000, 1000]


def test_the_first_call_of_a_block_does_not_count() -> None:
    naps = iter([0.05, 0, 0])
    assert max(timed(lambda: time.sleep(next(naps)))(2)) < 0.05
    assert next(naps, None) is None


@pytest.mark.parametrize("pace", [{"turns": 0}, {"seconds": 0.0}, {"seconds": float("nan")}, {"pause": -1.0}])
def test_a_pace_that_times_nothing_is_refused(pace: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one turn"):
        Pace(**pace)  # type: ignore[arg-type]
