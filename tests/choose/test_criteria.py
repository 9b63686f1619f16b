"""Criteria against computations of their own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import secateur as sc
from secateur.vocabulary import BadTargetError, SelectionError


def net_and_batches() -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    return net, [(torch.randn(6, 5), torch.randint(3, (6,))) for _ in range(3)]


def slow_gradients(net: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    found = []
    for x, y in batches:
        net.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        found.append(net[0].weight.grad.clone())  # type: ignore[index,union-attr,operator]
    net.zero_grad()
    return found


def test_taylor_is_the_mean_over_batches_of_the_absolute_product() -> None:
    net, batches = net_and_batches()
    stats = sc.stats.gradients(net, batches, functional.cross_entropy)
    weights = sc.prunable(net)
    slopes = slow_gradients(net, batches)
    expected = sum((weights["0.weight"] * g).abs() for g in slopes) / 3
    torch.testing.assert_close(sc.criteria.gradient(weights, stats)["0.weight"], expected)


def test_snip_is_the_product_with_the_mean_gradient_and_sums_to_one() -> None:
    net, batches = net_and_batches()
    weights = sc.prunable(net)
    scores = sc.criteria.snip(weights, sc.stats.gradients(net, batches, functional.cross_entropy))
    assert sum(float(s.sum()) for s in scores.values()) == pytest.approx(1, rel=1e-5)
    raw = (weights["0.weight"] * sum(slow_gradients(net, batches)) / 3).abs()
    ratio = (scores["0.weight"] / raw).detach()
    assert float(ratio.std() / ratio.mean()) < 1e-3


def test_gathering_statistics_leaves_the_model_as_it_was() -> None:
    net, batches = net_and_batches()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sc.stats.gradients(net, batches, functional.cross_entropy)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training and all(p.grad is None for p in net.parameters())


def test_statistics_need_batches_and_all_targets() -> None:
    net, batches = net_and_batches()
    with pytest.raises(SelectionError, match="no batch"):
        sc.stats.gradients(net, [], functional.cross_entropy)
    few = sc.stats.gradients(net, batches, functional.cross_entropy, sc.prunable(net, ["0"]))
    with pytest.raises(BadTargetError, match=r"3\.weight"):
        sc.criteria.gradient(sc.prunable(net), few)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4).map(float), min_size=1, max_size=12))
def test_lamp_equals_its_definition(values: list[float]) -> None:
    order = sorted(range(len(values)), key=lambda i: values[i])
    expected = [0.0] * len(values)
    for rank, i in enumerate(order):
        rest = sum(values[j] ** 2 for j in order[rank:])
        expected[i] = values[i] ** 2 / rest if rest else 0.0
    got = sc.lamp({"w": torch.tensor(values)})["w"]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


def test_lamp_empties_no_layer() -> None:
    weights = {"tiny": torch.rand(4, 4) * 1e-6, "huge": torch.rand(40, 40)}
    masks = sc.select(sc.lamp(sc.criteria.magnitude(weights)), 0.99)
    assert masks["tiny"].any() and masks["huge"].any()


def test_random_scores_depend_on_name_and_seed_alone() -> None:
    weights = {"a": torch.zeros(50), "b": torch.zeros(50)}
    one = sc.criteria.random(weights, seed=5)
    other = sc.criteria.random({"b": torch.ones(50), "a": torch.ones(50)}, seed=5)
    assert all(torch.equal(one[name], other[name]) for name in weights)
    assert not torch.equal(one["a"], one["b"])
    assert not torch.equal(one["a"], sc.criteria.random(weights, seed=6)["a"])
