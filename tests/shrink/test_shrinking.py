"""Shrinking: outputs stay, units go, and what cannot be followed is left whole and named."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import zoo
from torch import Tensor, nn
from zoo import half_dead

import secateur as sc
from secateur.graph import TraceError
from secateur.shrink import NothingShrunkWarning
from secateur.shrink.checking import difference, outputs
from secateur.vocabulary import BadTargetError

pytestmark = pytest.mark.filterwarnings("ignore::secateur.vocabulary.SecateurWarning")


def prune(model: nn.Module, sparsity: float, granularity: Any, seed: int) -> sc.Masks:
    """Zero weights and biases at random."""
    weights = sc.prunable(model, biases=True)
    scores = sc.criteria.random(weights, seed=seed)
    masks = sc.select(scores, sparsity, granularity=granularity, scope=sc.PerTensor())
    sc.apply(model, masks)
    return masks


def agree(first: nn.Module, second: nn.Module, example: Any) -> bool:
    args = ((), example) if isinstance(example, dict) else ((example,), {})
    return difference(outputs(first, *args), outputs(second, *args))[1]


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("granularity", [sc.Element(), sc.Row()], ids=["elements", "rows"])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7, 0.9, 0.95, 0.99])
def test_outputs_stay_on_nasty_graphs(name: str, granularity: Any, sparsity: float) -> None:
    model, example = zoo.build(name)
    prune(model, sparsity, granularity, seed=round(100 * sparsity))
    small = sc.shrink(model, example)
    fresh = zoo.build(name, seed=1)[1]
    assert agree(model, small, example)
    assert agree(model, small, fresh)
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in model.parameters())


# What is left when every weight is gone: one unit a layer, and what must stay.
LEAST = {
    "residual": 54,
    "concat then conv": 182,
    "shared": 17,
    "depthwise": 53,
    "gate": 42,
    "pre-norm, grouped queries": 545,
    "pre-norm, by hand": 545,
    "pre-norm, all heads": 413,
    "packed": 1264,
    "u-net": 62,
    "two heads": 42,
    "shuffle": 183,
    "norms": 177,
    "split": 49,
    "counted": 238,
    "recurrent": 599,
    "odd": 161,
    "rotary": 204,
    "dims": 42,
    "encoder": 709,
}


@pytest.mark.parametrize("name", zoo.ZOO)
def test_everything_dead_goes(name: str) -> None:
    model, example = zoo.build(name)
    prune(model, 1.0, sc.Row(), 0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
    small = sc.shrink(model, example)
    assert sum(p.numel() for p in small.parameters()) <= LEAST[name]


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name != "odd"])
def test_a_fresh_instance_takes_the_shapes_of_the_shrunk_one(name: str) -> None:
    model, example = zoo.build(name)
    prune(model, 0.9, sc.Row(), 0)
    small = sc.shrink(model, example)
    again, _ = zoo.build(name, seed=3)
    sc.rebuild(again, sc.manifest(small))
    again.load_state_dict(small.state_dict())
    assert agree(small, again.eval(), example)
    assert str(again) == str(small)


def test_what_is_not_known_is_named() -> None:
    model, example = zoo.build("odd")
    prune(model, 0.9, sc.Row(), 0)
    record = sc.shrinkage(sc.shrink(model, example))
    assert record is not None
    assert {word.split()[0] for word in record.unknown} >= {"pixel_shuffle", "conv2d", "einsum"}


def test_a_number_in_the_code_that_nobody_finds_leaves_its_layer_whole() -> None:
    model, example = zoo.build("counted")
    prune(model, 1.0, sc.Row(), 0)
    small = sc.shrink(model, example)
    record = sc.shrinkage(small)
    assert record is not None
    assert any("mix.weight" in reason and "insists" in reason for reason in record.stays)
    assert small.features == 25 * small.conv.out_channels < 100


class Padded(nn.Module):
    """A constant channel ahead of zero padding, and ahead of none."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.one(x)))


@pytest.mark.parametrize(("padding", "left"), [(0, 3), (1, 4)])
def test_constants_are_folded_except_across_zero_padding(padding: int, left: int) -> None:
    model = Padded(padding).double().eval()
    with torch.no_grad():
        model.one.weight[1].zero_()
        model.one.bias[1] = 0.7
    example = torch.randn(2, 1, 9, 9, dtype=torch.float64)
    small = sc.shrink(model, example)
    record = sc.shrinkage(small)
    assert record is not None
    assert small.one.out_channels == left
    assert agree(model, small, example)
    assert bool(record.stays) == bool(padding)
    assert record.folded == (() if padding else ("two.bias",))


