"""What an optimizer knows of a model is cut along with it."""

from __future__ import annotations

import copy

import pytest
import torch
import zoo
from torch import Tensor, nn
from zoo import half_dead

import secateur as sc
from secateur.vocabulary import BadTargetError, SecateurWarning

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adamw, fused": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", ["residual", "gate", "pre-norm, grouped queries", "shared", "concat then conv"])
def test_training_goes_on_where_it_was_step_by_step(kind: str, name: str) -> None:
    model, example = zoo.build(name)
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.0
    masks = sc.prune_units(model, example, 0.4)
    optimizer = OPTIMIZERS[kind](model.parameters())
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(example.shape, generator=generator, dtype=torch.float64) for _ in range(6)]

    def step(net: nn.Module, batch: Tensor, using: torch.optim.Optimizer) -> float:
        using.zero_grad()
        out = net(batch)
        loss = sum(o.square().mean() for o in (out if isinstance(out, tuple) else (out,)))
        loss.backward()
        using.step()
        return float(loss.detach())

    with sc.hold(optimizer, masks):
        for batch in batches[:3]:
            step(model, batch, optimizer)
    twin = copy.deepcopy(model)
    other = OPTIMIZERS[kind](twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    small = sc.shrink(twin, example, optimizer=other)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    with sc.hold(optimizer, masks):
        masked = [step(model, batch, optimizer) for batch in batches[3:]]
    shrunk = [step(small, batch, other) for batch in batches[3:]]
    assert masked == pytest.approx(shrunk, rel=1e-9)


def test_lbfgs_goes_on_with_the_smaller_model() -> None:
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(8, 4)
    with torch.no_grad():
        net[0].weight[:2], net[0].bias[:2] = 0, 0
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1)

    def train(model: nn.Module) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]

    train(net)
    with torch.no_grad():
        net[0].weight[:2], net[0].bias[:2] = 0, 0
    small = sc.shrink(net, x, optimizer=optimizer)
    before = small[2].weight.detach().clone()
    train(small)
    assert small[0].out_features == 4 and not torch.equal(small[2].weight, before)


def test_state_that_is_kept_by_rows_and_columns_is_cut_along() -> None:
    net, x = half_dead(), torch.randn(8, 4)
    optimizer = torch.optim.Adafactor(net.parameters(), lr=0.1)
    with sc.hold(optimizer, sc.Masks({"0.weight": net[0].weight.detach() != 0}), model=net):
        net(x).square().mean().backward()
        optimizer.step()
    small = sc.shrink(net, x, optimizer=optimizer)
    state = optimizer.state[small[0].weight]
    assert [list(state[key].shape) for key in ("row_var", "col_var")] == [[4, 1], [1, 4]]
    small(x).square().mean().backward()
    optimizer.step()


def test_an_optimizer_of_matrices_is_given_no_bias() -> None:
    net = half_dead()
    net[0] = nn.Linear(4, 6)
    with torch.no_grad():
        net[0].weight[:2], net[0].bias[:2] = 0, 1.0  # a constant, which becomes a bias of what reads it
    optimizer = torch.optim.Muon([net[0].weight, net[2].weight], lr=0.1)
    x = torch.randn(8, 4)
    with pytest.warns(SecateurWarning, match=r"let another optimizer train the new biases \['2.bias'\]"):
        small = sc.shrink(net, x, optimizer=optimizer)
    assert small[2].bias is not None
    small(x).square().mean().backward()
    optimizer.step()


def test_an_optimizer_of_another_model_is_refused() -> None:
    optimizer = torch.optim.SGD(half_dead().parameters(), lr=0.1)
    with pytest.raises(BadTargetError, match="trains no parameter of this Sequential"):
        sc.shrink(half_dead(), torch.randn(8, 4), optimizer=optimizer)
