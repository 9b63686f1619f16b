"""A Pruner that follows an optimizer's steps by itself: what the callbacks of all trainers share."""

from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from secateur.choose.selection import Choice
from secateur.choose.targets import prunable
from secateur.files import read_tensors, write_tensors
from secateur.masks import Masks
from secateur.modules import innermost, unwrap
from secateur.train.pruner import Pruner
from secateur.train.regrow import Regrow
from secateur.train.rewind import rewind
from secateur.train.schedules import Schedule
from secateur.train.stepping import overflowed
from secateur.vocabulary import CorruptFileError, UnfinishedWarning, Weights

__all__ = ["Follower"]

_FORMAT = "secateur-follower"
State = dict[str, Any]
_LIVE: weakref.WeakSet[Follower] = weakref.WeakSet()


class Follower:
    """A :class:`secateur.Pruner` that counts the steps of its optimizer itself, until :meth:`finish`.

    A step that an AMP scaler skips is no step; batches whose gradients are accumulated are one. One that an interrupted
    training has left behind lets go of its weights when another begins on them, or when it is forgotten.

    Args:
        model: the network in training.
        optimizer: the optimizer in use; wrappers of it are looked through.
        schedule: from optimizer step to sparsity.
        choice: criterion, granularity, scope and allocation.
        weights: the targets; :func:`secateur.prunable` of the model if left out.
        regrow: as in :class:`secateur.Pruner`.
        rewind_to: an optimizer step. Whenever the masks have been redrawn after it, surviving weights go back to what
            they were then (lottery tickets; 0 is the initialisation) and the optimizer's state is cleared.
        state: from :meth:`state_dict`, to go on from.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        choice: Choice = Choice(),  # noqa: B008 - a frozen value
        *,
        weights: Weights | None = None,
        regrow: bool | Regrow = False,
        rewind_to: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._optimizer, self._rewind_to = unwrap(model), innermost(optimizer), rewind_to
        self._early: dict[str, Tensor] = self._snapshot() if rewind_to == 0 and state is None else {}
        self._targets = prunable(self._model) if weights is None else weights
        for other in [each for each in _LIVE if each._follows(self._targets)]:
            other.release()
        own = None if state is None else state["pruner"]
        self.pruner = Pruner(model, optimizer, schedule, choice, weights=self._targets, regrow=regrow, state=own)
        if state is not None:
            self._early = {name: each.clone() for name, each in state["early"].items()}
        self._handle = self._optimizer.register_step_post_hook(self._after_step)
        _LIVE.add(self)
        weakref.finalize(self, _remove, self.pruner.handles)

    @property
    def sparsity(self) -> float:
        """Share of the targets that the masks remove now."""
        return self.pruner.masks.sparsity

    def finish(self) -> Masks:
        """Stop following and finalize; return the masks."""
        self._handle.remove()
        _LIVE.discard(self)
        return self.pruner.finalize()

    def release(self) -> Masks:
        """Stop as :meth:`finish` does, but where training was interrupted: the schedule may well be unfinished."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnfinishedWarning)
            return self.finish()

    def state_dict(self) -> State:
        """Return what is needed to go on: numbers and tensors only."""
        return {"pruner": self.pruner.state_dict(), "early": dict(self._early)}

    def save(self, path: Path) -> None:
        """Write :meth:`state_dict` as a safetensors file, atomically."""
        pruner = self.pruner.state_dict()
        groups: dict[str, dict[str, Tensor]] = {k: pruner[k] for k in ("masks", "shadow")} | {"early": self._early}
        tensors = {f"{group}/{name}": each.cpu() for group, named in groups.items() for name, each in named.items()}
        numbers = json.dumps({"step": pruner["step"], "sparsity": pruner["sparsity"]})
        write_tensors(path, tensors, {"format": _FORMAT, "numbers": numbers})

    @staticmethod
    def load(path: Path) -> State:
        """Read what :meth:`save` wrote.

        Raises:
            CorruptFileError: the file is damaged or holds something else.
        """
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != _FORMAT:
            raise CorruptFileError(f"{path} holds no state of pruning")
        groups: dict[str, dict[str, Tensor]] = {"masks": {}, "shadow": {}, "early": {}}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = tensor
        early = groups.pop("early")
        return {"pruner": {**json.loads(metadata["numbers"]), **groups}, "early": early}

    def _follows(self, weights: Weights) -> bool:
        return not set(map(id, self._targets.values())).isdisjoint(map(id, weights.values()))

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        if overflowed(optimizer):  # a fused optimizer's step that did nothing
            return
        before = self.pruner.masks
        self.pruner.step()
        if self.pruner.step_count == self._rewind_to:
            self._early = self._snapshot()
        elif self._early and self.pruner.masks is not before:
            rewind(self._model, self._early, self.pruner.masks)
            self._optimizer.state.clear()


def _remove(lists: Iterable[list[RemovableHandle]]) -> None:
    for handles in lists:
        while handles:
            handles.pop().remove()
