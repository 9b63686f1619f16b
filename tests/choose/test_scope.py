"""Allocations: the totals and order of ERK, shares that follow a schedule; windows and their limits."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.vocabulary import SelectionError

SHAPES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)


@given(SHAPES, st.floats(0, 1))
def test_erk_spends_the_budget_to_the_last_weight(shapes: list[tuple[int, int]], sparsity: float) -> None:
    weights = {f"layer{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    shares = sc.erk(weights, sparsity)
    assert all(0 <= share <= 1 for share in shares.values())
    removed = sum(round(shares[name] * w.numel()) for name, w in weights.items())
    assert removed == round(sparsity * sum(w.numel() for w in weights.values()))


@given(SHAPES, st.lists(st.floats(0, 1), min_size=2, max_size=20).map(sorted))
def test_erk_gives_no_layer_back_what_it_took_at_less(shapes: list[tuple[int, int]], rising: list[float]) -> None:
    weights = {f"layer{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    removed = [
        {name: round(share * weights[name].numel()) for name, share in sc.erk(weights, s).items()} for s in rising
    ]
    for less, more in itertools.pairwise(removed):
        assert all(less[name] <= more[name] for name in weights)


@pytest.mark.parametrize(
    ("shapes", "sparsity"), [([(9, 10), (5, 1), (8, 6)], 0.8), ([(9, 2, 3, 3), (7, 2), (12, 1)], 0.9)]
)
def test_erk_under_a_rising_schedule_ends_at_the_count_asked_for(
    shapes: list[tuple[int, ...]], sparsity: float
) -> None:
    # Rounded by largest remainders these end one too low: now and then a layer gets less of a larger budget.
    torch.manual_seed(0)
    weights = {f"layer{i}": torch.randn(shape) for i, shape in enumerate(shapes)}
    choice, masks = sc.Choice(scope=sc.PerTensor(), allocation=sc.erk), None
    for step in range(1, 101):
        masks = choice(weights, sparsity * step / 100, within=masks)
    assert masks is not None and masks.count().removed == round(sparsity * sum(w.numel() for w in weights.values()))


def test_erk_makes_larger_layers_sparser_in_the_published_proportion() -> None:
    weights = {"a": torch.zeros(100, 200), "b": torch.zeros(300, 400, 3, 3)}
    shares = sc.erk(weights, 0.95)
    density = {name: 1 - share for name, share in shares.items()}
    expected = ((100 + 200) / (100 * 200)) / ((300 + 400 + 3 + 3) / (300 * 400 * 9))
    assert density["a"] / density["b"] == pytest.approx(expected, rel=1e-3)


def test_erk_keeps_vectors_whole_or_says_it_cannot() -> None:
    weights = {"w": torch.zeros(10, 10), "bias": torch.zeros(10)}
    assert sc.erk(weights, 0.5)["bias"] == 0
    with pytest.raises(SelectionError, match="leave biases out"):
        sc.erk(weights, 0.99)


@pytest.mark.parametrize(("keep", "of"), [(5, 4), (-1, 4), (0, 0)])
def test_windows_that_make_no_sense_are_refused(keep: int, of: int) -> None:
    with pytest.raises(SelectionError, match="keep"):
        sc.Window(keep, of)


def test_a_window_fixes_the_sparsity() -> None:
    with pytest.raises(SelectionError, match="leave sparsity out"):
        sc.select({"w": torch.ones(2, 4)}, 0.9, scope=sc.Window(2, 4))


SHARE = st.floats(0, 1)


@given(SHARE, st.floats(1e-6, 1), SHARE)
def test_scaled_shares_are_exact_at_the_end_and_in_proportion_below(share: float, at: float, progress: float) -> None:
    weights = {"body": torch.zeros(9), "head": torch.zeros(2)}
    allocation = sc.scaled({"head": share}, at=at)
    assert allocation(weights, at) == {"body": at, "head": share}
    assert allocation(weights, 0.0) == {"body": 0.0, "head": 0.0}
    below = allocation(weights, progress * at)
    assert below["body"] == progress * at
    assert below["head"] == pytest.approx(progress * share, abs=1e-12)
    assert allocation(weights, 1.0)["head"] <= 1


@given(SHARE, st.floats(0.01, 1), SHARE, SHARE)
def test_scaled_shares_rise_with_the_sparsity(share: float, at: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    allocation = sc.scaled({"w": share}, at=at)
    weights = {"w": torch.zeros(3)}
    assert allocation(weights, low)["w"] <= allocation(weights, high)["w"]


@pytest.mark.parametrize(("own", "final"), [(0.5, 0.9), (0.95, 0.8), (0.25, 0.9), (0.7, 0.9), (0.0, 0.8)])
def test_a_named_layer_ends_at_its_own_sparsity_and_never_regains_a_weight(own: float, final: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = sc.PolynomialSchedule(0.1, final, begin_step=2, end_step=20, frequency=3)
    choice = sc.Choice(scope=sc.PerTensor(), allocation=sc.scaled({"2.weight": own}, at=final))
    pruner = sc.Pruner(net, optimizer, schedule, choice)
    before = pruner.masks
    for step in range(1, 26):
        net(torch.randn(8, 10)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        now = schedule(step)
        assert pruner.masks.count("2.weight").removed == round(own * (now / final) * 30)
        assert pruner.masks.count("0.weight").removed == round(now * 60)
        assert all(not (pruner.masks[name] & ~before[name]).any() for name in before)
        before = pruner.masks
    masks = pruner.finalize()
    removed = {name: int((net.get_parameter(name) == 0).sum()) for name in masks}
    assert removed == {"0.weight": round(final * 60), "2.weight": round(own * 30), "4.weight": round(final * 10)}


@pytest.mark.parametrize("at", [0.0, -0.5, 1.5, float("nan")])
def test_scaled_needs_a_final_sparsity(at: float) -> None:
    with pytest.raises(SelectionError, match="at="):
        sc.scaled({"w": 0.5}, at=at)


@pytest.mark.parametrize("share", [-0.1, 1.1, 90, float("nan")])
def test_scaled_refuses_shares_out_of_range_by_name(share: float) -> None:
    with pytest.raises(SelectionError, match=r"'head'.*outside 0 to 1"):
        sc.scaled({"body": 0.5, "head": share}, at=0.9)


def test_scaled_refuses_names_that_are_not_targets() -> None:
    weights = {"body.weight": torch.ones(4), "head.weight": torch.ones(4)}
    allocation = sc.scaled({"haed.weight": 0.5}, at=0.9)
    with pytest.raises(SelectionError, match=r"'haed\.weight'.*did you mean 'head\.weight'"):
        sc.select(weights, 0.5, scope=sc.PerTensor(), allocation=allocation)