def test_a_bias_is_made_where_there_is_none_and_a_mean_takes_it_up_ahead_of_batchnorm() -> None:
    layers = [nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 5, bias=False), nn.ReLU()]
    layers += [nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)]
    model = nn.Sequential(*layers).double().eval()
    with torch.no_grad():
        model[0].weight[2].zero_()
        model[4].weight[0].zero_()
    example = torch.randn(6, 3, dtype=torch.float64)
    small = sc.shrink(model, example)
    record = sc.shrinkage(small)
    assert record is not None
    assert record.folded == ("2.bias", "7.running_mean")
    assert small[2].bias is not None
    assert agree(model, small, example)
    again = nn.Sequential(*copy.deepcopy(layers)).double().eval()
    sc.rebuild(again, sc.manifest(small))
    again.load_state_dict(small.state_dict())
    assert agree(small, again, example)


def test_a_chain_of_dead_units_goes_to_its_end() -> None:
    model = nn.Sequential(
        *[layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.Tanh())], nn.Linear(8, 2)
    ).double()
    with torch.no_grad():
        model[-1].weight[:, 3:] = 0  # nothing reads five units of the last layer but one
        for layer in model[2:12:2]:
            layer.weight[:3, 3:] = 0
    small = sc.shrink(model, torch.randn(4, 8, dtype=torch.float64))
    assert [layer.out_features for layer in small if isinstance(layer, nn.Linear)] == [3] * 6 + [2]


def test_the_index_map_leads_from_the_large_tensors_to_the_small() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4)).double()
    prune(model, 0.5, sc.Row(), 0)
    example = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    small = sc.shrink(model, example)
    record = sc.shrinkage(small)
    assert record is not None
    for name, tensor in small.named_parameters():
        large = model.get_parameter(name)
        for dim, kept in record.kept.get(name, {}).items():
            large = large.index_select(dim, kept)
        if name not in record.folded:
            assert torch.equal(tensor, large)


def test_shrinking_twice_keeps_one_map_and_one_manifest() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8, bias=False), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    example = torch.randn(5, 6, dtype=torch.float64)
    prune(model, 0.3, sc.Row(), 0)
    once = sc.shrink(model, example)
    with torch.no_grad():
        once[0].weight[1].zero_()
        once[2].weight[[0, 2]] = 0
    twice = sc.shrink(once, example)
    record = sc.shrinkage(twice)
    assert record is not None
    assert record.kept["0.weight"][0].tolist() == [
        int(i) for n, i in enumerate(sc.shrinkage(once).kept["0.weight"][0]) if n != 1
    ]
    again = copy.deepcopy(model)
    sc.rebuild(again, sc.manifest(twice))
    again.load_state_dict(twice.state_dict())
    assert agree(twice, again, example)


def test_tied_weights_stay_tied() -> None:
    model, example = zoo.build("shared")
    prune(model, 0.9, sc.Row(), 0)
    small = sc.shrink(model, example)
    assert small.twin.weight is small.leave.weight


def test_the_model_is_not_changed_and_modes_stay() -> None:
    model, example = zoo.build("residual")
    prune(model, 0.9, sc.Row(), 0)
    model.train()
    model.after.eval()
    before = copy.deepcopy(model.state_dict())
    small = sc.shrink(model, example)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (model.training, model.norm.training, model.after.training) == (True, True, False)
    assert (small.training, small.norm.training, small.after.training) == (True, True, False)


def test_masks_are_applied_to_the_copy() -> None:
    model, example = zoo.build("gate")
    twin = copy.deepcopy(model)
    masks = prune(twin, 0.7, sc.Row(), 0)
    assert agree(twin, sc.shrink(model, example, masks=masks), example)
    assert not agree(twin, model, example)


class Branching(nn.Module):
    """Its way depends on its input, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x.sum() > 0 else self.two(x)


def test_what_cannot_be_traced_comes_back_whole_with_a_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small = sc.shrink(Branching(), torch.ones(1, 3))
    assert any("cannot trace Branching" in str(warning.message) for warning in caught)
    assert isinstance(small, Branching)


def test_nothing_dead_is_said() -> None:
    with pytest.warns(NothingShrunkWarning, match="whole"):
        sc.shrink(nn.Linear(3, 2), torch.ones(1, 3))


def test_what_computes_nothing_to_compare_is_named() -> None:
    with pytest.raises(BadTargetError, match="Sequential does not compute the example: mat1 and mat2"):
        sc.shrink(half_dead(), torch.randn(8, 5))
    with pytest.raises(BadTargetError, match="nothing but NaN and infinities"):
        sc.shrink(half_dead(), torch.full((8, 4), float("nan")))
    net = half_dead()
    net[2].weight.data[0] = float("nan")  # the other output is finite
    assert sc.shrink(net, torch.randn(8, 4))[0].out_features == 4


def test_what_cannot_be_traced_prints_no_graph(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TraceError, match=r"torch\.export cannot trace Sequential"):
        sc.couple(half_dead(), torch.randn(8, 5))
    assert capfd.readouterr().err == ""
