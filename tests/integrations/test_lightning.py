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
    def __init__(self, pruning: Pruning) -> None:
        self.pruning, self.logged, self.drawn = pruning, [], 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        step = trainer.global_step
        self.drawn = SCHEDULE(step) if SCHEDULE.due(step) else self.drawn
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


def test_a_resumed_fit_ends_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole, pruning = Module(), Pruning(SCHEDULE)
    trainer(tmp_path, 2, [pruning]).fit(whole, loader())

    class Kill(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "half.ckpt")
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, 2, [Pruning(SCHEDULE), Kill()]).fit(Module(), loader())
    again, resumed = Module(), Pruning(SCHEDULE)
    trainer(tmp_path, 2, [resumed]).fit(again, loader(), ckpt_path=tmp_path / "half.ckpt")
    assert resumed.masks == pruning.masks
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


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
        self.pruning.masks.save(self.folder / f"masks{trainer.global_rank}.safetensors")


def test_two_processes_hold_the_same_masks(tmp_path: Path) -> None:
    pruning = Pruning(SCHEDULE)
    callbacks = [pruning, KeepMasks(pruning, tmp_path)]
    trainer(tmp_path, 2, callbacks, strategy="ddp_spawn", devices=2).fit(Module(), loader())
    first, second = (sc.Masks.load(tmp_path / f"masks{rank}.safetensors") for rank in (0, 1))
    assert first == second and first.sparsity == pytest.approx(0.9, abs=1e-3)
