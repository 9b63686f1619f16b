"""Dropout rates that ease: by hand, on many kinds of nets, always from the rates at the start."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc


def masks_of(net: nn.Module, kept: dict[str, int]) -> dict[str, Tensor]:
    """Masks that keep the first so many weights of each named target."""
    masks = {}
    for name, count in kept.items():
        weight = net.get_parameter(name)
        masks[name] = (torch.arange(weight.numel()) < count).view(weight.shape)
    return masks


@given(st.floats(0, 1), st.integers(0, 40))
def test_the_rate_falls_with_the_root_of_the_density(rate: float, kept: int) -> None:
    net = nn.Sequential(nn.Dropout(rate), nn.Linear(8, 5))
    rates = sc.Dropouts(net, torch.zeros(1, 8)).rescale(masks_of(net, {"1.weight": kept}))
    assert rates == {"0": pytest.approx(rate * math.sqrt(kept / 40))}
    assert net.get_submodule("0").p == rates["0"]


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.Dropout2d(0.2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(32, 10),
        nn.PReLU(10),
        nn.AlphaDropout(0.4),
        nn.Dropout(0.3),
        nn.Linear(10, 2),
    )


def test_every_dropout_of_a_convolutional_net_follows_the_layer_it_feeds() -> None:
    net = lenet()
    dropouts = sc.Dropouts(net, torch.zeros(2, 1, 6, 6))
    kept = {"0.weight": 0, "4.weight": 72, "8.weight": 80, "12.weight": 5}  # of 36, 288, 320, 20
    rates = dropouts.rescale(masks_of(net, kept))
    assert rates == pytest.approx({"1": 0.2 * 0.5, "7": 0.5 * 0.5, "10": 0.4 * 0.5, "11": 0.3 * 0.5})
    assert {name: net.get_submodule(name).p for name in rates} == rates


def test_rates_start_from_those_at_the_start_every_time_and_are_put_back() -> None:
    net = lenet()
    dropouts = sc.Dropouts(net, torch.zeros(2, 1, 6, 6))
    once = dropouts.rescale(sc.prune(net, 0.5))
    assert dropouts.rescale(sc.prune(net, 0.5)) == once
    dropouts.rescale(sc.prune(net, 0.9))
    dropouts.restore()
    assert [net.get_submodule(name).p for name in once] == [0.2, 0.5, 0.4, 0.3]
    assert dropouts.rescale({}) == {"1": 0.2, "7": 0.5, "10": 0.4, "11": 0.3}


def test_layers_without_a_mask_leave_their_dropout_as_it_is() -> None:
    net = lenet()
    dropouts = sc.Dropouts(net, torch.zeros(2, 1, 6, 6))
    rates = dropouts.rescale(masks_of(net, {"8.weight": 80}) | {"elsewhere.weight": torch.zeros(2).bool()})
    assert rates == {"1": 0.2, "7": 0.25, "10": 0.4, "11": 0.3}


def test_a_dropout_that_feeds_nothing_stays() -> None:
    net = nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 4), nn.Dropout(0.5))
    rates = sc.Dropouts(net, torch.zeros(1, 4)).rescale(masks_of(net, {"1.weight": 4}))
    assert rates == {"0": 0.15, "2": 0.5}


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.before, self.after = nn.Dropout(0.4), nn.Dropout(0.2)
        self.norm = nn.LayerNorm([3, 4])
        self.core = nn.LSTM(4, 4) if kind == "lstm" else nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(x)
        h = self.core(h, h, h)[0] if isinstance(self.core, nn.MultiheadAttention) else self.core(h)[0]
        h = self.norm(self.after(h).movedim(0, 1)).movedim(0, 1)
        y: Tensor = self.head(h)
        return y


@pytest.mark.parametrize(("kind", "weight"), [("lstm", "core.weight_ih_l0"), ("attention", "core.in_proj_weight")])
def test_recurrent_layers_and_attention_are_fed_too_and_norms_are_passed_through(kind: str, weight: str) -> None:
    net = Recurrent(kind)
    dropouts = sc.Dropouts(net, torch.zeros(3, 2, 4))
    quarter = net.get_parameter(weight).numel() // 4
    assert dropouts.rescale(masks_of(net, {"head.weight": 2})) == {"before": 0.4, "after": 0.1}
    assert dropouts.rescale(masks_of(net, {weight: quarter})) == {"before": 0.2, "after": 0.2}


class Shared(nn.Module):
    """One dropout module runs twice, in front of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.drop(self.a(self.drop(x))))
        return y


def test_a_dropout_that_runs_twice_follows_the_layer_it_feeds_first() -> None:
    net = Shared()
    dropouts = sc.Dropouts(net, torch.zeros(1, 4))
    assert dropouts.rescale(masks_of(net, {"a.weight": 4, "b.weight": 16})) == {"drop": 0.2}


def test_the_order_is_that_of_running_not_of_definition() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.drop, self.first = nn.Linear(4, 4), nn.Dropout(0.4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.drop(self.first(x)))
            return y

    net = Backwards()
    dropouts = sc.Dropouts(torch.compile(net), torch.zeros(1, 4))  # type: ignore[arg-type]
    assert dropouts.rescale(masks_of(net, {"last.weight": 4, "first.weight": 0})) == {"drop": 0.2}


def test_the_model_is_left_as_it_was() -> None:
    net = lenet().train()
    net.get_submodule("2").eval()  # as when BatchNorm is frozen
    modes = [module.training for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sc.Dropouts(net, torch.randn(2, 1, 6, 6))
    with pytest.raises(RuntimeError):
        sc.Dropouts(net, torch.randn(2, 3, 6, 6))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


def test_a_net_without_dropout_is_not_even_run() -> None:
    dropouts = sc.Dropouts(nn.Linear(2, 2), torch.zeros(1, 99))
    assert dropouts.rescale({}) == {}
    dropouts.restore()


def test_the_mask_of_tied_weights_is_found_under_their_first_name() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    masks = sc.prune(net, 0.75)
    assert list(masks) == ["0.weight"] and sc.Dropouts(net, torch.zeros(1, 4)).rescale(masks) == {"1": 0.25}
