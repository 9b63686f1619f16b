"""Times of layers on the engine, and allocations that fit a time."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur import native
from secateur.measure.speeds import _STEPS
from secateur.vocabulary import SelectionError

seconds = st.floats(0.01, 10.0)


def made(speeds: list[tuple[float, float]], seed: int) -> sc.LayerTimes:
    rng = np.random.default_rng(seed)
    curves = {f"{i}": {0.0: slow + fast, 0.5: fast + slow / 2, 0.99: fast} for i, (slow, fast) in enumerate(speeds)}
    losses = {}
    for name in curves:
        squares = np.sort(rng.standard_normal(5000) ** 2)
        sums = np.concatenate([[0.0], np.cumsum(squares)]) / squares.sum()
        losses[name] = tuple(sums[np.round(_STEPS * 5000).astype(int)].tolist())
    return sc.LayerTimes(0.5, curves, losses)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=6), st.floats(0.05, 1.0), st.integers(0, 99))
def test_an_allocation_keeps_to_its_time(speeds: list[tuple[float, float]], share: float, seed: int) -> None:
    times = made(speeds, seed)
    least = times.seconds(dict.fromkeys(times.curves, 0.99))
    budget = least + share * (times.seconds({}) - least)
    shares = times.allocation(budget)
    assert times.seconds(shares) <= budget * (1 + 1e-9)
    assert all(0 <= each <= 0.99 for each in shares.values())


def test_no_other_choice_loses_less_in_that_time() -> None:
    times = made([(4.0, 0.1), (1.0, 0.5)], 1)
    shares = times.allocation(2.5)

    def lost(chosen: dict[str, float]) -> float:
        return sum(float(np.interp(chosen[name], _STEPS, times.losses[name])) for name in chosen)

    others = ({"0": a, "1": b} for a, b in product(_STEPS[::3], _STEPS[::3]))
    assert all(lost(other) >= lost(shares) - 0.01 for other in others if times.seconds(other) <= 2.5)


def test_an_impossible_time_is_refused() -> None:
    with pytest.raises(SelectionError, match="even at the highest sparsities"):
        made([(1.0, 1.0)], 0).allocation(1.0)


@pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")
def test_a_network_is_measured_and_left_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    times = sc.layer_times(net, torch.zeros(1, 1, 8, 8), (0.5, 0.9), runs=3)
    assert list(times.curves) == ["0.weight", "4.weight"]
    assert all(list(curve) == [0.0, 0.5, 0.9] and min(curve.values()) > 0 for curve in times.curves.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    # Of layers this small, measured while others work, the sparser may take longer.
    shares = times.allocation(max(times.seconds({}), times.seconds(dict.fromkeys(times.curves, 0.9))))
    masks = sc.select(sc.criteria.magnitude(sc.prunable(net)), scope=sc.PerTensor(), allocation=shares)
    assert masks.sparsity <= 0.9


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -1.0, 90.0])
def test_sparsities_are_shares(sparsity: float) -> None:
    with pytest.raises(SelectionError, match="between 0 and 1"):
        sc.layer_times(nn.Linear(4, 4), torch.zeros(1, 4), (sparsity,))


def test_a_model_without_such_weights_is_refused() -> None:
    with pytest.raises(SelectionError, match="no target"):
        sc.layer_times(nn.Sequential(nn.Linear(4, 4)), torch.zeros(1, 4), weights=sc.prunable(nn.Linear(4, 4)))


def test_no_number_is_no_budget() -> None:
    with pytest.raises(SelectionError, match="NaN"):
        sc.LayerTimes(1.0, {"a": {0.0: 2.0, 0.9: 1.1}}, {"a": (0.0,) * 127}).allocation(float("nan"))
