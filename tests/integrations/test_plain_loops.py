"""Loops written by hand: accumulation, AMP, compile, averages, accelerate, two processes, other people's optimizers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from loops import SCHEDULE, assert_held, digits, net
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import secateur as sc


def batches(model: nn.Module, steps: int) -> Any:
    x, y = digits()
    for step in range(steps):
        index = torch.arange(32 * step, 32 * (step + 1)) % len(x)
        yield model(x[index]), y[index]


def start(model: nn.Module, optimizer: Any = None) -> tuple[Any, sc.Pruner]:
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=0.01)
    return optimizer, sc.Pruner(model, optimizer, SCHEDULE)


def test_gradients_accumulated_over_batches() -> None:
    model = net()
    optimizer, pruner = start(model)
    for number, (outputs, labels) in enumerate(batches(model, 44), start=1):
        cross_entropy(outputs, labels).backward()
        if number % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
    assert_held(model, pruner.finalize(), 0.9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_amp_with_a_scaler(dtype: torch.dtype) -> None:
    model = net()
    optimizer, pruner = start(model)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
    x, y = digits()
    for step in range(22):
        index = torch.arange(32 * step, 32 * (step + 1)) % len(x)
        with torch.autocast("cpu", dtype):
            loss = cross_entropy(model(x[index]), y[index])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        pruner.step()
    assert_held(model, pruner.finalize(), 0.9)


def test_a_compiled_model_and_a_compiled_step() -> None:
    model = net()
    optimizer, pruner = start(model)
    compiled = torch.compile(model, backend="aot_eager")
    for outputs, labels in batches(compiled, 22):  # type: ignore[arg-type]
        cross_entropy(outputs, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert_held(model, pruner.finalize(), 0.9)


def test_an_average_of_the_weights_is_pruned_by_the_same_masks() -> None:
    model = net()
    optimizer, pruner = start(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for outputs, labels in batches(model, 22):
        cross_entropy(outputs, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        average.update_parameters(model)
    masks = pruner.finalize()
    assert (average.module.get_parameter("0.weight")[~masks["0.weight"]] != 0).any(), "it remembers what was"
    sc.apply(average.module, masks)
    assert_held(average.module, masks, 0.9)


def test_accelerate_wraps_the_optimizer() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    plain = net()
    model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), lr=0.01))
    pruner = sc.Pruner(model, optimizer, SCHEDULE)
    for outputs, labels in batches(model, 22):
        accelerator.backward(cross_entropy(outputs, labels))
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert_held(accelerator.unwrap_model(model), pruner.finalize(), 0.9)


@pytest.mark.parametrize("asked", [True, False], ids=["once a step", "once a batch"])
def test_accelerate_accumulates_by_itself(asked: bool) -> None:
    """Its optimizer's step does nothing on most batches, which a Pruner cannot see: the loop has to say so."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    plain = net()
    model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), lr=0.01))
    pruner = sc.Pruner(model, optimizer, SCHEDULE)
    taken = []
    optimizer.optimizer.register_step_post_hook(lambda *_: taken.append(pruner.step_count))
    for outputs, labels in batches(model, 4 * 22):
        with accelerator.accumulate(model):
            accelerator.backward(cross_entropy(outputs, labels))
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients or not asked:
                pruner.step()
    assert len(taken) == 22
    assert taken == (list(range(22)) if asked else list(range(3, 88, 4)))
    assert_held(accelerator.unwrap_model(model), pruner.finalize(), 0.9)


class Lion(torch.optim.Optimizer):
    """As other packages write theirs: one class, a state of its own, decay that is not a gradient."""

    def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
        super().__init__(parameters, {"lr": lr, "decay": 0.1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.ones_like(p))
                    p.mul_(1 - group["lr"] * group["decay"]).add_(mean.lerp(p.grad, 0.1).sign(), alpha=-group["lr"])
                    mean.lerp_(p.grad, 0.01)
        return None


def test_an_optimizer_of_another_package() -> None:
    model = net()
    optimizer, pruner = start(model, Lion(model.parameters()))
    for outputs, labels in batches(model, 22):
        cross_entropy(outputs, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        assert not model[0].weight[~pruner.masks["0.weight"]].any()  # type: ignore[index]
    assert_held(model, pruner.finalize(), 0.9)


def test_one_that_is_no_torch_optimizer_is_refused() -> None:
    class Elsewhere:
        def step(self) -> None: ...

    model = net()
    with pytest.raises(TypeError, match=r"Elsewhere is not a torch.optim.Optimizer.*subclass"):
        sc.Pruner(model, Elsewhere(), SCHEDULE)  # type: ignore[arg-type]


def rank(number: int, folder: Path, regrow: sc.Regrow) -> None:
    """One of two processes: half of every batch, all of the gradients."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=number, world_size=2)
    try:
        model = nn.parallel.DistributedDataParallel(net())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        pruner = sc.Pruner(model, optimizer, SCHEDULE, regrow=regrow)
        x, y = digits()
        for step in range(22):
            index = torch.arange(64 * step + 32 * number, 64 * step + 32 * (number + 1)) % len(x)
            cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        masks = pruner.finalize()
        assert_held(model.module, masks, 0.9)
        masks.save(folder / f"masks{number}.safetensors")
        torch.save(model.module.state_dict(), folder / f"model{number}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_two_processes_hold_the_same_masks(rate: float, tmp_path: Path) -> None:
    mp.spawn(rank, (tmp_path, sc.Regrow(rate)), nprocs=2)
    first, second = (sc.Masks.load(tmp_path / f"masks{number}.safetensors") for number in (0, 1))
    assert first == second
    models = [torch.load(tmp_path / f"model{number}.pt", weights_only=True) for number in (0, 1)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_copy_made_on_the_way_is_a_plain_model() -> None:
    model = net()
    optimizer, pruner = start(model)
    for outputs, labels in batches(model, 5):
        cross_entropy(outputs, labels).backward()
        optimizer.step()
        pruner.step()
    twin = copy.deepcopy(model)
    assert list(twin.state_dict()) == list(net().state_dict())
    cross_entropy(twin(digits()[0]), digits()[1]).backward()
    assert (twin[0].weight.grad[~pruner.masks["0.weight"]] != 0).any()  # type: ignore[index]
