"""Shadow values: kept exactly, returned exactly, taught only by gradients that are usable."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.train.regrow import Shadow

INF, NAN = float("inf"), float("nan")


def row(*kept: bool) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(kept)}


def shadowed(learning_rate: float = 0.0) -> tuple[nn.Parameter, Shadow]:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    return parameter, Shadow({"w": parameter}, sc.Regrow(learning_rate))


def put_away(parameter: nn.Parameter, masks: dict[str, torch.Tensor], shadow: Shadow) -> None:
    shadow.redraw(masks)
    parameter.data.mul_(masks["w"])  # what Hold.update does


def test_a_redraw_moves_values_between_weight_and_shadow() -> None:
    parameter, shadow = shadowed()
    put_away(parameter, row(True, False, False), shadow)
    assert parameter.tolist() == [1, 0, 0] and shadow.values["w"].tolist() == [0, -2, 3]
    assert shadow.full()["w"].tolist() == [1, -2, 3]
    put_away(parameter, row(False, True, False), shadow)
    assert parameter.tolist() == [0, -2, 0] and shadow.values["w"].tolist() == [1, 0, 3]


def test_shadows_learn_by_the_gradient_as_if_the_weight_were_in_use() -> None:
    parameter, shadow = shadowed(0.5)
    put_away(parameter, row(True, False, False), shadow)
    (parameter * torch.tensor([1.0, 2.0, -4.0])).sum().backward()
    shadow.learn(torch.optim.SGD([parameter], lr=1.0))
    assert shadow.values["w"].tolist() == [0, -3, 5]


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_a_gradient_that_overflowed_teaches_nothing(bad: float) -> None:
    parameter, shadow = shadowed(0.5)
    put_away(parameter, row(True, False, False), shadow)
    parameter.backward(torch.tensor([bad, bad, 2.0]))
    shadow.learn(torch.optim.SGD([parameter], lr=1.0))
    assert shadow.values["w"].tolist() == [0, -2, 2]
    assert shadow.full()["w"].tolist() == [1, -2, 2]


@pytest.mark.parametrize("fused", [False, True])
def test_shadows_learn_the_same_under_a_scaled_loss(fused: bool) -> None:
    def trained(scale: float | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        pruner = sc.Pruner(net, optimizer, sc.ConstantSchedule(0.5, 0, 10, 5), regrow=sc.Regrow(0.1))
        for _ in range(5):
            scaler.scale(net(torch.randn(3, 6)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            pruner.step()
        return net.state_dict() | pruner.state_dict()["shadow"]

    plain, scaled = trained(None), trained(65536.0)
    assert all(torch.equal(plain[name], scaled[name]) for name in plain), "powers of two change nothing"


def test_a_closure_teaches_shadows_too() -> None:
    values = []
    for closed in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        pruner = sc.Pruner(net, optimizer, sc.OneShotSchedule(0.5), regrow=sc.Regrow(0.1))

        def closure(net: nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = net(torch.ones(3, 4)).square().mean()
            loss.backward()
            return loss

        for _ in range(3):
            if closed:
                optimizer.step(closure)  # type: ignore[arg-type]
            else:
                closure()
                optimizer.step()
        assert (net.weight[~pruner.masks["weight"]] == 0).all()
        values.append(pruner.state_dict()["shadow"]["weight"])
    assert torch.equal(*values) and values[0].any()


def test_a_model_with_shadows_can_be_copied_and_its_pruner_cleans_up() -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pruner = sc.Pruner(net, optimizer, sc.OneShotSchedule(0.5), regrow=sc.Regrow(0.1))
    twin = copy.deepcopy(net)
    assert torch.equal(twin.weight, net.weight)
    shadow = pruner._shadow
    assert shadow is not None
    pruner.finalize()
    before = shadow.values["weight"].clone()
    net(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(shadow.values["weight"], before), "no hook is left"


def test_network_surgery_prunes_and_splices() -> None:
    """A weight pruned by mistake comes back under Regrow(learning_rate), and stays away without (arXiv 1608.04493)."""
    truth = torch.tensor([[0.0, 3.0]])
    generator = torch.Generator().manual_seed(0)
    finals = {}
    for regrow in (False, sc.Regrow(0.05)):
        net = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            net.weight.copy_(torch.tensor([[1.0, 0.1]]))  # the important weight starts small
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        pruner = sc.Pruner(net, optimizer, sc.ConstantSchedule(0.5, 0, 200, frequency=5), regrow=regrow)
        for _ in range(200):
            x = torch.randn(16, 2, generator=generator)
            (net(x) - x @ truth.T).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        pruner.finalize()
        finals[regrow] = net.weight.detach().clone()
    assert finals[False][0, 1] == 0
    assert finals[sc.Regrow(0.05)][0].tolist() == pytest.approx([0.0, 3.0], abs=0.05)
