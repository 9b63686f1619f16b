"""Pruning as a Lightning callback: exact, logged, resumed, compiled, on two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import secateur as sc

lightning = pytest.importorskip("lightning.pytorch")
from loops import SCHEDULE, assert_held, digits, net  # noqa: E402 - after the skip

from secateur.integrations.lightning import Pruning  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(float(loss))
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def loader() -> Any:
    return DataLoader(TensorDataset(*digits()), batch_size=32)  # 20 batches


def trainer(folder: Path, epochs: int, callbacks: list[Any], **how: Any) -> Any:
    return lightning.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"logger": False, "enable_checkpointing": False} | how),
    )


class Watch(lightning.Callback):
    def __init__(self, pruning: Pruning, schedule: Any = SCHEDULE) -> None:
        self.pruning, self.schedule, self.logged, self.drawn = pruning, schedule, [], 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        step = trainer.global_step
        self.drawn = self.schedule(step) if self.schedule.due(step) else self.drawn
        assert_held(module, self.pruning.masks, self.drawn)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.logged.append(float(trainer.callback_metrics["sparsity"]))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_step_keeps_to_the_schedule_and_the_log_is_right(accumulate: int, tmp_path: Path) -> None:
    pruning = Pruning(SCHEDULE)
    watch = Watch(pruning)
    module = Module()
    trainer(tmp_path, 2 * accumulate, [pruning, watch], accumulate_grad_batches=accumulate).fit(module, loader())
    assert watch.logged[-1] == pytest.approx(0.9, abs=1e-3)
    assert_held(module, pruning.masks, 0.9)
    assert not module.net[0].weight._post_accumulate_grad_hooks, "no hook stays"


def test_the_log_follows_the_schedule_from_epoch_to_epoch(tmp_path: Path) -> None:
    schedule = sc.RoundsSchedule(0.75, rounds=2, steps_per_round=20, begin_step=20)
    pruning = Pruning(schedule)
    watch = Watch(pruning, schedule)
    trainer(tmp_path, 4, [pruning, watch]).fit(Module(), loader())
    assert watch.logged == pytest.approx([0.5, 0.75, 0.75, 0.75], abs=1e-3)


ROUNDS = sc.RoundsSchedule(0.75, rounds=3, steps_per_round=10, begin_step=10)
WAYS: dict[str, Any] = {
    "gradual": lambda: Pruning(SCHEDULE),
    "iterative": lambda: Pruning(ROUNDS),
    "rewinding to the start": lambda: Pruning(ROUNDS, rewind_to=0),
    "rewinding": lambda: Pruning(ROUNDS, rewind_to=5),
    "regrowing": lambda: Pruning(sc.PolynomialSchedule(0.2, 0.75, begin_step=2, end_step=38, frequency=4), regrow=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_fit_ends_as_one_that_was_never_stopped(way: str, tmp_path: Path) -> None:
    whole, pruning = Module(), WAYS[way]()
    trainer(tmp_path, 2, [pruning]).fit(whole, loader())

    class Kill(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "half.ckpt")
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, 2, [WAYS[way](), Kill()]).fit(Module(), loader())
    again, resumed = Module(), WAYS[way]()
    trainer(tmp_path, 2, [resumed]).fit(again, loader(), ckpt_path=tmp_path / "half.ckpt")
    assert resumed.masks == pruning.masks
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def hooks(module: nn.Module) -> int:
    return sum(len(p._post_accumulate_grad_hooks or ()) for p in module.parameters())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_fit_leaves_zeros_and_no_hooks(error: type[BaseException], tmp_path: Path) -> None:
    class Stop(lightning.Callback):
        on = True

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            assert hooks(module) == 2, "one for each target"
            if Stop.on and trainer.global_step == 5:
                raise error

    module, pruning = Module(), Pruning(SCHEDULE)
    callbacks = [pruning, Stop()]
    with pytest.raises((error, SystemExit)):
        trainer(tmp_path, 2, callbacks).fit(module, loader())
    assert hooks(module) == 0 and 0.2 < pruning.masks.sparsity < 0.9
    assert all(not module.get_parameter(name)[~mask].any() for name, mask in pruning.masks.items())
    Stop.on = False
    trainer(tmp_path, 2, callbacks).fit(module, loader())
    assert hooks(module) == 0
    assert_held(module, pruning.masks, 0.9)


def test_a_checkpoint_written_on_the_way_out_has_the_masks(tmp_path: Path) -> None:
    class Save(lightning.Callback):  # as ModelCheckpoint(save_on_exception=True) does, after our callback
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step == 12:
                raise ValueError

        def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
            trainer.save_checkpoint(tmp_path / "out.ckpt")

    with pytest.raises(ValueError):
        trainer(tmp_path, 2, [Pruning(SCHEDULE), Save()]).fit(Module(), loader())
    state = torch.load(tmp_path / "out.ckpt", weights_only=False)["callbacks"]["Pruning"]
    assert state["pruner"]["step"] == 12


def test_lottery_tickets_go_back_to_where_they_began(tmp_path: Path) -> None:
    module = Module()
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    pruning = Pruning(sc.RoundsSchedule(0.75, rounds=2, steps_per_round=10, begin_step=10), rewind_to=0)

    class Look(lightning.Callback):
        seen = 0

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step in (10, 20):
                Look.seen += 1
                state = module.state_dict()
                assert all(torch.equal(state[n], start[n] * mask) for n, mask in pruning.masks.items())
                assert torch.equal(state["net.0.bias"], start["net.0.bias"])

    trainer(tmp_path, 2, [pruning, Look()]).fit(module, loader())
    assert Look.seen == 2 and pruning.masks.sparsity == pytest.approx(0.75, abs=1e-3)


def test_a_compiled_module(tmp_path: Path) -> None:
    pruning, module = Pruning(SCHEDULE), Module()
    trainer(tmp_path, 2, [pruning]).fit(torch.compile(module, backend="aot_eager"), loader())
    assert_held(module, pruning.masks, 0.9)


class KeepMasks(lightning.Callback):
    def __init__(self, pruning: Pruning, folder: Path) -> None:
        self.pruning, self.folder = pruning, folder

    def on_train_end(self, trainer: Any, module: Any) -> None:
        assert_held(module, self.pruning.masks, 0.9)
        self.pruning.masks.save(self.folder / f"masks{trainer.global_rank}.safetensors")
        torch.save(module.state_dict(), self.folder / f"model{trainer.global_rank}.pt")


def test_two_processes_hold_the_same_masks(tmp_path: Path) -> None:
    pruning = Pruning(SCHEDULE)
    callbacks = [pruning, KeepMasks(pruning, tmp_path)]
    trainer(tmp_path, 2, callbacks, strategy="ddp_spawn", devices=2).fit(Module(), loader())
    first, second = (sc.Masks.load(tmp_path / f"masks{rank}.safetensors") for rank in (0, 1))
    assert first == second and first.sparsity == pytest.approx(0.9, abs=1e-3)
    ours, theirs = (torch.load(tmp_path / f"model{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    moved = {name: tensor for name, tensor in Module().state_dict().items() if not torch.equal(ours[name], tensor)}
    assert moved.keys() == ours.keys(), "and they have been trained"


@pytest.mark.parametrize("kind", ["EMAWeightAveraging", "StochasticWeightAveraging"])
@pytest.mark.parametrize("first", [True, False])
def test_averaged_weights_end_pruned(kind: str, first: bool, tmp_path: Path) -> None:
    if not hasattr(lightning.callbacks, kind):
        pytest.skip(f"this lightning has no {kind}")
    average = getattr(lightning.callbacks, kind)(**({"swa_lrs": 0.01} if kind.startswith("Stoch") else {}))
    pruning = Pruning(SCHEDULE)
    module = Module()
    trainer(tmp_path, 4, [pruning, average] if first else [average, pruning]).fit(module, loader())
    assert all((module.get_parameter(name)[~mask] == 0).all() for name, mask in pruning.masks.items())
    assert pruning.masks.sparsity > 0.5
