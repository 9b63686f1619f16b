"""Gradual and iterative pruning inside any training loop: one call after each optimizer step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.choose.scope import Scope, Window
from secateur.choose.selection import Choice
from secateur.choose.targets import prunable
from secateur.masks import Masks, bind, parameters_of
from secateur.train.hold import Hold
from secateur.train.regrow import Regrow, Shadow
from secateur.train.schedules import Schedule
from secateur.vocabulary import (
    BadTargetError,
    CorruptFileError,
    NamedTensors,
    SecateurError,
    SecateurWarning,
    SelectionError,
    UnfinishedWarning,
    Weights,
)

__all__ = ["Pruner"]


class Pruner:
    """Prune a model along a schedule while it trains, holding what is pruned at zero in between.

    Active from its creation: a schedule that begins at step 0 prunes at once. Call :meth:`step` after every
    ``optimizer.step()`` and :meth:`finalize` at the end.

    Args:
        model: the network in training; wrappers of ``torch.compile`` and DDP are looked through.
        optimizer: the optimizer in use, see :func:`secateur.hold`.
        schedule: from optimizer step to sparsity of the targets.
        choice: criterion, granularity, scope and allocation, used at every redraw.
        weights: the targets; :func:`secateur.prunable` of the model if left out.
        regrow: True or a :class:`Regrow` to let masked weights return; without it masks only ever shrink.
        state: from :meth:`state_dict`, to go on from it at once: nothing is drawn on the way, so nothing is lost where
            the criterion would not draw the same again. The model's and the optimizer's state are loaded before.

    Raises:
        BadTargetError: the model has no prunable tensor, or the state is of other targets.
        CorruptFileError: the state lacks an entry.
        SelectionError: the scope is a Window, and the schedule asks for another sparsity than its own.

    Example:
        >>> import secateur as sc
        >>> net = nn.Linear(10, 10)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        >>> pruner = Pruner(net, optimizer, sc.PolynomialSchedule(0.2, 0.8, begin_step=0, end_step=20, frequency=5))
        >>> for _ in range(20):
        ...     net(torch.randn(4, 10)).square().mean().backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     pruner.step()
        >>> pruner.finalize()
        Masks(1 targets, 20 of 100 weights kept)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        choice: Choice = Choice(),  # noqa: B008 - a frozen value
        *,
        weights: Weights | None = None,
        regrow: bool | Regrow = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = model
        self.schedule = schedule
        self._choice = choice
        _check_window(choice.scope, schedule)
        found = prunable(model) if weights is None else NamedTensors(weights)
        self._parameters = parameters_of(model, found)
        self._targets = found.targets
        self._shadow = Shadow(self._parameters, regrow if isinstance(regrow, Regrow) else Regrow()) if regrow else None
        self._finalized = False
        self.step_count = 0
        self.sparsity = 0.0
        whole = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self._parameters.items()}
        self.masks = bind(model, Masks(whole, self._targets))
        learn = self._shadow.learn if self._shadow and self._shadow.learns else None
        self._hold = Hold(optimizer, self.masks, learn)
        try:
            if state is None:
                self._advance()
            else:
                self.load_state_dict(state)
        except BaseException:
            self._hold.release()
            raise

    def step(self) -> None:
        """Count one optimizer step, and redraw the masks if the schedule says so; after finalize, only count."""
        self.step_count += 1
        if not self._finalized:
            self._advance()

    def finalize(self) -> Masks:
        """End pruning: hooks and shadows are gone, zeros stay in the weights; return the masks.

        Warns (:class:`UnfinishedWarning`) when the schedule had not reached its final sparsity.
        """
        if self._finalized:
            return self.masks
        if self.step_count < self.schedule.end_step:
            warnings.warn(
                f"finalized at step {self.step_count}, before the schedule's end at {self.schedule.end_step}: "
                f"sparsity {self.masks.sparsity:.4f} instead of {self.schedule.final_sparsity:g}",
                UnfinishedWarning,
                stacklevel=2,
            )
        self._finalized = True
        self._shadow = None
        self._hold.update(self.masks)  # weights may have been loaded since
        self._hold.release()
        return self.masks

    def __reduce__(self) -> NoReturn:  # for pickle and copy.deepcopy
        raise TypeError("a Pruner hangs on its model and optimizer; keep its state_dict(), and load it into a new one")

    @property
    def handles(self) -> tuple[list[torch.utils.hooks.RemovableHandle], ...]:
        """The lists of its hooks, now and later: what takes them away when the pruner itself has been forgotten."""
        return (self._hold.handles,)

    @property
    def thresholds(self) -> dict[str, float]:
        """The smallest magnitude kept in each target; 0 where all are kept or none."""
        kept = {name: p.detach()[self.masks[name]].abs() for name, p in self._parameters.items()}
        whole = {name: bool(mask.all()) for name, mask in self.masks.items()}
        return {n: float(k.min()) if k.numel() and not whole[n] else 0.0 for n, k in kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return step, sparsity, masks and shadow values: numbers and tensors only."""
        shadow = {} if self._shadow is None else {name: v.clone() for name, v in self._shadow.values.items()}
        masks = {name: mask.clone() for name, mask in self.masks.items()}
        return {"step": self.step_count, "sparsity": self.sparsity, "masks": masks, "shadow": shadow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` left off, on exactly those masks.

        Load the model's and the optimizer's state first; masked weights and their state are zeroed again.

        Raises:
            BadTargetError: the masks do not name this pruner's targets.
            CorruptFileError: an entry is missing, or shadow values are missing although regrowth is on.
            SecateurError: the pruner is finalized.
        """
        if self._finalized:
            raise SecateurError("this pruner is finalized: make a new one and load the state into that")
        missing = {"step", "sparsity", "masks", "shadow"} - state.keys()
        if missing:
            raise CorruptFileError(f"the pruner state lacks {sorted(missing)}")
        masks: Mapping[str, Tensor] = state["masks"]
        if masks.keys() != self._parameters.keys():
            odd = sorted(masks.keys() ^ self._parameters.keys())
            raise BadTargetError(f"the saved masks and the targets of this pruner differ in {odd}")
        if self._shadow is not None and state["shadow"].keys() != self._parameters.keys():
            raise CorruptFileError("regrow is on, but the saved state has no shadow values")
        self.step_count, self.sparsity = int(state["step"]), float(state["sparsity"])
        self.masks = bind(self._model, Masks(masks, self._targets))
        if self._shadow is not None:
            for name, value in self._shadow.values.items():
                value.copy_(state["shadow"][name])
            self._shadow.redraw(self.masks)
        self._hold.update(self.masks)

    def _advance(self) -> None:
        asked = self.schedule(self.step_count)
        if isinstance(self._choice.allocation, Mapping) and 0 < asked < self.schedule.final_sparsity:
            warnings.warn(
                "an allocation by name gives its sparsities whatever the schedule says; for one that rises with it "
                "take secateur.scaled(allocation, at=the final sparsity)",
                SecateurWarning,
                stacklevel=3,
            )
        # Without regrowth, masks at an unchanged sparsity would come out the same.
        if not self.schedule.due(self.step_count) or (asked == self.sparsity and self._shadow is None):
            return
        current = self._parameters if self._shadow is None else self._shadow.full()
        within = None if self._shadow is not None else self.masks
        drawn = self._choice(NamedTensors(current, self._targets), asked, within)
        if self._shadow is not None:
            self._shadow.redraw(drawn)
        self.masks = bind(self._model, drawn)
        self._hold.update(self.masks)
        self.sparsity = asked


def _check_window(scope: Scope, schedule: Schedule) -> None:
    """Refuse a ramp towards windows now, not at the first step where it is due."""
    if not isinstance(scope, Window):
        return
    for step in filter(schedule.due, range(schedule.end_step + 1)):
        asked = schedule(step)
        if asked and abs(asked - scope.sparsity) > 1e-9:
            raise SelectionError(
                f"{scope} means sparsity {scope.sparsity:g} from one step to the next, and the schedule asks for "
                f"{asked:g} at step {step}; take a OneShotSchedule or a ConstantSchedule of {scope.sparsity:g}"
            )
