"""A Lightning callback that prunes while a Trainer fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from secateur.choose.selection import Choice
from secateur.choose.targets import prunable
from secateur.integrations.following import Follower
from secateur.masks import Masks, apply
from secateur.train.regrow import Regrow
from secateur.train.schedules import Schedule
from secateur.vocabulary import MissingExtraError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingExtraError("secateur.integrations.lightning needs Lightning: pip install 'secateur[lightning]'") from (
        error
    )

__all__ = ["Pruning"]

Pattern = str | type[nn.Module]


class Pruning(Callback):
    """Prune the module while it is fitted, along a schedule of optimizer steps.

    Gradual pruning takes a ramp such as :class:`secateur.PolynomialSchedule`, iterative pruning a
    :class:`secateur.RoundsSchedule`, lottery tickets that and ``rewind_to=0``. Everything is in the checkpoint: a
    resumed fit goes on from the same step on the same masks. ``sparsity`` is logged after every epoch.

    Args:
        schedule: from optimizer step to sparsity of the targets.
        choice: criterion, granularity, scope and allocation.
        include: as in :func:`secateur.prunable`.
        ignore: as in :func:`secateur.prunable`.
        biases: whether biases are targets.
        regrow: True or a :class:`secateur.Regrow` to let masked weights return.
        rewind_to: an optimizer step; whenever masks have been redrawn after it, surviving weights go back to what they
            were then, and the optimizer's state is cleared. The learning-rate schedule is yours.
        optimizer: which of the module's optimizers trains the targets.

    Example:
        >>> import secateur as sc
        >>> from secateur.integrations.lightning import Pruning
        >>> schedule = sc.PolynomialSchedule(0.0, 0.9, begin_step=100, end_step=900, frequency=50)
        >>> callback = Pruning(schedule, ignore=["head"])
        >>> callback.masks
        Masks(0 targets, 0 of 0 weights kept)
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        schedule: Schedule,
        choice: Choice = Choice(),  # noqa: B008 - a frozen value
        *,
        include: Sequence[Pattern] | None = None,
        ignore: Sequence[Pattern] = (),
        biases: bool = False,
        regrow: bool | Regrow = False,
        rewind_to: int | None = None,
        optimizer: int = 0,
    ) -> None:
        self._schedule, self._choice, self._optimizer = schedule, choice, optimizer
        self._targets: dict[str, Any] = {"include": include, "ignore": ignore, "biases": biases}
        self._how: dict[str, Any] = {"regrow": regrow, "rewind_to": rewind_to}
        self._follower: Follower | None = None
        self._loaded: dict[str, Any] | None = None
        self._ended: dict[str, Any] = {}
        self._masks = Masks({})

    @property
    def masks(self) -> Masks:
        """Those in force, or those that training ended with; empty before it."""
        return self._follower.pruner.masks if self._follower else self._masks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, on what a checkpoint brought if there was one."""
        self._release()  # what a fit that was interrupted has left
        self._follower = Follower(
            pl_module,
            trainer.optimizers[self._optimizer],
            self._schedule,
            self._choice,
            weights=prunable(pl_module, **self._targets),
            state=self._loaded,
            **self._how,
        )
        self._loaded = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the sparsity in force."""
        pl_module.log("sparsity", self.masks.sparsity, prog_bar=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the zeros and take all hooks away."""
        if self._follower:
            self._masks = self._follower.finish()
            self._ended, self._follower = self._follower.state_dict(), None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Zero once more: weights that were averaged over training take the place of the trained ones at its end."""
        apply(pl_module, self._masks)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take all hooks away where training was interrupted; the zeros stay."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take away what is left of them."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into the checkpoint."""
        if self._follower:
            return self._follower.state_dict()
        return self._ended

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what was in the checkpoint."""
        self._loaded = state_dict or None

    def _release(self) -> None:
        if self._follower:
            self._masks = self._follower.release()
            self._ended, self._follower = self._follower.state_dict(), None
