"""Pruning in one call."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.vocabulary import BadTargetError, NamedTensors

# At the highest sparsities a layer of these small nets may well be emptied.
pytestmark = pytest.mark.filterwarnings("ignore::secateur.vocabulary.CollapseWarning")


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def zeros(net: nn.Module) -> int:
    return sum(int((w == 0).sum()) for w in sc.prunable(net).values())


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_exactly_what_is_asked_becomes_zero(sparsity: float) -> None:
    net = make_net()
    before = copy.deepcopy(net)
    masks = sc.prune(net, sparsity)
    total = 36 + 320
    assert zeros(net) == masks.count().removed == round(sparsity * total)
    magnitudes = torch.cat([w.detach().abs().flatten() for w in sc.prunable(before).values()])
    flags = torch.cat([m.flatten() for m in masks.values()])
    if sparsity > 0:
        assert magnitudes[~flags].max() <= magnitudes[flags].min()
    for name, parameter in net.named_parameters():
        old = before.get_parameter(name)
        assert torch.equal(parameter, old * masks[name] if name in masks else old), "nothing else moves"


def test_a_kept_weight_that_is_zero_is_still_kept() -> None:
    net = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(net.weight)
    masks = sc.prune(net, 0.5)
    assert masks["weight"].tolist() == [[False, False, True, True]]
    assert sc.prune(net, 0.75, within=masks)["weight"].tolist() == [[False, False, False, True]]


def test_magnitudes_need_no_scores_and_give_the_same_masks() -> None:
    net = make_net()
    weights = sc.prunable(net)
    named = NamedTensors({name: weight.detach() for name, weight in weights.items()})
    for scope in (sc.Global(), sc.PerTensor(), sc.PerRow()):
        for allocation in (None, sc.erk, {"0.weight": 0.25}) if scope == sc.PerTensor() else (None,):
            expected = sc.select(sc.criteria.magnitude(named), 0.5, scope=scope, allocation=allocation)
            assert sc.Choice(scope=scope, allocation=allocation)(weights, 0.5) == expected


def test_a_second_half_means_half_of_the_original() -> None:
    net = make_net()
    masks = sc.prune(net, 0.5)
    again = sc.prune(net, 0.5)
    assert again == masks and zeros(net) == 178
    deeper = sc.prune(net, 0.8, within=masks)
    assert (deeper & masks) == deeper and zeros(net) == round(0.8 * 356)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, functools.partial(torch.compile, backend="eager")], ids=["parallel", "compiled"]
)
def test_wrapped_models_are_pruned_under_their_plain_names(wrap: object) -> None:
    net = make_net()
    keys = list(net.state_dict())
    masks = sc.prune(wrap(net), 0.5)  # type: ignore[operator]
    assert list(masks) == ["0.weight", "3.weight"]
    assert zeros(net) == 178 and list(net.state_dict()) == keys


def test_memory_format_does_not_change_the_choice() -> None:
    net = make_net()
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    for choice in (sc.Choice(), sc.Choice(granularity=sc.Row()), sc.Choice(scope=sc.PerRow())):
        assert sc.prune(copy.deepcopy(net), 0.5, choice) == sc.prune(copy.deepcopy(other), 0.5, choice)


def test_only_the_given_targets_are_pruned() -> None:
    net = make_net()
    masks = sc.prune(net, 0.5, weights=sc.prunable(net, ignore=[nn.Linear]))
    assert list(masks) == ["0.weight"] and masks.sparsity == 0.5
    assert (net[3].weight != 0).all()


def test_a_tied_tensor_is_counted_once_and_stays_tied() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    masks = sc.prune(net, 0.5)
    assert masks.count() == (8, 16)
    assert net[1].weight is net[0].weight and int((net[0].weight == 0).sum()) == 8


def test_a_model_without_targets_is_refused_untouched() -> None:
    with pytest.raises(BadTargetError, match="LayerNorm"):
        sc.prune(nn.LayerNorm(3), 0.5)
