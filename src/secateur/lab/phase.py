"""One phase of training: epochs that can be stopped at any moment, ending in the best state on validation data."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import secateur as sc
from secateur.lab import checkpoint
from secateur.lab.data import Dataset, batch_count, batches
from secateur.lab.journal import Journal
from secateur.lab.settings import Settings
from secateur.lab.training import (
    DivergedError,
    Score,
    Training,
    arithmetic,
    evaluate,
    learning_rate,
    make_optimizer,
    objective,
    train_epoch,
)
from secateur.vocabulary import BadTargetError, CorruptFileError, SecateurWarning

__all__ = ["Desk", "Outcome", "Phase", "Pruning", "noting"]


@dataclass(frozen=True)
class Pruning:
    """What a phase prunes: a schedule over its steps, a choice, the targets (those of the settings if None)."""

    schedule: sc.Schedule
    choice: sc.Choice = sc.Choice()  # noqa: RUF009 - a frozen value
    weights: sc.Weights | None = None
    regrow: sc.Regrow | None = None


@dataclass(frozen=True)
class Desk:
    """What a phase works with: taken from the bench as it stands when the phase begins."""

    settings: Settings
    data: Dataset
    model: nn.Module
    targets: sc.Weights
    masks: sc.Masks | None
    teacher: nn.Module | None
    dropouts: sc.Dropouts
    journal: Journal


@dataclass(frozen=True)
class Outcome:
    """How a phase ended: validation accuracy of the state kept, in [0, 1], and the epoch it is from."""

    validation: float
    best_epoch: int


_FINISHED = {"validation", "best_epoch", "seconds", "epochs"}  # what a finished phase says, beside notes


class Phase:
    """A phase under way."""

    def __init__(self, desk: Desk, name: str, epochs: int, pruning: Pruning | None, training: Training) -> None:
        self.desk, self.name, self.pruning, self.training = desk, name, pruning, training
        self.epoch_steps = batch_count(desk.data.train, desk.settings.batch_size)
        steps = epochs * self.epoch_steps
        self.steps = max(1, steps)
        self.stop = steps if training.stop is None else min(training.stop, steps)
        self.epoch = training.begin // self.epoch_steps  # the next to run
        self.seconds = 0.0
        self.best: dict[str, Tensor] | None = None
        self.best_accuracy, self.best_epoch = -1.0, 0
        self.notes: list[str] = []
        self.pruner: sc.Pruner | None = None
        self.hold: sc.Hold | None = None
        self.sharing: sc.Sharing | None = None

    def run(self, folder: Path) -> checkpoint.State:
        """Return the state the phase ends in: from disk if it is there, going on from what is there if not."""
        done, part = folder / f"{self.name}.safetensors", folder / f"{self.name}.partial.safetensors"
        if done.exists():
            with _fits(done):
                finished = checkpoint.load(done)
                self.desk.model.load_state_dict(finished.groups["model"])
                if missing := _FINISHED - finished.values.keys():
                    raise KeyError(f"it lacks {sorted(missing)}")
                return finished
        torch.manual_seed(self._seed(-1))
        with sc.freeze(self.desk.model, self.training.frozen):
            with self._noting():
                self._set_up()
            if part.exists():
                with _fits(part):
                    self.resume(checkpoint.load(part))
            else:
                self.desk.journal.rewind(self.name, 0)
            while self.epoch * self.epoch_steps < self.stop:
                with self._noting():
                    self.run_epoch()
                checkpoint.save(part, self.state())
            with self._noting():
                finished = self.finish()
        finished.values["notes"] = self.notes
        checkpoint.save(done, finished)
        part.unlink(missing_ok=True)
        return finished

    def _set_up(self) -> None:
        desk, pruning = self.desk, self.pruning
        self.optimizer = make_optimizer(desk.model, desk.settings)
        if pruning:
            weights = desk.targets if pruning.weights is None else pruning.weights
            self.pruner = sc.Pruner(
                desk.model,
                self.optimizer,
                pruning.schedule,
                pruning.choice,
                weights=weights,
                regrow=pruning.regrow or False,
            )
        elif desk.masks is not None:
            self.hold = sc.hold(self.optimizer, desk.masks, desk.model)
        if self.training.bits:
            books = sc.codebooks(sc.prunable(desk.model, biases=True), self.training.bits)
            self.sharing = sc.share(self.optimizer, books)
        if self.training.from_here:
            self.best, self.best_accuracy = checkpoint.snapshot(desk.model), self._validate()

    def run_epoch(self) -> None:
        """Train one epoch, or the part of it that lies between ``begin`` and ``stop``."""
        started = time.perf_counter()
        desk, settings, training = self.desk, self.desk.settings, self.training
        generator = torch.Generator().manual_seed(self._seed(self.epoch))
        torch.manual_seed(self._seed(self.epoch))
        first = max(training.begin, self.epoch * self.epoch_steps)
        last = min(self.stop, (self.epoch + 1) * self.epoch_steps)

        def before_step(index: int) -> None:
            rate = learning_rate(training.rate * settings.learning_rate, first + index, self.steps, training.cycles)
            for group in self.optimizer.param_groups:
                group["lr"] = rate

        done = itertools.count(first - training.begin + 1)

        def after_step() -> None:
            if self.pruner:
                self.pruner.step()
            desk.journal.tick(self.name, next(done), self.stop - training.begin)

        desk.dropouts.rescale(self._masks() or {})
        augment = settings.augment and desk.data.augment
        data = batches(desk.data.train, settings.batch_size, generator, augment=augment)
        skip = self.epoch * self.epoch_steps
        part = itertools.islice(data, first - skip, last - skip)
        loss = objective(training, desk.targets, desk.teacher)
        trained = train_epoch(desk.model, self.optimizer, part, before_step, after_step, loss, settings.precision)
        checked = evaluate(desk.model, desk.data.validation, settings.test_precision)
        if not math.isfinite(checked.loss):
            raise DivergedError("the validation loss is not finite; lower --learning-rate")
        self.epoch += 1
        # At equal accuracy the later epoch is kept: it has been trained longer at the same result.
        if self._at_target() and (checked.accuracy >= self.best_accuracy or training.stop is not None):
            self.best = checkpoint.snapshot(desk.model)
            self.best_accuracy, self.best_epoch = checked.accuracy, self.epoch
        seconds = time.perf_counter() - started
        self.seconds += seconds
        desk.journal.record(self._row(trained, checked) | {"seconds": round(seconds, 3)})

    def _row(self, trained: Score, checked: Score) -> dict[str, Any]:
        """Return what ``metrics.jsonl`` says about the epoch that just ended."""
        return {
            "phase": self.name,
            "epoch": self.epoch,
            "step": min(self.stop, self.epoch * self.epoch_steps),
            "loss": trained.loss,
            "train_accuracy": trained.accuracy,
            "validation_loss": checked.loss,
            "validation_accuracy": checked.accuracy,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **self._sparsity(),
        }

    def state(self) -> checkpoint.State:
        """Return everything needed to go on from the end of this epoch."""
        state = checkpoint.State(
            groups={"model": checkpoint.snapshot(self.desk.model)},
            values={
                "epoch": self.epoch,
                "best_accuracy": self.best_accuracy,
                "best_epoch": self.best_epoch,
                "seconds": self.seconds,
                "notes": self.notes,
            },
        )
        state.groups["optimizer"] = checkpoint.optimizer_tensors(self.optimizer)
        state.groups["best"] = self.best or {}
        if self.pruner:
            checkpoint.add_pruner(state, self.pruner)
        if self.sharing:
            state.groups["codebooks"] = self.sharing.codebooks.state_dict()
        return state

    def resume(self, state: checkpoint.State) -> None:
        """Go on from what :meth:`state` returned."""
        self.desk.model.load_state_dict(state.groups["model"])
        checkpoint.restore_optimizer(self.optimizer, state.groups.get("optimizer", {}))
        if self.pruner:
            self.pruner.load_state_dict(checkpoint.pruner_state(state))
        if self.sharing:
            self.sharing.codebooks.load_state_dict(state.groups.get("codebooks", {}))
        self.best = state.groups.get("best")
        self.epoch, self.seconds = state.values["epoch"], state.values["seconds"]
        self.best_accuracy, self.best_epoch = state.values["best_accuracy"], state.values["best_epoch"]
        self._add(state.values.get("notes", []))
        self.desk.journal.rewind(self.name, self.epoch)

    def finish(self) -> checkpoint.State:
        """End the phase in its best state."""
        desk = self.desk
        masks = self.pruner.finalize() if self.pruner else desk.masks
        if self.hold:
            self.hold.release()
        if self.sharing:
            self.sharing.release()
        if self.best:
            desk.model.load_state_dict(self.best)
        else:
            if masks is not None and desk.settings.recalibrate:
                self._recalibrate()
            self.best_accuracy = self._validate()
        values: dict[str, Any] = {
            "validation": self.best_accuracy,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "epochs": max(0, self.stop - self.training.begin) / self.epoch_steps,
        }
        state = checkpoint.State({"model": checkpoint.snapshot(desk.model)}, values)
        if masks is not None:
            state.groups["masks"] = dict(masks)
        return state

    def _at_target(self) -> bool:
        return self.pruner is None or self.pruner.step_count >= self.pruner.schedule.end_step

    def _validate(self) -> float:
        desk = self.desk
        return evaluate(desk.model, desk.data.validation, desk.settings.test_precision).accuracy

    def _recalibrate(self) -> None:
        # 5000 images say enough of means and variances (docs/design/decisions.md).
        sample = [images for images, _ in itertools.islice(batches(self.desk.data.train, 250), 20)]
        with arithmetic(sample[0], self.desk.settings.test_precision):
            sc.recalibrate(self.desk.model, sample)

    def _masks(self) -> sc.Masks | None:
        return self.pruner.masks if self.pruner else self.desk.masks

    def _sparsity(self) -> dict[str, Any]:
        masks = self._masks()
        if masks is None:
            return {"sparsity": 0.0, "layers": {}}
        thresholds = self.pruner.thresholds if self.pruner else {}
        layers = {
            name: {"sparsity": masks.count(name).sparsity, "threshold": thresholds.get(name, 0.0)} for name in masks
        }
        return {"sparsity": masks.sparsity, "layers": layers}

    def _seed(self, epoch: int) -> int:
        """Return a seed for one epoch of one phase: order and noise need no state of their own to resume."""
        stream = self.training.stream or self.name
        return zlib.crc32(f"{self.desk.settings.seed}/{stream}/{epoch}".encode())

    def _noting(self) -> contextlib.AbstractContextManager[None]:
        # A resumed run must know the warnings given before it was killed.
        return noting(self._add)

    def _add(self, notes: list[str]) -> None:
        self.notes.extend(text for text in dict.fromkeys(notes) if text not in self.notes)


@contextlib.contextmanager
def noting(add: Callable[[list[str]], None]) -> Iterator[None]:
    """Hand the texts of this package's warnings to ``add`` instead of the terminal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SecateurWarning)
        yield
    add([str(each.message) for each in caught if issubclass(each.category, SecateurWarning)])


@contextlib.contextmanager
def _fits(path: Path) -> Iterator[None]:
    """Name the checkpoint that the model, perhaps edited since, cannot take."""
    try:
        yield
    except (RuntimeError, KeyError, BadTargetError) as error:
        raise CorruptFileError(
            f"{path} does not fit the model or lacks an entry ({error}); if the model was changed, start over with "
            "--again or choose another --out"
        ) from error
