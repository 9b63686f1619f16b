"""Statistics: right numbers, and a model left as it was found."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur as sc
from secateur.choose.stats import GradientStats
from secateur.vocabulary import BadTargetError


class Counting(nn.Module):
    """Replaces one buffer at every call and writes into another."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2, bias=False)
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("written", torch.zeros(2))
        self.register_buffer("absent", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x)
        self.replaced = self.replaced + y.detach().sum(0)
        self.written += 1
        return y


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)) for _ in range(count)]


def test_gradients_of_a_line_computed_by_hand() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, -3.0]]))
    # The loss y has the gradient x in w: (1, 4) then (-3, 4), so means (-1, 4) and |w g| of (2, 12), (6, 12).
    found = sc.stats.gradients(
        layer,
        [(torch.tensor([[1.0, 4.0]]), torch.zeros(1)), (torch.tensor([[-3.0, 4.0]]), torch.zeros(1))],
        lambda y, _: y.sum(),
    )
    assert found.batches == 2
    assert found.mean["weight"].tolist() == [[-1.0, 4.0]]
    assert found.mean_product["weight"].tolist() == [[4.0, 12.0]]
    assert sc.criteria.gradient(sc.prunable(layer), found)["weight"].tolist() == [[4.0, 12.0]]
    assert sc.criteria.snip(sc.prunable(layer), found)["weight"][0].tolist() == pytest.approx([2 / 14, 12 / 14])


def test_buffers_gradients_and_mode_are_untouched() -> None:
    for training in (True, False):
        net = Counting().train(training)
        net.fc.weight.grad = torch.full((2, 3), 7.0)
        sc.stats.gradients(net, batches(), functional.mse_loss)
        assert net.replaced.tolist() == net.written.tolist() == [0, 0]
        assert (net.fc.weight.grad == 7).all()
        assert net.training is training and net.fc.weight.requires_grad


def test_buffers_are_put_back_even_when_a_batch_fails() -> None:
    net = Counting()
    with pytest.raises(RuntimeError):
        sc.stats.gradients(net, [*batches(1), (torch.randn(4, 9), torch.randn(4, 2))], functional.mse_loss)
    assert net.replaced.tolist() == net.written.tolist() == [0, 0]


def test_it_works_where_gradients_are_switched_off() -> None:
    net = Counting()
    with torch.no_grad():
        found = sc.stats.gradients(net, batches(), functional.mse_loss)
    assert found.mean["fc.weight"].abs().sum() > 0
    assert not found.mean["fc.weight"].requires_grad and not found.mean_product["fc.weight"].requires_grad


def test_a_weight_the_loss_does_not_reach_has_gradient_zero() -> None:
    used, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    stats = GradientStats({"used": used, "unused": unused})
    stats.update(used.sum())
    assert stats.compute().mean["unused"].tolist() == [0, 0]
    assert stats.compute().mean["used"].tolist() == [1, 1]


def test_frozen_targets_are_refused_by_name() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    with pytest.raises(BadTargetError, match=r"'0\.weight'.*ignore"):
        sc.stats.gradients(net, batches(), functional.mse_loss)
    assert list(sc.stats.gradients(net, batches(), functional.mse_loss, sc.prunable(net, ignore=["0"])).mean) == [
        "1.weight"
    ]
