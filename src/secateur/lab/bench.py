"""The bench a method works at: a model, its data, and phases of training that survive being killed.

A method is plain code that calls :meth:`Bench.phase`. When a killed run is started again the method runs again from
its first line: a phase that is finished hands back what it left, one that is not goes on from its last epoch. So a
method needs no code for resuming, as long as what it does between phases depends on nothing but the bench.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
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
from secateur.lab.training import DivergedError, Score, evaluate, learning_rate, make_optimizer, train_epoch
from secateur.vocabulary import BadTargetError, CorruptFileError, SecateurWarning

__all__ = ["Bench", "Outcome", "Pruning"]


@dataclass(frozen=True)
class Pruning:
    """What a phase prunes: a schedule over its steps and a choice; ``cycles`` restarts the learning rate."""

    schedule: sc.OneShotSchedule | sc.PolynomialSchedule | sc.RoundsSchedule
    choice: sc.Choice = sc.Choice()  # noqa: RUF009 - a frozen value
    cycles: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a phase ended: validation accuracy of the state kept, in [0, 1], and the epoch it is from."""

    validation: float
    best_epoch: int
    seconds: float


class Bench:
    """A model on its data, with the folder that its phases are stored in."""

    def __init__(self, settings: Settings, model: nn.Module, data: Dataset, folder: Path, journal: Journal) -> None:
        self.settings = settings
        self.model = model
        self.data = data
        self.masks: sc.Masks | None = None
        self.last = Outcome(0.0, 0, 0.0)
        self.notes: list[str] = []
        self.folder = folder
        self.journal = journal

    def steps(self, epochs: int) -> int:
        """Return how many optimizer steps ``epochs`` epochs have."""
        return epochs * batch_count(self.data.train, self.settings.batch_size)

    def phase(self, name: str, epochs: int, pruning: Pruning | None = None, folder: Path | None = None) -> Outcome:
        """Train for ``epochs`` epochs, pruning on the way, and keep the best state on validation data.

        With pruning, only epochs that end at the final sparsity count for "best"; with masks from an earlier phase
        and no pruning these are held. Afterwards the model is in the best state and ``masks`` are up to date.

        Args:
            name: of the phase, unique in the run.
            epochs: 0 only prunes.
            pruning: what to prune and when.
            folder: where to store it, if not with the run (a sweep shares its dense phases).
        """
        folder = folder or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        done, part = folder / f"{name}.safetensors", folder / f"{name}.partial.safetensors"
        if done.exists():
            with _fits(done):
                return self._recall(checkpoint.load(done))
        notes: list[str] = []
        torch.manual_seed(self._seed(name, -1))
        with _noting(notes):
            work = _Work(self, name, epochs, pruning, notes)
        if part.exists():
            with _fits(part):
                work.resume(checkpoint.load(part))
        else:
            self.journal.rewind(name, 0)
        for epoch in range(work.epoch, epochs):
            with _noting(notes):
                work.run_epoch(epoch)
            checkpoint.save(part, work.state())
        with _noting(notes):
            finished = work.finish()
        finished.values["notes"] = notes
        checkpoint.save(done, finished)
        part.unlink(missing_ok=True)
        return self._recall(finished)

    def restore(self, state: Mapping[str, Tensor], masks: sc.Masks | None = None) -> None:
        """Put the model back to a state from :func:`secateur.lab.checkpoint.snapshot`, under the given masks."""
        self.model.load_state_dict(dict(state))
        self.masks = masks if masks is None else sc.apply(self.model, masks)

    def _recall(self, state: checkpoint.State) -> Outcome:
        masks = state.groups.get("masks")
        self.restore(state.groups["model"], sc.Masks(masks) if masks else None)
        self.last = Outcome(state.values["validation"], state.values["best_epoch"], state.values["seconds"])
        _add(self.notes, state.values.get("notes", []))
        return self.last

    def _seed(self, name: str, epoch: int) -> int:
        """Return a seed for one epoch of one phase: order and noise need no state of their own to resume."""
        return zlib.crc32(f"{self.settings.seed}/{name}/{epoch}".encode())


