"""Shadow values: what masked weights would be, so that they may return when masks are redrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Regrow", "Shadow"]


@dataclass(frozen=True)
class Regrow:
    """Let masked weights return when masks are redrawn.

    With ``learning_rate`` 0 a masked weight keeps the value it had (Zhu and Gupta 2017, arXiv 1710.01878, section 3).
    Above 0 its shadow value goes on learning by plain gradient descent at that rate, the gradient taken as if the
    weight were in use (Guo et al. 2016, "Dynamic Network Surgery", arXiv 1608.04493, eq. 4).

    Example:
        >>> Regrow()
        Regrow(learning_rate=0.0)
    """

    learning_rate: float = 0.0


class Shadow:
    """The shadow values of a set of parameters; zero where a weight is in use.

    Memory: one tensor of the weight's size and dtype for each target, only while regrowth is on.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], regrow: Regrow) -> None:
        self.values = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
        self._parameters = dict(parameters)
        self._regrow = regrow
        self.handles: list[torch.utils.hooks.RemovableHandle] = []
        self._removed: dict[str, Tensor] = {}

    @torch.no_grad()
    def full(self) -> dict[str, Tensor]:
        """Return the weights with every masked one at its shadow value."""
        return {name: p + self.values[name] for name, p in self._parameters.items()}

    @torch.no_grad()
    def redraw(self, masks: Mapping[str, Tensor]) -> None:
        """Bring back what ``masks`` keeps and store what it removes; call before the weights are zeroed."""
        for name, full in self.full().items():
            self._parameters[name].copy_(full)
            self.values[name].copy_(full.masked_fill_(masks[name], 0.0))
        self._learn(masks)

    def release(self) -> None:
        """Stop learning; the values stay."""
        while self.handles:
            self.handles.pop().remove()

    def _learn(self, masks: Mapping[str, Tensor]) -> None:
        """Update shadows at each backward pass, by the gradient of a weight before it is masked."""
        self.release()
        if not self._regrow.learning_rate:
            return
        for name, parameter in self._parameters.items():
            self._removed[name] = ~masks[name]
            if parameter.requires_grad:
                self.handles.append(parameter.register_hook(self._step(name)))

    def _step(self, name: str):  # type: ignore[no-untyped-def]
        def step(gradient: Tensor) -> None:
            # A gradient that overflowed (the first ones under a GradScaler do) teaches nothing.
            usable = self._removed[name] & gradient.isfinite()
            self.values[name].sub_(gradient.where(usable, 0), alpha=self._regrow.learning_rate)

        return step
