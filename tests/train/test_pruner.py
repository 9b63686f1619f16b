"""The Pruner: exact along its schedule, resumable to the bit, clean at the end."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur as sc
from secateur.vocabulary import (
    BadTargetError,
    CorruptFileError,
    SecateurError,
    SecateurWarning,
    SelectionError,
    UnfinishedWarning,
)

SCHEDULES = {
    "polynomial": sc.PolynomialSchedule(0.2, 0.9, 2, 40, frequency=5),
    "linear": sc.LinearSchedule(0.0, 0.8, 0, 40, frequency=7),
    "cosine": sc.CosineSchedule(0.0, 0.8, 0, 40, frequency=7),
    "exponential": sc.ExponentialSchedule(0.0, 0.8, 0, 40, frequency=7),
    "one-shot": sc.OneShotSchedule(0.75, step=20),
    "constant": sc.ConstantSchedule(0.6, begin_step=10, end_step=40, frequency=5),
    "rounds": sc.RoundsSchedule(0.9, rounds=4, steps_per_round=10),
}


class Setup:
    def __init__(self, schedule: Any, regrow: Any = False, choice: sc.Choice | None = None) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))
        with torch.no_grad():
            self.net[2].weight.mul_(2)  # so that no layer is emptied by the global ranking
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)
        self.pruner = sc.Pruner(self.net, self.optimizer, schedule, choice or sc.Choice(), regrow=regrow)

    def work(self, first: int, last: int) -> None:
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            x, y = torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)
            functional.cross_entropy(self.net(x), y).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.pruner.step()

    def zeros(self) -> int:
        return sum(int((p == 0).sum()) for name, p in self.net.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_sparsity_is_the_schedules_at_every_step(name: str) -> None:
    setup, schedule = Setup(SCHEDULES[name]), SCHEDULES[name]
    previous = setup.pruner.masks
    for step in range(45):
        setup.work(step, step + 1)
        assert setup.pruner.masks.count().removed == round(schedule(step + 1) * 180)
        assert setup.zeros() == setup.pruner.masks.count().removed
        assert (setup.pruner.masks & previous) == setup.pruner.masks, "masks nest"
        previous = setup.pruner.masks
    masks = setup.pruner.finalize()
    assert masks.count().removed == round(schedule.final_sparsity * 180)
    setup.work(45, 46)
    assert setup.zeros() < masks.count().removed, "hooks are gone"


@pytest.mark.parametrize("regrow", [False, True, sc.Regrow(0.1)], ids=str)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_pruner_ends_on_the_same_masks_and_weights(name: str, regrow: Any) -> None:
    straight = Setup(SCHEDULES[name], regrow)
    straight.work(0, 45)
    first = Setup(SCHEDULES[name], regrow)
    first.work(0, 23)
    state = copy.deepcopy((first.net.state_dict(), first.optimizer.state_dict(), first.pruner.state_dict()))
    second = Setup(SCHEDULES[name], regrow)
    second.net.load_state_dict(state[0])
    second.optimizer.load_state_dict(state[1])
    second.pruner.load_state_dict(state[2])
    assert second.pruner.masks == first.pruner.masks
    second.work(23, 45)
    assert second.pruner.finalize() == straight.pruner.finalize()
    for a, b in zip(second.net.parameters(), straight.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_its_state_holds_nothing_that_needs_unpickling() -> None:
    setup = Setup(SCHEDULES["polynomial"], regrow=True)
    setup.work(0, 10)
    buffer = io.BytesIO()
    torch.save(setup.pruner.state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True)["step"] == 10


def test_a_state_of_another_network_is_refused() -> None:
    setup = Setup(SCHEDULES["linear"])
    state = setup.pruner.state_dict()
    with pytest.raises(CorruptFileError, match="masks"):
        setup.pruner.load_state_dict({"step": 1, "sparsity": 0.0, "shadow": {}})
    with pytest.raises(BadTargetError, match="other"):
        setup.pruner.load_state_dict({**state, "masks": {"other": torch.ones(1, dtype=torch.bool)}})
    with pytest.raises(CorruptFileError, match="shadow"):
        Setup(SCHEDULES["linear"], regrow=True).pruner.load_state_dict(state)


def test_finalizing_early_warns() -> None:
    setup = Setup(SCHEDULES["polynomial"])
    with pytest.warns(UnfinishedWarning, match=r"before the schedule's end at 40"):
        setup.pruner.finalize()


@pytest.mark.parametrize("scope", [sc.PerTensor(), sc.PerRow()])
def test_any_choice_may_be_gradual(scope: Any) -> None:
    setup = Setup(SCHEDULES["linear"], choice=sc.Choice(scope=scope))
    setup.work(0, 45)
    masks = setup.pruner.finalize()
    assert masks.count("0.weight").sparsity == pytest.approx(0.8, abs=0.05)


def regrowing_net(regrow: Any) -> tuple[nn.Linear, sc.Pruner, torch.optim.Optimizer]:
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    schedule = sc.ConstantSchedule(0.5, begin_step=0, end_step=100, frequency=1)
    return net, sc.Pruner(net, optimizer, schedule, regrow=regrow), optimizer


def test_a_masked_weight_returns_with_the_value_it_had() -> None:
    net, pruner, _ = regrowing_net(True)
    assert net.weight.tolist() == [[0.0, 0.0, 3.0, 4.0]]
    with torch.no_grad():
        net.weight[0, 2] = 0.5  # training made a kept weight smaller than a masked one was
    pruner.step()
    assert net.weight.tolist() == [[0.0, 2.0, 0.0, 4.0]]
    pruner.step()
    assert net.weight.tolist() == [[0.0, 2.0, 0.0, 4.0]]


def test_shadows_learn_when_asked_to() -> None:
    net, pruner, optimizer = regrowing_net(sc.Regrow(learning_rate=1.0))
    net(torch.tensor([[0.0, -9.0, 0.0, 0.0]])).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    pruner.step()
    assert net.weight.tolist() == [[0.0, 11.0, 0.0, 4.0]]


def test_without_regrowth_nothing_returns() -> None:
    net, pruner, _ = regrowing_net(False)
    with torch.no_grad():
        net.weight[0, 2] = 0.5
    pruner.step()
    assert net.weight.tolist() == [[0.0, 0.0, 0.5, 4.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner.finalize()


def test_weights_loaded_after_the_pruner_was_made_end_pruned() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    state = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.Adam(net.parameters())
    pruner = sc.Pruner(net, optimizer, sc.OneShotSchedule(0.5))
    net.load_state_dict(state)
    masks = pruner.finalize()
    assert all((net.get_parameter(name)[~mask] == 0).all() for name, mask in masks.items())
    net.load_state_dict(state)
    assert pruner.finalize() == masks and torch.equal(net[0].weight, state["0.weight"]), "done is done"


def test_a_finalized_pruner_takes_no_state() -> None:
    setup = Setup(sc.OneShotSchedule(0.5))
    state = setup.pruner.state_dict()
    setup.pruner.finalize()
    with pytest.raises(SecateurError, match="make a new one"):
        setup.pruner.load_state_dict(state)


def test_a_choice_that_fails_leaves_no_hooks() -> None:
    net = nn.Linear(4, 4)
    nn.init.constant_(net.weight, float("nan"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(SelectionError, match="NaN"):
        sc.Pruner(net, optimizer, sc.OneShotSchedule(0.5))
    assert not net.weight._post_accumulate_grad_hooks and not optimizer._optimizer_step_pre_hooks


def test_copying_a_pruner_says_what_to_do_instead() -> None:
    with pytest.raises(TypeError, match="state_dict"):
        copy.deepcopy(Setup(sc.OneShotSchedule(0.5)).pruner)


def test_a_state_given_at_once_loses_nothing_where_draws_differ() -> None:
    seeds = iter(range(99))
    choice = sc.Choice(criterion=lambda weights: sc.criteria.random(weights, seed=next(seeds)))
    schedule = sc.LinearSchedule(0.2, 0.6, 0, 10, 5)
    first = nn.Linear(20, 20)
    pruner = sc.Pruner(first, torch.optim.SGD(first.parameters(), lr=0.1), schedule, choice)
    for _ in range(6):
        pruner.step()
    second = copy.deepcopy(first)
    optimizer = torch.optim.SGD(second.parameters(), lr=0.1)
    again = sc.Pruner(second, optimizer, schedule, choice, state=pruner.state_dict())
    assert torch.equal(second.weight, first.weight) and again.masks == pruner.masks and again.step_count == 6


def test_an_allocation_by_name_does_not_rise_and_that_is_said() -> None:
    net = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pruner = sc.Pruner(
        net, optimizer, sc.LinearSchedule(0, 0.8, 0, 10, 5), sc.Choice(scope=sc.PerTensor(), allocation={"weight": 0.8})
    )
    with pytest.warns(SecateurWarning, match="secateur.scaled"):
        for _ in range(5):
            pruner.step()
    with pytest.warns(UnfinishedWarning, match=r"sparsity 0\.8000 instead of 0\.8"):
        pruner.finalize()


@pytest.mark.parametrize(
    ("schedule", "step"),
    [
        (sc.PolynomialSchedule(0.0, 0.5, begin_step=0, end_step=20, frequency=5), 5),
        (sc.OneShotSchedule(0.6, step=7), 7),
    ],
)
def test_windows_are_drawn_at_once_and_a_ramp_to_them_is_refused_before_training(
    schedule: sc.Schedule, step: int
) -> None:
    net = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(SelectionError, match=f"asks for .* at step {step}; take a OneShotSchedule"):
        sc.Pruner(net, optimizer, schedule, sc.Choice(scope=sc.Window(2, 4)))
    pruner = sc.Pruner(net, optimizer, sc.OneShotSchedule(0.5, step=1), sc.Choice(scope=sc.Window(2, 4)))
    pruner.step()
    assert pruner.finalize().sparsity == 0.5
