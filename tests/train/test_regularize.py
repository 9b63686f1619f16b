"""Penalties: value and slope against NumPy, and nothing wakes what is pruned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc

STRENGTH = st.one_of(st.just(0.0), st.floats(1e-6, 10))


@given(STRENGTH, STRENGTH, st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 2**16))
def test_value_and_slope_equal_numpy(l1: float, l2: float, rows: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = {f"w{i}": rng.normal(size=(n, 3)).round(1) for i, n in enumerate(rows)}  # some of them exactly 0
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    found = sc.penalty(weights, l1=l1, l2=l2)
    expected = sum(l1 * np.abs(w).sum() + l2 / 2 * (w**2).sum() for w in arrays.values())
    assert found.shape == () and found.item() == pytest.approx(expected)
    if not found.requires_grad:
        assert l1 == l2 == 0
        return
    found.backward()
    for name, array in arrays.items():
        slope = weights[name].grad
        assert slope is not None
        assert slope.numpy() == pytest.approx(l1 * np.sign(array) + l2 * array)


def test_no_strength_and_no_weights_are_zero_and_can_be_added_to_a_loss() -> None:
    net = nn.Linear(3, 1)
    assert float(sc.penalty({}, l1=1.0, l2=1.0)) == 0
    (net(torch.ones(2, 3)).mean() + sc.penalty(sc.prunable(net))).backward()
    assert net.weight.grad is not None and net.weight.grad.tolist() == [[1, 1, 1]]
    assert float(sc.penalty(sc.prunable(net))) == 0


def test_only_the_given_tensors_are_pulled() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    sc.penalty(sc.prunable(net, ignore=["1"]), l1=0.1, l2=0.1).backward()
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["0.weight"]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(("l1", "l2"), [(0.05, 0.0), (0.0, 0.05), (0.02, 0.02)])
def test_masked_weights_under_hold_stay_zero_and_the_others_shrink(
    kind: type[torch.optim.Optimizer], l1: float, l2: float
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 2))
    optimizer = kind(net.parameters(), lr=0.01)  # type: ignore[call-arg]
    masks = sc.prune(net, 0.5)
    weights = sc.prunable(net)
    before = {name: w.detach().abs().sum() for name, w in weights.items()}
    with sc.hold(optimizer, masks):
        for _ in range(20):
            sc.penalty(weights, l1, l2).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, weight in weights.items():
        assert (weight[~masks[name]] == 0).all()
        assert weight.detach().abs().sum() < before[name]


def test_masked_weights_add_nothing() -> None:
    net = nn.Linear(4, 4)
    masks = sc.prune(net, 0.5)
    kept = net.weight.detach()[masks["weight"]].double()
    found = sc.penalty(sc.prunable(net), l1=1.0, l2=2.0)
    assert found.item() == pytest.approx(float(kept.abs().sum() + kept.square().sum()), rel=1e-5)