@contextlib.contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """Collect the text of this package's warnings: a resumed run must still know those given before it was killed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SecateurWarning)
        yield
    _add(notes, [str(each.message) for each in caught if issubclass(each.category, SecateurWarning)])


def _add(notes: list[str], more: list[str]) -> None:
    notes.extend(text for text in dict.fromkeys(more) if text not in notes)


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


class _Work:
    """A phase under way."""

    def __init__(self, bench: Bench, name: str, epochs: int, pruning: Pruning | None, notes: list[str]) -> None:
        self.bench, self.name, self.epochs, self.pruning = bench, name, epochs, pruning
        self.steps = max(1, bench.steps(epochs))
        self.optimizer = make_optimizer(bench.model, bench.settings)
        self.pruner: sc.Pruner | None = None
        self.hold: sc.Hold | None = None
        if pruning:
            weights = sc.prunable(bench.model)
            self.pruner = sc.Pruner(bench.model, self.optimizer, pruning.schedule, pruning.choice, weights=weights)
        elif bench.masks is not None:
            self.hold = sc.hold(self.optimizer, bench.masks, bench.model)
        self.notes = notes
        self.epoch, self.seconds = 0, 0.0
        self.best: dict[str, Tensor] | None = None
        self.best_accuracy, self.best_epoch = -1.0, 0

    def run_epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        bench, settings = self.bench, self.bench.settings
        generator = torch.Generator().manual_seed(bench._seed(self.name, epoch))
        torch.manual_seed(bench._seed(self.name, epoch))
        first = epoch * batch_count(bench.data.train, settings.batch_size)
        cycles = self.pruning.cycles if self.pruning else 1

        def before_step(index: int) -> None:
            rate = learning_rate(settings.learning_rate, first + index, self.steps, cycles)
            for group in self.optimizer.param_groups:
                group["lr"] = rate

        def after_step() -> None:
            if self.pruner:
                self.pruner.step()
            bench.journal.tick(self.name, self.steps)

        data = batches(bench.data.train, settings.batch_size, generator, augment=bench.data.augment)
        trained = train_epoch(bench.model, self.optimizer, data, before_step, after_step)
        checked = evaluate(bench.model, bench.data.validation)
        if not math.isfinite(checked.loss):
            raise DivergedError("the validation loss is not finite; lower --learning-rate")
        self.epoch = epoch + 1
        # At equal accuracy the later epoch is kept: it has been trained longer at the same result.
        if self._at_target() and checked.accuracy >= self.best_accuracy:
            self.best = checkpoint.snapshot(bench.model)
            self.best_accuracy, self.best_epoch = checked.accuracy, self.epoch
        seconds = time.perf_counter() - started
        self.seconds += seconds
        bench.journal.record(self._row(trained, checked) | {"seconds": round(seconds, 3)})

    def _row(self, trained: Score, checked: Score) -> dict[str, Any]:
        """Return what ``metrics.jsonl`` says about the epoch that just ended."""
        return {
            "phase": self.name,
            "epoch": self.epoch,
            "step": self.bench.steps(self.epoch),
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
            groups={"model": checkpoint.snapshot(self.bench.model)},
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
        return state

    def resume(self, state: checkpoint.State) -> None:
        self.bench.model.load_state_dict(state.groups["model"])
        checkpoint.restore_optimizer(self.optimizer, state.groups.get("optimizer", {}))
        if self.pruner:
            self.pruner.load_state_dict(checkpoint.pruner_state(state))
        self.best = state.groups.get("best")
        self.epoch, self.seconds = state.values["epoch"], state.values["seconds"]
        self.best_accuracy, self.best_epoch = state.values["best_accuracy"], state.values["best_epoch"]
        _add(self.notes, state.values.get("notes", []))
        self.bench.journal.rewind(self.name, self.epoch)

    def finish(self) -> checkpoint.State:
        """End the phase in its best state."""
        model = self.bench.model
        masks = self.pruner.finalize() if self.pruner else self.bench.masks
        if self.hold:
            self.hold.release()
        if self.best:
            model.load_state_dict(self.best)
        else:
            self.best_accuracy = evaluate(model, self.bench.data.validation).accuracy
        values: dict[str, Any] = {"validation": self.best_accuracy, "best_epoch": self.best_epoch}
        state = checkpoint.State({"model": checkpoint.snapshot(model)}, values | {"seconds": self.seconds})
        if masks is not None:
            state.groups["masks"] = dict(masks)
        return state

    def _at_target(self) -> bool:
        return self.pruner is None or self.pruner.step_count >= self.pruner.schedule.end_step

    def _sparsity(self) -> dict[str, Any]:
        masks = self.pruner.masks if self.pruner else self.bench.masks
        if masks is None:
            return {"sparsity": 0.0, "layers": {}}
        thresholds = self.pruner.thresholds if self.pruner else {}
        layers = {
            name: {"sparsity": masks.count(name).sparsity, "threshold": thresholds.get(name, 0.0)} for name in masks
        }
        return {"sparsity": masks.sparsity, "layers": layers}
