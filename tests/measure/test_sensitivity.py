"""Sensitivity: curves, a model left as it was, and allocations that spend the budget exactly and fairly."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.vocabulary import SelectionError

SPARSITIES = (0.3, 0.5, 0.8, 0.95, 1.0)


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def kept(model: nn.Module) -> float:
    return float(sum(int((w != 0).sum()) for w in sc.prunable(model).values()))


def test_every_point_of_a_curve_prunes_one_target_alone() -> None:
    net = make_net()  # 36 and 320 weights
    found = sc.sensitivity(net, kept, [0.75, 0.25, 1])
    assert (found.whole, found.sizes) == (356, {"0.weight": 36, "4.weight": 320})
    assert found.curves == {
        "0.weight": {0.25: 347, 0.75: 329, 1.0: 320},
        "4.weight": {0.25: 276, 0.75: 116, 1.0: 36},
    }
    assert [list(curve) for curve in found.curves.values()] == [[0.25, 0.75, 1.0]] * 2


def test_the_smallest_weights_go_and_the_score_sees_the_model_itself() -> None:
    net = make_net()
    weight = net.get_parameter("4.weight")
    magnitudes = weight.detach().abs().flatten().sort().values
    seen = []

    def score(model: nn.Module) -> float:
        assert model is net
        left = weight.detach()[weight != 0].abs()
        seen.append(len(left) == 320 or bool(left.min() > magnitudes[159]))
        return 0.0

    sc.sensitivity(net, score, [0.5], weights=sc.prunable(net, ignore=["0"]))
    assert seen == [True, True]


def test_granularity_and_criterion_are_those_of_the_choice() -> None:
    net = make_net()
    rows = sc.Choice(granularity=sc.Row(), scope=sc.PerTensor())
    shapes = []

    def score(model: nn.Module) -> float:
        whole = [w.flatten(1) for w in sc.prunable(model).values()]
        shapes.append([int((w == 0).all(1).sum()) for w in whole])
        return float(all((row == 0).all() or (row != 0).all() for w in whole for row in w))

    found = sc.sensitivity(net, score, [0.5, 0.75], rows)
    assert shapes == [[0, 0], [2, 0], [3, 0], [0, 2], [0, 4]]
    assert all(value == 1 for curve in found.curves.values() for value in curve.values())


@pytest.mark.parametrize("failing", [0, 1, 3, 5])
def test_weights_are_put_back_exactly_even_if_the_score_raises(failing: int) -> None:
    net = make_net()
    net.get_parameter("0.weight").data[0, 0, 0, 0] = float("inf")  # no arithmetic brings these back
    net.get_parameter("4.weight").data[0, 0] = -0.0
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    parameters, calls = list(net.parameters()), []

    def score(model: nn.Module) -> float:
        calls.append(kept(model))
        if len(calls) == failing:
            raise ZeroDivisionError
        return calls[-1]

    if failing:
        with pytest.raises(ZeroDivisionError):
            sc.sensitivity(net, score, [0.5, 0.9])
    else:
        sc.sensitivity(net, score, [0.5, 0.9])
    assert len(calls) == (failing or 5)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(tensor.signbit(), before[name].signbit())
    assert all(a is b and a.grad is None for a, b in zip(net.parameters(), parameters, strict=True))


def test_a_sparsity_out_of_range_is_refused_and_changes_nothing() -> None:
    net = make_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(SelectionError, match="between 0 and 1"):
        sc.sensitivity(net, kept, [0.5, 90])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_wrapped_models_have_the_same_curves() -> None:
    net = make_net()
    expected = sc.sensitivity(net, kept, [0.5])
    assert sc.sensitivity(torch.compile(net), kept, [0.5]) == expected  # type: ignore[arg-type]


def test_the_drop_is_read_off_between_the_points() -> None:
    curve = {0.5: 0.8, 0.75: 0.4, 1.0: 0.1}
    found = sc.Sensitivity(0.9, {"w": curve}, {"w": 8})
    for drop, expected in {0.0: 0.0, 0.05: 0.25, 0.1: 0.5, 0.3: 0.625, 0.5: 0.75, 0.65: 0.875, 0.8: 1, 9: 1}.items():
        assert found.at_drop(drop) == {"w": pytest.approx(expected)}, drop


def test_a_curve_that_rises_again_counts_to_its_first_fall() -> None:
    found = sc.Sensitivity(0.5, {"w": {0.2: 0.6, 0.4: 0.3, 0.6: 0.5, 0.8: 0.1}}, {"w": 8})
    assert found.at_drop(0.1) == {"w": pytest.approx(0.3)}
    assert found.at_drop(0.2) == {"w": pytest.approx(0.7)}  # past the hollow, half way down the next
    assert found.at_drop(0.0) == {"w": pytest.approx(0.2)}
    assert found.at_drop(1.0) == {"w": 0.8}, "no further than was measured"


@pytest.mark.parametrize("bad", [float("nan"), -math.inf])
def test_a_score_that_is_not_finite_is_as_bad_as_any(bad: float) -> None:
    found = sc.Sensitivity(0.9, {"a": {0.5: 0.8, 1.0: bad}, "b": {0.5: 0.8, 1.0: 0.1}}, {"a": 8, "b": 8})
    assert found.at_drop(0.1) == {"a": 0.5, "b": 0.5}
    assert found.at_drop(5.0) == {"a": 0.5, "b": 1.0}
    assert found.allocation(0.7) == pytest.approx({"a": 0.5, "b": 0.9})
    broken = sc.Sensitivity(0.9, {"a": {0.5: bad, 1.0: bad}, "b": {0.5: 0.8, 1.0: 0.7}}, {"a": 8, "b": 8})
    assert broken.allocation(0.5) == pytest.approx({"a": 0.0, "b": 1.0})


SCORE = st.one_of(st.floats(-1, 2), st.sampled_from([0.0, 0.5, 0.9]))


@st.composite
def sensitivities(draw: st.DrawFn) -> sc.Sensitivity:
    """Some layers of any sizes with curves that fall, or that go up and down."""
    curves, sizes = {}, {}
    points = draw(st.lists(st.floats(0.01, 1), min_size=1, max_size=6, unique=True).map(sorted))
    for layer in range(draw(st.integers(1, 5))):
        scores = draw(st.lists(SCORE, min_size=len(points), max_size=len(points)))
        scores = sorted(scores, reverse=True) if draw(st.booleans()) else scores
        curves[f"w{layer}"] = dict(zip(points, scores, strict=True))
        sizes[f"w{layer}"] = draw(st.integers(1, 100_000))
    return sc.Sensitivity(draw(SCORE), curves, sizes)


@settings(max_examples=300, deadline=None)
@given(sensitivities(), st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])))
def test_an_allocation_spends_exactly_the_budget(found: sc.Sensitivity, sparsity: float) -> None:
    shares = found.allocation(sparsity)
    assert shares.keys() == found.sizes.keys()
    assert all(0 <= share <= 1 for share in shares.values())
    removed = sum(shares[name] * size for name, size in found.sizes.items())
    assert removed == pytest.approx(sparsity * sum(found.sizes.values()), rel=1e-9, abs=1e-6)
    if sparsity in (0, 1):
        assert set(shares.values()) == {sparsity}


@settings(max_examples=200, deadline=None)
@given(sensitivities(), st.floats(0, 1))
def test_shares_of_whole_weights_remove_exactly_the_count(found: sc.Sensitivity, sparsity: float) -> None:
    shares, whole = found.allocation(sparsity), found.allocation(sparsity, whole=True)
    counts = {name: whole[name] * size for name, size in found.sizes.items()}
    assert sum(map(round, counts.values())) == round(sparsity * sum(found.sizes.values()))
    for name, size in found.sizes.items():
        assert counts[name] == pytest.approx(round(counts[name]), abs=1e-6) and 0 <= whole[name] <= 1
        assert abs(counts[name] - shares[name] * size) < 1 + 1e-3


def test_removing_everything_is_not_left_to_rounding() -> None:
    curves = {"a": dict.fromkeys((0.25, 0.5, 0.75, 1.0), 0.0), "b": {0.25: 0.0, 0.5: 0.0, 0.75: 0.0, 1.0: -1.0}}
    assert sc.Sensitivity(0.0, curves, {"a": 1, "b": 1}).allocation(1.0) == {"a": 1.0, "b": 1.0}


@settings(max_examples=300, deadline=None)
@given(sensitivities(), st.floats(0, 1), st.data())
def test_a_less_sensitive_layer_never_gets_less(found: sc.Sensitivity, sparsity: float, data: st.DataObject) -> None:
    better = {s: score + data.draw(st.floats(0, 1)) for s, score in found.curves["w0"].items()}
    size = data.draw(st.integers(1, 100_000))
    both = sc.Sensitivity(found.whole, {**found.curves, "better": better}, {**found.sizes, "better": size})
    shares = both.allocation(sparsity)
    assert shares["better"] >= shares["w0"] - 1e-9


@settings(max_examples=200, deadline=None)
@given(sensitivities(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_drop_never_reaches_less_far(found: sc.Sensitivity, a: float, b: float) -> None:
    low, high = found.at_drop(min(a, b)), found.at_drop(max(a, b))
    assert all(low[name] <= high[name] + 1e-12 for name in low)


def test_curves_that_fall_strictly_are_followed_to_the_same_drop() -> None:
    curves = {"a": {0.5: 0.8, 1.0: 0.2}, "b": {0.5: 0.6, 1.0: 0.1}, "c": {0.5: 0.7, 1.0: 0.6}}
    found = sc.Sensitivity(0.9, curves, {"a": 300, "b": 1000, "c": 50})
    shares = found.allocation(0.4)
    lost = {
        name: (0.9 - curve[0.5]) * shares[name] / 0.5
        if shares[name] <= 0.5
        else 0.9 - curve[0.5] + (curve[0.5] - curve[1.0]) * (shares[name] - 0.5) / 0.5
        for name, curve in curves.items()
    }
    assert lost == pytest.approx(dict.fromkeys(curves, lost["a"]))


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, 90, float("nan")])
def test_a_budget_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(SelectionError, match="between 0 and 1"):
        sc.Sensitivity(0.9, {"w": {1.0: 0.5}}, {"w": 4}).allocation(sparsity)


def test_an_allocation_is_one_that_select_takes() -> None:
    net = make_net()
    shares = sc.sensitivity(net, kept, SPARSITIES).allocation(0.7)
    masks = sc.prune(net, 0.7, sc.Choice(scope=sc.PerTensor(), allocation=shares))
    assert masks.count().removed == pytest.approx(0.7 * 356, abs=1)
    assert all(masks.count(name).sparsity == pytest.approx(shares[name], abs=0.02) for name in masks)
    assert shares["0.weight"] > shares["4.weight"], "its weights are fewer, so the score falls less"
