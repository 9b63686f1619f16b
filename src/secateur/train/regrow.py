"""Shadow values: what masked weights would be, so that they may return when masks are redrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.train.stepping import loss_scale, overflowed

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
            self._removed[name] = ~masks[name]

    @property
    def learns(self) -> bool:
        """Whether shadow values go on learning."""
        return self._regrow.learning_rate > 0

    @torch.no_grad()
    def learn(self, optimizer: Optimizer) -> None:
        """Move the shadows by the gradients as the optimizer is about to use them, not masked yet.

        By then they are those of all processes, and a GradScaler's scale is gone or known.
        """
        if overflowed(optimizer):
            return
        rate = self._regrow.learning_rate / loss_scale(optimizer)
        for name, parameter in self._parameters.items():
            gradient = parameter.grad
            if gradient is None or name not in self._removed:
                continue
            gradient = gradient.to_dense() if gradient.is_sparse else gradient
            # A gradient that overflowed teaches nothing.
            usable = self._removed[name] & gradient.isfinite()
            self.values[name].sub_(gradient.where(usable, 0) * rate)
