"""What prunes while ``fit`` runs, and what writes down how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import keras

from secateur.integrations.keras.compiled import renew_steps, show_to, withdraw_from
from secateur.integrations.keras.masking import masks_in
from secateur.integrations.keras.pruning import Group, groups
from secateur.integrations.keras.targets import read
from secateur.vocabulary import MissingExtraError

__all__ = ["PruningSummaries", "UpdatePruningStep"]


class UpdatePruningStep(keras.callbacks.Callback):  # type: ignore[misc]
    """Prune along the schedules that :func:`prune_low_magnitude` was given, one step for each optimizer step.

    Steps are counted from the optimizer's iterations, so training that is resumed goes on where it stopped, on the
    masks in the file. Masks are drawn after a step that a schedule names, before the next one begins. The model that is
    trained may be one that the marked model or layer is part of.
    """

    def on_train_begin(self, logs: Any = None) -> None:
        """Find what is to be pruned, so that other callbacks may load its masks."""
        # TensorFlow builds a model that was given no input shape in its first step.
        self._groups = groups(self.model) if self.model.built else []
        self._started = False

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self._batches // self._every

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin, after all that was loaded; batches are numbered anew in each epoch."""
        self._last = -1
        if self._groups and not self._started:
            self._start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the steps since the last call, several where steps run in one go, and prune if one was due."""
        if not self._groups:
            self._groups = groups(self.model)
            self._start()
            self._last = batch
            return
        before = self.step
        self._batches += batch - self._last
        self._last = batch
        for group in self._groups:
            due = [step for step in range(before + 1, self.step + 1) if group.plan.schedule.due(step)]
            if due:
                self._redraw(group, group.plan.schedule(due[-1]))

    def on_train_end(self, logs: Any = None) -> None:
        """Leave the optimizer as it was; masks go on holding their zeros until they are stripped.

        By now an optimizer with ``use_ema`` has put its averages, which remember what was pruned, in the place of the
        weights.
        """
        for group in self._groups:
            group.hold()
        if keras.backend.backend() == "jax":
            withdraw_from(self.model.optimizer)
            renew_steps(self.model)  # a step compiled before, without them shown, holds masks as they were then

    def _start(self) -> None:
        """Prune if a schedule begins here, or began before and has no masks yet."""
        self._started = True
        optimizer = self.model.optimizer
        show_to(optimizer, [mask for group in self._groups for _, mask in group.members.values()])
        self._every = optimizer.gradient_accumulation_steps or 1
        self._batches = int(optimizer.iterations) * self._every
        for group in self._groups:
            asked = group.plan.schedule(self.step)
            if group.plan.schedule.due(self.step) or (asked > 0 and group.is_whole()):
                self._redraw(group, asked)
            else:  # what was loaded may not have its zeros where the masks say
                group.hold()

    def _redraw(self, group: Group, sparsity: float) -> None:
        # Asking for the model makes JAX put the state of its compiled step into the variables, and take it back later.
        _ = self.model
        group.redraw(sparsity)


class PruningSummaries(keras.callbacks.Callback):  # type: ignore[misc]
    """Write the sparsity of every pruned variable, and of all together, to TensorBoard.

    Args:
        log_dir: folder for the events.
        update_freq: "epoch", "batch", or a number of batches.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, log_dir: str | Path, update_freq: Literal["epoch", "batch"] | int = "epoch") -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("PruningSummaries needs tensorboard: pip install 'secateur[lab]'") from error
        self._writer: Any = SummaryWriter(str(log_dir))
        self._every = update_freq if isinstance(update_freq, int) else {"epoch": 0, "batch": 1}[update_freq]
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write if enough batches have passed."""
        self._batches += 1
        if self._every and self._batches % self._every == 0:
            self._write(self._batches)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write after every epoch, by number of epoch."""
        if not self._every:
            self._write(epoch)

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int) -> None:
        zeros, total = 0, 0
        for name, (target, _) in masks_in(self.model).items():
            value = read(target.variable)
            gone = int((value == 0).sum())
            self._writer.add_scalar(f"sparsity/{name}", gone / max(1, value.numel()), step)
            zeros, total = zeros + gone, total + value.numel()
        self._writer.add_scalar("sparsity", zeros / max(1, total), step)
        self._writer.flush()
