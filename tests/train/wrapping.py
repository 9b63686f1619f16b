"""An optimizer around another, which moves weights when that one has stepped."""

from __future__ import annotations

import torch
from torch import Tensor


class Lookahead(torch.optim.Optimizer):
    """Every second step, weights go halfway to where they were; the values behind are its own state."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        super().__init__(optimizer.param_groups, {})
        self.steps = 0
        for parameter in self.parameters():
            self.state[parameter] = {"slow": parameter.detach().clone()}

    def parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[no-untyped-def,override]
        self.optimizer.step(closure)
        self.steps += 1
        if self.steps % 2 == 0:
            for parameter in self.parameters():
                slow = self.state[parameter]["slow"]
                parameter.copy_(slow.lerp_(parameter, 0.5))
