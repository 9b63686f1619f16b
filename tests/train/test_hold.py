"""Held weights stay at exactly zero, whatever the loop around them does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from wrapping import Lookahead

import secateur as sc
from secateur.vocabulary import BadTargetError, SecateurWarning


class Noisy(torch.optim.SGD):
    """An optimizer of somebody else's that does more than its gradient says."""

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[no-untyped-def,override]
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(0.01)


class Unhooked(Lookahead):
    """One that never became a torch optimizer, but says it is."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, closure=None):  # type: ignore[no-untyped-def,override]
        self.optimizer.step(closure)


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "not elementwise": lambda p: Noisy(p, lr=0.01, momentum=0.9),
    "around another": lambda p: Lookahead(torch.optim.Adam(p, lr=0.01)),
}


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def work(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 5
    for _ in range(steps):
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


def assert_zero(net: nn.Module, optimizer: torch.optim.Optimizer, masks: sc.Masks) -> None:
    for name, mask in masks.items():
        parameter = net.get_parameter(name)
        assert (parameter[~mask] == 0).all(), name
        assert (parameter[mask] != 0).all(), name
        for key, state in optimizer.state.get(parameter, {}).items():
            if isinstance(state, Tensor) and state.shape == mask.shape:
                assert (state[~mask] == 0).all(), f"{key} of {name}"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_state_are_zero_after_a_thousand_steps(name: str) -> None:
    net = make_net()
    optimizer = OPTIMIZERS[name](net.parameters())
    work(net, optimizer, 5)  # so that there is momentum to forget
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    masks = sc.prune(net, 0.7)
    with sc.hold(optimizer, masks):
        work(net, optimizer, 1000)
    assert_zero(net, optimizer, masks)
    assert not torch.equal(net[4].weight[masks["4.weight"]], before["4.weight"][masks["4.weight"]])
    assert net.state_dict().keys() == before.keys()


def test_released_weights_move_again() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    masks = sc.prune(net, 0.7)
    with sc.hold(optimizer, masks):
        work(net, optimizer, 1)
    work(net, optimizer, 3)
    assert (net[4].weight[~masks["4.weight"]] != 0).any()


def test_accumulation_mixed_precision_and_clipping() -> None:
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters())
    masks = sc.prune(net, 0.7)
    scaler = torch.amp.GradScaler("cpu")
    with sc.hold(optimizer, masks):
        for _ in range(5):
            for _ in range(3):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = functional.cross_entropy(net(torch.randn(4, 1, 6, 6)), torch.arange(4))
                scaler.scale(loss).backward()
            assert all((net.get_parameter(n).grad[~m] == 0).all() for n, m in masks.items())  # type: ignore[index]
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert_zero(net, optimizer, masks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [4, 1100])
def test_gradients_of_every_dtype_and_size_are_masked_even_when_infinite(dtype: torch.dtype, size: int) -> None:
    layer = nn.Linear(size, size, bias=False, dtype=dtype)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    masks = sc.prune(layer, 0.5)
    with sc.hold(optimizer, masks):
        slope = torch.full_like(layer.weight, float("inf"))
        slope[masks["weight"]] = 1.0
        layer.weight.backward(slope)
        assert (layer.weight.grad[masks["weight"]] == 1).all()  # type: ignore[index]
        optimizer.step()
    assert (layer.weight[~masks["weight"]] == 0).all()


def test_a_model_under_hold_copies_exports_and_compiles() -> None:
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters())
    masks = sc.prune(net, 0.7)
    with sc.hold(optimizer, masks):
        work(net, optimizer, 2)
        twin = copy.deepcopy(net)
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
        exported = torch.export.export(copy.deepcopy(net).eval(), (torch.randn(2, 1, 6, 6),))
        assert exported.module()(torch.zeros(2, 1, 6, 6)).shape == (2, 5)
        work(torch.compile(net, backend="aot_eager"), optimizer, 3)  # type: ignore[arg-type]
    assert_zero(net, optimizer, masks)


def test_a_frozen_parameter_that_is_thawed_stays_held() -> None:
    net = make_net()
    net[4].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    masks = sc.prune(net, 0.7)
    with sc.hold(optimizer, masks):
        net[4].weight.requires_grad_(True)
        work(net, optimizer, 3)
    assert_zero(net, optimizer, masks)


def test_loaded_masks_need_a_model_and_others_an_optimizer(tmp_path: object) -> None:
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loose = sc.Masks(dict(sc.prune(net, 0.5)))
    with pytest.raises(BadTargetError, match="model=model"):
        sc.hold(optimizer, loose)
    sc.hold(optimizer, loose, net).release()
    with pytest.raises(TypeError, match=r"torch\.optim\.Optimizer"):
        sc.hold(object(), loose)  # type: ignore[arg-type]


def test_gradients_that_did_not_come_by_backward_are_masked_too() -> None:
    net = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    masks = sc.prune(net, 0.5)
    with sc.hold(optimizer, masks):
        for _ in range(2):
            loss = net(torch.randn(3, 6)).square().mean()
            for parameter, gradient in zip(
                net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True
            ):
                parameter.grad = gradient
            optimizer.step()
    assert (net.weight[~masks["weight"]] == 0).all() and (net.weight[masks["weight"]] != 0).all()


def test_weights_that_the_optimizer_does_not_train_are_named() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    masks = sc.prune(net, 0.5)
    first = torch.optim.SGD(net[0].parameters(), lr=0.1)
    with pytest.warns(SecateurWarning, match=r"does not train \['1.weight'\]"):
        sc.hold(first, masks).release()
    net[1].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sc.hold(first, masks).release()


@pytest.mark.skipif(not hasattr(torch.optim, "Adafactor"), reason="this torch has no Adafactor")
def test_an_optimizer_with_more_than_one_eps_is_held() -> None:
    net = make_net()
    masks = sc.prune(net, 0.5)
    optimizer = torch.optim.Adafactor(net.parameters(), lr=0.01)
    with sc.hold(optimizer, masks):
        work(net, optimizer, 3)
    assert all((net.get_parameter(name)[~mask] == 0).all() for name, mask in masks.items())


def test_who_watches_a_weight_sees_that_it_was_zeroed() -> None:
    net = nn.Linear(4, 4)
    before = net.weight._version
    pruner = sc.Pruner(net, torch.optim.SGD(net.parameters(), lr=0.1), sc.OneShotSchedule(0.5))
    assert net.weight._version > before
    pruner.finalize()
    loss = net(torch.randn(2, 4, requires_grad=True)).sum()
    sc.hold(torch.optim.SGD(net.parameters(), lr=0.1), sc.prune(net, 0.75)).release()
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_what_is_held_twice_is_said() -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    left = sc.Pruner(net, optimizer, sc.OneShotSchedule(0.5))
    with pytest.warns(SecateurWarning, match=r"\['weight'\] are held already"):
        sc.Pruner(net, optimizer, sc.OneShotSchedule(0.25)).finalize()
    left.finalize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sc.Pruner(net, optimizer, sc.OneShotSchedule(0.25)).finalize()


def test_a_wrapper_whose_steps_cannot_be_followed_is_named() -> None:
    net = make_net()
    masks = sc.prune(net, sparsity=0.5)
    with pytest.warns(SecateurWarning, match="Unhooked calls no hooks"):
        held = sc.hold(Unhooked(torch.optim.SGD(net.parameters(), lr=0.1)), masks)
    held.release()
