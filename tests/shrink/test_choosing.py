"""Choosing units: exact counts, nothing emptied, multiples, scopes, allocations, and masks that make units dead."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.vocabulary import NothingPrunedWarning, SelectionError


def net() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(5, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(16, 3)).double().eval()


EXAMPLE = torch.randn(4, 5, dtype=torch.float64)


def units_left(model: nn.Module, masks: sc.Masks, name: str) -> int:
    return int(masks[name].flatten(1).any(1).sum())


@given(st.floats(0, 1))
def test_exactly_the_share_asked_for_goes(sparsity: float) -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE))
    masks = choice(sc.unit_weights(model, choice.coupling), sparsity)
    left = units_left(model, masks, "0.weight") + units_left(model, masks, "3.weight")
    wanted = 40 - round(sparsity * 40)
    assert left == wanted if wanted > 2 else left >= 2
    assert units_left(model, masks, "5.weight") == 3  # outputs stay


@given(st.floats(0, 1), st.sampled_from([1, 2, 4, 8]))
def test_each_ranking_has_its_share_and_is_rounded_to_the_multiple(sparsity: float, multiple: int) -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE), scope=sc.PerTensor(), multiple=multiple)
    masks = choice(sc.unit_weights(model, choice.coupling), sparsity)
    for name, count in (("0.weight", 24), ("3.weight", 16)):
        left, wanted = units_left(model, masks, name), count - round(sparsity * count)
        assert left % multiple == 0
        assert left >= multiple
        assert abs(left - wanted) <= max(multiple / 2, multiple - wanted)


def test_the_least_go_by_an_independent_reckoning() -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE), scope=sc.PerTensor())
    masks = choice(sc.unit_weights(model, choice.coupling), 0.25)
    norms = model[0].weight.detach().square().sum(1).sqrt()
    assert torch.equal(masks["0.weight"].any(1), norms >= norms.sort().values[6])


def test_a_unit_that_goes_goes_everywhere() -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE))
    masks = choice(sc.unit_weights(model, choice.coupling), 0.5)
    gone = ~masks["0.weight"].any(1)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(~masks[name], gone)
    assert torch.equal(~masks["3.weight"].any(0), gone)


def test_scores_of_coupled_layers_are_pooled() -> None:
    model, example = zoo.build("shared")
    choice = sc.UnitChoice(sc.couple(model, example), scope=sc.PerTensor())
    masks = choice(sc.unit_weights(model, choice.coupling), 3 / 7)
    both = model.enter.weight.square().sum(1) + model.again.weight.square().sum(1)
    assert torch.equal(masks["enter.weight"].any(1), both.detach() >= both.detach().sort().values[3])


def test_what_is_gone_counts_and_stays_gone() -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE))
    weights = sc.unit_weights(model, choice.coupling)
    first = choice(weights, 0.3)
    with torch.no_grad():
        for weight in weights.values():
            weight.normal_()
    second = choice(weights, 0.5, within=first)
    assert units_left(model, second, "0.weight") + units_left(model, second, "3.weight") == 20
    assert all(bool((second[name] <= first[name]).all()) for name in second)


def test_masks_of_other_weights_are_refused() -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE))
    weights = sc.unit_weights(model, choice.coupling)
    with pytest.raises(SelectionError, match=r"no mask of shape \[24, 5\] for '0.weight'"):
        choice(weights, 0.5, within={"0.weight": torch.ones(16, 24, dtype=torch.bool)})


def test_units_that_are_gone_do_not_lift_those_that_are_left() -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE))
    with torch.no_grad():
        model[0].weight[:18] = 0  # a quarter of this layer's units is left, and all of the other's
        model[0].weight[18:] = 1
        model[3].weight[:] = 1
    scores = choice.scores(sc.unit_weights(model, choice.coupling))
    assert scores["0.weight"][18:].unique().tolist() == pytest.approx(scores["3.weight"].unique().tolist())


def test_an_allocation_gives_groups_their_own_shares() -> None:
    model = net()
    choice = sc.UnitChoice(
        sc.couple(model, EXAMPLE), scope=sc.PerTensor(), allocation={"0.weight": 0.5, "3.weight": 0.25}
    )
    masks = choice(sc.unit_weights(model, choice.coupling))
    assert (units_left(model, masks, "0.weight"), units_left(model, masks, "3.weight")) == (12, 12)
    erk = sc.UnitChoice(choice.coupling, scope=sc.PerTensor(), allocation=sc.erk)
    assert units_left(model, erk(sc.unit_weights(model, choice.coupling), 0.5), "0.weight") > 12


def test_ignored_units_stay() -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE), ignore=["0.*"])
    masks = choice(sc.unit_weights(model, choice.coupling), 0.5)
    assert (units_left(model, masks, "0.weight"), units_left(model, masks, "3.weight")) == (24, 8)


@pytest.mark.parametrize("reduce", ["l2", "sum", "mean", "max"])
def test_every_reduction_ranks_as_numpy_does(reduce: Any) -> None:
    model = net()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE), scope=sc.PerTensor(), reduce=reduce)
    masks = choice(sc.unit_weights(model, choice.coupling), 0.5)
    w = model[3].weight.detach().abs().numpy()
    scores = {"l2": (w**2).sum(1), "sum": w.sum(1), "mean": w.mean(1), "max": w.max(1)}[reduce]
    assert set(masks["3.weight"].any(1).nonzero().flatten().tolist()) == set(scores.argsort()[8:].tolist())


@pytest.mark.parametrize("criterion", [sc.criteria.magnitude, sc.criteria.random])
@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name not in ("odd", "encoder", "counted")])
def test_chosen_units_can_be_deleted_from_every_nasty_graph(name: str, criterion: Any) -> None:
    model, example = zoo.build(name)
    choice = sc.UnitChoice(sc.couple(model, example), criterion=criterion)
    masks = sc.prune_units(model, example, 0.5, choice=choice)
    small = sc.shrink(model, example)
    kept = sum(int(masks[n].sum()) if n in masks else p.numel() for n, p in model.named_parameters())
    assert sum(p.numel() for p in small.parameters()) <= kept
    assert all(parameter.numel() for parameter in small.parameters())


@pytest.mark.parametrize("name", ["residual", "gate", "pre-norm, grouped queries"])
@pytest.mark.parametrize("kind", ["gradient", "snip", "lamp"])
def test_criteria_that_look_at_data_choose_units_too(name: str, kind: str) -> None:
    model, example = zoo.build(name)
    coupling = sc.couple(model, example)
    rules = sc.criteria
    if kind == "lamp":
        criterion: Any = lambda weights: rules.lamp(rules.magnitude(weights))  # noqa: E731
    else:
        batches = [(example + 0.1 * n, None) for n in range(2)]
        stats = sc.stats.gradients(model, batches, lambda out, _: out.square().mean())
        criterion = partial(getattr(rules, kind), stats=stats)
    masks = sc.prune_units(model, example, 0.4, choice=sc.UnitChoice(coupling, criterion=criterion))
    small = sc.shrink(model, example)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    by_size = sc.UnitChoice(coupling)(sc.unit_weights(zoo.build(name)[0], coupling), 0.4)
    assert any(not torch.equal(masks[each], by_size[each]) for each in masks)


def test_the_pruner_takes_it() -> None:
    model = net().train()
    choice = sc.UnitChoice(sc.couple(model, EXAMPLE))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    schedule = sc.PolynomialSchedule(0.0, 0.5, begin_step=0, end_step=10, frequency=1)
    pruner = sc.Pruner(model, optimizer, schedule, choice, weights=sc.unit_weights(model, choice.coupling))
    for _ in range(10):
        model(EXAMPLE).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    pruner.finalize()
    small = sc.shrink(model, EXAMPLE, optimizer=optimizer)
    assert small[0].out_features + small[3].out_features == 20
    small(EXAMPLE).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["macs", "parameters"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_budget_is_met_by_as_few_units_as_need_be(kind: str, share: float) -> None:
    model, example = zoo.build("residual")
    before = cost(model, example, kind)
    sc.prune_units(model, example, target={kind: share})
    small = sc.shrink(model, example)
    left = cost(small, example, kind) / before
    assert 0.6 * share < left <= share


def cost(model: nn.Module, example: Any, kind: str) -> float:
    report = sc.measure(model, example)
    return report.macs.dense if kind == "macs" else sum(p.numel() for p in model.parameters())


def test_a_budget_of_latency_is_met_by_the_shrunk_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def work_as_time(calls: list[Any], timing: sc.Timing) -> list[Any]:
        """Say that a call takes as long as the networks it closes over have parameters."""
        nets = [next(cell.cell_contents for cell in call.__closure__ if _is_net(cell.cell_contents)) for call in calls]
        seen.append([sum(p.numel() for p in each.parameters()) for each in nets])
        return [SimpleNamespace(median_ms=float(count)) for count in seen[-1]]

    monkeypatch.setattr(import_module("secateur.measure.budget"), "latencies", work_as_time)
    model = net()
    masks = sc.prune_units(model, EXAMPLE, target={"latency": 0.5})
    small = sc.shrink(model, EXAMPLE)
    assert seen[0][0] == seen[0][1]  # whole against whole, at first
    assert sum(p.numel() for p in small.parameters()) <= 0.5 * seen[0][0]
    assert sum(int(mask.sum()) for mask in masks.values()) > 0.4 * seen[0][0]


def _is_net(value: Any) -> bool:
    return isinstance(value, nn.Module)


def test_what_the_code_does_not_bear_is_not_chosen() -> None:
    model, example = zoo.build("counted")
    with pytest.warns(NothingPrunedWarning, match="mix"):
        masks = sc.prune_units(model, example, 0.5)
    assert units_left(model, masks, "mix.weight") == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either sparsity"),
        ({"sparsity": 0.5, "target": {"macs": 0.5}}, "either sparsity"),
        ({"target": {"flops": 0.5}}, "no 'flops'"),
        ({"target": {"macs": 1.5}}, "at most 1"),
        ({"target": {"macs": 0.0001}}, "cannot be reached"),
        ({"sparsity": 1.5}, "between 0 and 1"),
        ({"target": {"macs": 0.5, "parameters": 0.5}}, "one cost"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        sc.prune_units(net(), EXAMPLE, **arguments)


def test_choices_that_do_not_go_together_are_refused() -> None:
    coupling = sc.couple(net(), EXAMPLE)
    with pytest.raises(SelectionError, match="multiple"):
        sc.UnitChoice(coupling, multiple=0)
    with pytest.raises(SelectionError, match="nothing to allocate"):
        sc.UnitChoice(coupling, allocation={"0.weight": 0.5})
    with pytest.raises(SelectionError, match="write no units"):
        sc.UnitChoice(coupling, scope=sc.PerTensor(), allocation={"nine": 0.5})(sc.unit_weights(net(), coupling), 0.5)
    with pytest.raises(SelectionError, match="no unit of the model may go"):
        sc.prune_units(nn.Linear(3, 2), torch.ones(1, 3), 0.5)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"multiple": 1.5}, "multiple"),
        ({"reduce": "median"}, "none of l2, sum, mean, max"),
        ({"ignore": "0.weight"}, r"as in \['0.weight'\]"),
        ({"scope": sc.PerRow()}, "not in PerRow"),
    ],
)
def test_settings_of_another_kind_are_refused(setting: dict[str, Any], told: str) -> None:
    coupling = sc.couple(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2))
    with pytest.raises(SelectionError, match=told):
        sc.UnitChoice(coupling, **setting)


def test_what_the_masks_to_stay_inside_do_not_name_is_whole() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    earlier = torch.ones(4, 2, dtype=torch.bool)
    earlier[1] = False
    choice = sc.UnitChoice(sc.couple(net, torch.zeros(1, 2)), scope=sc.PerTensor())
    masks = sc.prune_units(net, torch.zeros(1, 2), 0.5, choice=choice, within={"0.weight": earlier})
    kept = [masks[name].any(1) for name in ("0.weight", "2.weight")]
    assert [int(each.sum()) for each in kept] == [2, 2] and not kept[0][1]
