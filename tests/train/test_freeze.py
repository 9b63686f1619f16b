"""Frozen layers do not move at all, and are as they were once released."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import secateur as sc
from secateur.vocabulary import BadTargetError

OPTIMIZERS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}


class Positioned(nn.Module):
    """A parameter of its own stands beside whole layers, and one layer holds others."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(3, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.places
        y: Tensor = self.head(self.attention(h, h, h)[0].mean(1))
        return y


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def work(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, set_to_none: bool = True) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 5
    for _ in range(steps):
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none)


def moved(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, parameter in net.named_parameters() if not torch.equal(parameter, before[name])}


def copies(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def trained(net: nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_layers_do_not_move_and_the_others_do(name: str, set_to_none: bool) -> None:
    net = make_net()
    optimizer = OPTIMIZERS[name](net.parameters())
    work(net, optimizer, 5, set_to_none)  # so that there is momentum that would carry on
    before = copies(net)
    with sc.freeze(net, ["0.weight", "1"]):
        work(net, optimizer, 10, set_to_none)
        assert moved(net, before) == {"4.weight", "4.bias"}
    work(net, optimizer, 1, set_to_none)
    assert moved(net, before) == before.keys()


def test_a_gradient_that_waits_is_not_applied() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = copies(net)
    net(torch.randn(8, 1, 6, 6)).sum().backward()
    with sc.freeze(net, ["0.weight"]):
        optimizer.step()
    assert moved(net, before) & {"0.weight", "0.bias"} == set()


def test_release_restores_every_flag_even_of_what_was_frozen_before() -> None:
    net = make_net()
    net.get_parameter("0.bias").requires_grad_(False)
    before = trained(net)
    frozen = sc.freeze(net, ["0.weight", "0", "4.bias"])
    assert trained(net) == {"1.weight", "1.bias"}
    frozen.release()
    assert trained(net) == before == {"0.weight", "1.weight", "1.bias", "4.weight", "4.bias"}
    net.requires_grad_(False)
    frozen.release()  # a second time does nothing
    assert trained(net) == set()


def test_layers_frozen_twice_thaw_with_the_outer_release() -> None:
    net = make_net()
    with sc.freeze(net, ["0"]):
        with sc.freeze(net, ["0", "4"]):
            assert trained(net) == {"1.weight", "1.bias"}
        assert trained(net) == {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert trained(net) == copies(net).keys()


def test_an_error_inside_releases() -> None:
    net = make_net()
    with pytest.raises(ZeroDivisionError), sc.freeze(net, ["0"]):
        raise ZeroDivisionError
    assert trained(net) == copies(net).keys()


def test_names_are_of_parameters_or_of_modules_with_all_they_hold() -> None:
    net = Positioned()
    everything = trained(net)
    inner = {"attention.out_proj.weight", "attention.out_proj.bias"}
    inputs = {"attention.in_proj_weight", "attention.in_proj_bias"}
    for name, expected in {
        "places": {"places"},
        "head": {"head.weight", "head.bias"},
        "head.bias": {"head.weight", "head.bias"},
        "attention": inner | inputs,
        "attention.in_proj_weight": inputs,
        "attention.out_proj.weight": inner,
        "": everything,
    }.items():
        with sc.freeze(net, [name]):
            assert everything - trained(net) == expected, name
    with sc.freeze(net, sc.prunable(net)):
        assert trained(net) == {"places"}
    with sc.freeze(nn.Linear(2, 1), ["weight"]):
        pass


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("0.wieght", r"did you mean '0\.weight'"),
        ("9.weight", r"did you mean '"),
        ("haed", "known"),
        ("0.training", "did you mean|known"),
        ("1.running_mean", "did you mean|known"),
        ("0.weight.data", r"0\.weight"),
        ("conv", "known"),
    ],
)
def test_unknown_names_are_refused_with_near_matches(name: str, hint: str) -> None:
    net = make_net()
    with pytest.raises(BadTargetError, match=hint) as refused:
        sc.freeze(net, ["4", name])
    assert repr(name) in str(refused.value)
    assert trained(net) == copies(net).keys(), "nothing is frozen when a name is wrong"


def test_a_tied_weight_is_frozen_everywhere_and_wrappers_are_looked_through() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net.get_submodule("1").weight = net.get_parameter("0.weight")
    with sc.freeze(torch.compile(net), ["1.weight"]):  # type: ignore[arg-type]
        assert trained(net) == {"0.bias"}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("held_first", [True, False])
def test_held_weights_stay_zero_while_frozen_and_after(name: str, held_first: bool) -> None:
    net = make_net()
    optimizer = OPTIMIZERS[name](net.parameters())
    work(net, optimizer, 3)
    masks = sc.prune(net, 0.6, sc.Choice(scope=sc.PerTensor()))
    frozen = None if held_first else sc.freeze(net, ["0.weight"])
    with sc.hold(optimizer, masks):
        frozen = frozen or sc.freeze(net, ["0.weight"])
        before = copies(net)
        work(net, optimizer, 5)
        assert {"0.weight", "0.bias"} & moved(net, before) == set()
        assert "4.weight" in moved(net, before)
        frozen.release()
        work(net, optimizer, 5)
        assert "0.weight" in moved(net, before)
        for target, mask in masks.items():
            assert torch.equal(net.get_parameter(target) != 0, mask), target
