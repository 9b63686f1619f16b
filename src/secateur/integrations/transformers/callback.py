"""A Trainer callback that prunes the model while it trains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from secateur.choose.selection import Choice
from secateur.integrations.following import Follower
from secateur.integrations.transformers.targets import IGNORED, Pattern, prunable
from secateur.masks import Masks
from secateur.train.regrow import Regrow
from secateur.train.schedules import Schedule
from secateur.vocabulary import BadTargetError, NothingPrunedWarning, Weights

__all__ = ["Pruning"]


class Pruning(TrainerCallback):
    """Prune the model while a ``transformers.Trainer`` trains it, along a schedule of optimizer steps.

    Masks are saved in every checkpoint folder; training resumed from one goes on from the same step on the same
    masks. A Trainer does not tell where from: resuming from a folder outside ``output_dir``, name it in
    ``TrainingArguments(resume_from_checkpoint=...)`` as well. ``sparsity`` is logged with everything else. The model
    saved is the plain model, zeros in place.

    Args:
        schedule: from optimizer step to sparsity of the targets.
        choice: criterion, granularity, scope and allocation.
        include: as in :func:`prunable`.
        ignore: as in :func:`prunable`.
        biases: whether biases are targets.
        regrow: True or a :class:`secateur.Regrow` to let masked weights return.
        rewind_to: an optimizer step; whenever masks have been redrawn after it, surviving weights go back to what they
            were then, and the optimizer's state is cleared.
    """

    FILE = "secateur.safetensors"

    def __init__(
        self,
        schedule: Schedule,
        choice: Choice = Choice(),  # noqa: B008 - a frozen value
        *,
        include: Sequence[Pattern] | None = None,
        ignore: Sequence[Pattern] = IGNORED,
        biases: bool = False,
        regrow: bool | Regrow = False,
        rewind_to: int | None = None,
    ) -> None:
        self._schedule, self._choice = schedule, choice
        self._targets: dict[str, Any] = {"include": include, "ignore": ignore, "biases": biases}
        self._how: dict[str, Any] = {"regrow": regrow, "rewind_to": rewind_to}
        self._follower: Follower | None = None
        self._masks = Masks({})

    @property
    def masks(self) -> Masks:
        """Those in force, or those that training ended with; empty before it."""
        return self._follower.pruner.masks if self._follower else self._masks

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Begin, on the masks in the checkpoint that training is resumed from, if it is.

        Raises:
            BadTargetError: there are masks for this step, but they are not those of the model that is resumed.
            CorruptFileError: their file is damaged.
        """
        self._release()  # what a training that was interrupted has left
        model: nn.Module = kwargs["model"]
        weights = prunable(model, **self._targets)
        self._follower = Follower(
            model,
            kwargs["optimizer"],
            self._schedule,
            self._choice,
            weights=weights,
            state=_stored(args, state, weights) if state.global_step else None,
            **self._how,
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the masks beside the model."""
        if self._follower and state.is_world_process_zero:
            self._follower.save(_folder(args, state) / self.FILE)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Add the sparsity in force."""
        if logs is not None and self._follower:
            logs["sparsity"] = self._follower.sparsity
            if state.log_history:  # noted before callbacks are asked
                state.log_history[-1]["sparsity"] = self._follower.sparsity

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave the zeros and take all hooks away."""
        if self._follower:
            self._masks = self._follower.finish()
            self._follower = None

    def _release(self) -> None:
        if self._follower:
            self._masks = self._follower.release()
            self._follower = None


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _stored(args: TrainingArguments, state: TrainerState, weights: Weights) -> dict[str, Any] | None:
    """Return what was saved beside the model that is resumed.

    The Trainer tells a callback the step that it resumes at, but not the folder. So the folder named in its arguments
    is tried, then the one in ``output_dir``, and what is there must agree with the weights that were loaded.
    """
    named = getattr(args, "resume_from_checkpoint", None)
    folders = [Path(named)] if isinstance(named, str) else []
    paths = [folder / Pruning.FILE for folder in dict.fromkeys([*folders, _folder(args, state)])]
    wrong = []
    for path in paths:
        if path.exists():
            stored = Follower.load(path)
            said = _disagreement(stored["pruner"], state.global_step, weights)
            if not said:
                return stored
            wrong.append(f"{path}: {said}")
    way_out = "if it is resumed from another folder, name that in TrainingArguments(resume_from_checkpoint=...) too"
    if wrong:
        raise BadTargetError(
            f"training goes on from step {state.global_step}, but not with the masks in {'; '.join(wrong)}; {way_out}"
        )
    warnings.warn(
        f"training goes on from step {state.global_step}, but there are no masks at {' or '.join(map(str, paths))}: "
        f"pruning begins anew; {way_out}",
        NothingPrunedWarning,
        stacklevel=2,
    )
    return None


def _disagreement(saved: dict[str, Any], step: int, weights: Weights) -> str:
    """Return in what the saved masks differ from the model that was loaded; nothing if they are its own."""
    masks = saved["masks"]
    if saved["step"] != step:
        return f"they are of step {saved['step']}"
    if masks.keys() != weights.keys():
        return f"other targets, as {sorted(masks.keys() ^ weights.keys())[0]!r}"
    for name, weight in weights.items():
        if masks[name].shape != weight.shape:
            return f"{name!r} has shape {list(masks[name].shape)} there, {list(weight.shape)} in the model"
        alive = int((weight.detach().cpu()[~masks[name]] != 0).sum())
        if alive:
            return f"{alive} weights of {name!r} that they remove are not zero in the model"
    kept = sum(int(mask.sum()) for mask in masks.values())
    dead = sum(int((weight.detach().cpu()[masks[name]] == 0).sum()) for name, weight in weights.items())
    # A kept weight may be zero: one that has just regrown, or never moved. Not one in ten.
    if dead > 0.1 * kept and not saved["shadow"]:
        return f"{dead} of the {kept} weights that they keep are zero in the model"
    return ""
