"""Rewinding: weights equal the saved step to the last bit, and a state of another model is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import secateur as sc
from secateur.vocabulary import BadTargetError

State = dict[str, Tensor]


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def snapshot(net: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def train(net: nn.Module, steps: int, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
    generator = torch.Generator().manual_seed(steps)
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        x, y = torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 5
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def assert_rewound(net: nn.Module, state: State, masks: sc.Masks) -> None:
    for name, tensor in net.state_dict().items():
        expected = state[name].masked_fill(~masks[name], 0) if name in masks else state[name]
        assert torch.equal(tensor, expected), name


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(0, 3), st.integers(1, 4))
def test_weights_and_buffers_equal_the_saved_step_under_the_masks(sparsity: float, early: int, late: int) -> None:
    net = make_net()
    train(net, early)
    state = snapshot(net)
    train(net, late)
    masks = sc.select(sc.criteria.magnitude(sc.prunable(net)), sparsity, scope=sc.PerTensor())
    trained = snapshot(net)
    assert not torch.equal(trained["1.running_mean"], state["1.running_mean"])
    assert not torch.equal(trained["4.weight"], state["4.weight"])
    assert sc.rewind(net, state, masks) == masks
    assert_rewound(net, state, masks)
    assert int(net.state_dict()["1.num_batches_tracked"]) == early


def test_rewinding_again_rewinds_again() -> None:
    net = make_net()
    start = snapshot(net)
    copies = {name: tensor.clone() for name, tensor in start.items()}
    masks = sc.Masks({})
    for sparsity in (0.3, 0.6, 0.9):
        train(net, 2)
        masks = sc.prune(net, sparsity, within=masks or None)
        sc.rewind(net, start, masks)
        assert_rewound(net, start, masks)
        assert masks.sparsity == pytest.approx(sparsity, abs=0.01)
    assert all(torch.equal(tensor, copies[name]) for name, tensor in start.items()), "the state itself is not masked"


def test_without_masks_the_whole_state_comes_back() -> None:
    net = make_net()
    state = snapshot(net)
    train(net, 2)
    sc.prune(net, 0.5)
    assert sc.rewind(net, state) == sc.Masks({})
    assert_rewound(net, state, sc.Masks({}))


def test_parameters_stay_the_same_objects_and_masks_can_be_held() -> None:
    net = make_net()
    state, parameters = snapshot(net), list(net.parameters())
    optimizer = train(net, 2)
    loose = sc.Masks(dict(sc.prune(net, 0.5)))  # as read from a file
    with sc.hold(optimizer, sc.rewind(net, state, loose)):
        train(net, 3, optimizer)
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert all((net.get_parameter(name)[~mask] == 0).all() for name, mask in loose.items())


def test_tied_weights_go_back_together_and_wrappers_are_looked_through() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net.get_submodule("1").weight = net.get_parameter("0.weight")
    state = snapshot(net)
    net.get_parameter("0.weight").data += 1
    masks = sc.prune(net, 1 / 3)
    sc.rewind(torch.compile(net), state, masks)  # type: ignore[arg-type]
    assert net[0].weight is net[1].weight
    assert torch.equal(net.get_parameter("0.weight"), state["0.weight"] * masks["0.weight"])


def without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


WRONG: dict[str, tuple[Callable[[State], State], str]] = {
    "lacks a weight": (lambda s: without(s, "4.weight"), r"4\.weight"),
    "lacks a buffer": (lambda s: without(s, "1.running_var"), r"1\.running_var"),
    "lacks a counter": (lambda s: without(s, "1.num_batches_tracked"), r"1\.num_batches_tracked"),
    "one too many": (lambda s: s | {"5.weight": torch.ones(1)}, r"5\.weight"),
    "another shape": (lambda s: s | {"4.weight": torch.ones(5, 63)}, r"4\.weight"),
    "broadcasts": (lambda s: s | {"4.bias": torch.ones(1)}, r"4\.bias"),
    "empty": (lambda _: {}, r"0\.weight"),
    "of a wrapper": (lambda s: {f"module.{name}": tensor for name, tensor in s.items()}, r"module\.0\.weight"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_of_another_model_is_refused_by_name_and_changes_nothing(name: str) -> None:
    spoil, named = WRONG[name]
    net = make_net()
    state = snapshot(net)
    train(net, 2)
    before = snapshot(net)
    with pytest.raises(BadTargetError, match=named):
        sc.rewind(net, spoil(state), sc.Masks({}))
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_masks_of_another_model_are_refused_by_name() -> None:
    net = make_net()
    for masks in ({"9.weight": torch.ones(2).bool()}, {"4.weight": torch.ones(2).bool()}):
        with pytest.raises(BadTargetError, match=r"9\.weight|4\.weight"):
            sc.rewind(net, snapshot(net), masks)


def test_the_same_retraining_from_a_rewound_state_ends_at_the_same_weights() -> None:
    net = make_net()
    start = snapshot(net)
    train(net, 3)
    masks = sc.prune(net, 0.8)
    ends = []
    for steps in (2, 7):
        train(net, steps)
        masks = sc.rewind(net, start, masks)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        with sc.hold(optimizer, masks):
            train(net, 4, optimizer)
        ends.append(snapshot(net))
    assert all(torch.equal(a[name], b[name]) for a, b in itertools.pairwise(ends) for name in start)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda net: torch.compile(nn.DataParallel(net))])
def test_a_state_may_be_taken_from_a_wrapped_model(wrap: Callable[[nn.Module], nn.Module]) -> None:
    net = make_net()
    wrapped = wrap(net)
    start = snapshot(wrapped)
    with torch.no_grad():
        net[0].weight.add_(1)
    sc.rewind(wrapped, start)
    assert torch.equal(net[0].weight, next(tensor for name, tensor in start.items() if name.endswith("0.weight")))


def test_a_child_called_module_is_no_wrapper() -> None:
    net = nn.ModuleDict({"module": nn.Linear(2, 2)})
    sc.rewind(net, snapshot(net))
