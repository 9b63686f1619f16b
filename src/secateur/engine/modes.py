"""A plan as a program of the kernels, for one target and instruction set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secateur.engine.layouts import Target
from secateur.engine.placing import Placed, place
from secateur.engine.placing.convolving import Tiling
from secateur.engine.plan import Plan
from secateur.engine.tuning import quickest, tune
from secateur.native import load as kernels

__all__ = ["Mode"]


class Mode:
    """A plan made into a program for one target.

    Attributes:
        tilings: how convolutions are carried out, by the number of the operator.
        placed: the plan laid out.
        program: of the kernels.
    """

    def __init__(
        self,
        plan: Plan,
        target: Target,
        instructions: str,
        tilings: Mapping[int, Tiling],
        max_bytes: int | None = None,
    ) -> None:
        self.tilings = dict(tilings)
        self.placed: Placed = place(plan, target, kernels(), self.tilings, max_bytes)
        self.instructions = instructions
        self.program = self.placed.program(kernels(), instructions)

    def tune(self) -> None:
        """Choose how each convolution is carried out, by measuring."""
        self.tilings.update(tune(self.placed.convolutions, self.placed.target, kernels(), self.instructions))
        self.program = self.placed.program(kernels(), self.instructions)

    def seconds(self, samples: int) -> float:
        """Return how long so many samples take, at best of a few runs."""
        inputs = [np.zeros(samples * size, np.float32) for size in self.placed.inputs]
        outputs = [np.empty(samples * size, np.float32) for size in self.placed.outputs]
        return quickest(lambda: self.program.run(inputs, outputs, samples, 1))
