"""The bench a method works at: a model, its data, and phases of training that survive being killed.

A method is plain code that calls :meth:`Bench.phase`. When a killed run is started again the method runs again from
its first line: a phase that is finished hands back what it left, one that is not goes on from its last epoch. So a
method needs no code for resuming, as long as what it does between phases depends on nothing but the bench.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import secateur as sc
from secateur.lab import checkpoint, models
from secateur.lab.data import Dataset, LabError, batch_count, placed
from secateur.lab.journal import Journal
from secateur.lab.phase import Desk, Outcome, Phase, Pruning
from secateur.lab.settings import Settings, words
from secateur.lab.training import Training, evaluate
from secateur.vocabulary import BadTargetError, first_line

__all__ = ["Bench", "Outcome", "Pruning", "Training"]


class Bench:
    """A model on its data, with the folder that its phases are stored in.

    Attributes:
        model: in whatever state the last phase, or the method, left it.
        masks: that are held from now on; None while the model is dense.
        initial: the state of the model before any training.
        teacher: the dense model, for distillation; None until it is trained.
        trained: epochs of training that went into the model as it is.
        seconds: of training since it was last set to 0, also of what was undone.
        asked: the sparsity that the result is held against; None where a method ends where it ends.
        facts: what the result says beside measurements, such as the layers that were frozen.
        notes: warnings.
    """

    def __init__(self, settings: Settings, data: Dataset, folder: Path, journal: Journal) -> None:
        self.settings = settings
        self.data = data
        self.model = self.fresh(settings.seed)
        self.data = placed(data, settings.device, _convolutional(self.model))
        self.folder = folder
        self.journal = journal
        self.masks: sc.Masks | None = None
        self.initial = checkpoint.snapshot(self.model)
        self.teacher: nn.Module | None = None
        self.trained = self.seconds = 0.0
        self.asked: float | None = settings.sparsity
        self.last = Outcome(0.0, 0)
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []
        self.dropouts = sc.Dropouts(self.model, self.data.train.images[:2])

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps in an epoch."""
        return batch_count(self.data.train, self.settings.batch_size)

    def steps(self, epochs: int) -> int:
        """Return how many optimizer steps ``epochs`` epochs have."""
        return epochs * self.epoch_steps

    def targets(self, biases: bool = False, of: nn.Module | None = None) -> sc.Weights:
        """Return the targets that the settings name, of the bench's model or another; with biases if asked for.

        Raises:
            LabError: the settings name none.
        """
        settings = self.settings
        include = words(settings.include) or None
        model = self.model if of is None else of
        try:
            return sc.prunable(model, include, words(settings.ignore), biases or settings.biases)
        except BadTargetError as error:
            raise LabError(f"--include and --ignore leave nothing to prune: {error}") from error

    def fresh(self, seed: int, width: float = 1.0) -> nn.Module:
        """Return an untrained model of the settings, ``width`` times as wide, where the settings want it.

        Raises:
            LabError: torch has no such device here.
        """
        settings = self.settings
        torch.manual_seed(seed)
        model = models.build(settings.model, self.data.shape, self.data.classes, dropout=settings.dropout, width=width)
        if _convolutional(model):
            # Convolutions on CPU are up to twice as fast with the channels innermost.
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            return model.to(settings.device)
        except (RuntimeError, AssertionError) as error:
            raise LabError(
                f"--device {settings.device} cannot be used here ({first_line(error)}); leave it out for the CPU"
            ) from None

    def retraining(self) -> Training:
        """Return how the settings want retraining done."""
        each = self.settings
        return Training(
            each.retrain_rate,
            each.retrain_l1,
            each.retrain_l2,
            each.smoothing,
            distill=each.distill,
            temperature=each.temperature,
        )

    def dense_training(self) -> Training:
        """Return how the settings want the dense model trained."""
        return Training(l1=self.settings.l1, l2=self.settings.l2, smoothing=self.settings.smoothing)

    def phase(
        self,
        name: str,
        epochs: int,
        pruning: Pruning | None = None,
        training: Training | None = None,
        folder: Path | None = None,
    ) -> Outcome:
        """Train for ``epochs`` epochs, pruning on the way, and keep the best state on validation data.

        With pruning, only epochs that end at the final sparsity count for "best"; with masks from an earlier phase
        and no pruning these are held. Afterwards the model is in the best state and ``masks`` are up to date.

        Args:
            name: of the phase, unique in the run.
            epochs: 0 only prunes.
            pruning: what to prune and when.
            training: how to train; :meth:`retraining` if left out.
            folder: where to store it, if not with the run (a sweep shares its dense phases).
        """
        folder = folder or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        desk = Desk(
            self.settings,
            self.data,
            self.model,
            self.targets(),
            self.masks,
            self.teacher,
            self.dropouts,
            self.journal,
        )
        state = Phase(desk, name, epochs, pruning, training or self.retraining()).run(folder)
        masks = state.groups.get("masks")
        self.restore(state.groups["model"], sc.Masks(masks) if masks else None)
        self.trained += state.values["epochs"]
        self.last = Outcome(state.values["validation"], state.values["best_epoch"])
        self.seconds += state.values["seconds"]
        self.note(state.values.get("notes", []))
        return self.last

    def restore(self, state: Mapping[str, Tensor], masks: sc.Masks | None = None) -> None:
        """Put the model back to a state from :func:`secateur.lab.checkpoint.snapshot`, under the given masks."""
        bound = sc.rewind(self.model, state, masks)
        self.masks = bound if masks is not None else None

    def replace(self, model: nn.Module) -> None:
        """Go on with another, untrained model."""
        self.model, self.masks, self.trained = model, None, 0.0
        self.initial = checkpoint.snapshot(model)
        self.dropouts = sc.Dropouts(model, self.data.train.images[:2])

    def fork(self, settings: Settings, name: str) -> Bench:
        """Return a bench as this one stands, with settings and a folder of its own; this one is left as it is."""
        twin = copy.copy(self)
        twin.settings, twin.asked, twin.folder, twin.seconds = settings, settings.sparsity, self.folder / name, 0.0
        self.dropouts.restore()  # the twin's rates begin where this one's did; each epoch sets them anew
        twin.model = copy.deepcopy(self.model)
        twin.dropouts = sc.Dropouts(twin.model, self.data.train.images[:2])
        if self.masks is not None:
            twin.impose(self.masks)
        twin.facts, twin.notes = copy.deepcopy(self.facts), list(self.notes)
        return twin

    def start_over(self) -> None:
        """Go back to the untrained model."""
        self.restore(self.initial)
        self.trained = 0.0

    def impose(self, masks: sc.Masks) -> None:
        """Zero what the masks remove, and hold it in the phases to come."""
        self.masks = sc.apply(self.model, masks)

    def validate(self) -> float:
        """Return the validation accuracy of the model as it is, in [0, 1]."""
        return evaluate(self.model, self.data.validation, self.settings.test_precision).accuracy

    def note(self, texts: list[str]) -> None:
        """Add warnings, each once."""
        self.notes.extend(text for text in dict.fromkeys(texts) if text not in self.notes)

    def remark(self) -> None:
        """Note the settings that this model leaves nothing to do."""
        normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules())
        if self.settings.recalibrate and not normed:
            self.note([f"{self.settings.model} has no BatchNorm: --recalibrate was passed over"])

    def learn_from_here(self) -> None:
        """Take the model as it is for the teacher of what follows, if the settings want one."""
        self.teacher = copy.deepcopy(self.model).eval() if self.settings.distill else None


def _convolutional(model: nn.Module) -> bool:
    return any(parameter.ndim == 4 for parameter in model.parameters())
