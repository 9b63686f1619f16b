"""Schedules: pure functions from optimizer step to sparsity.

Every schedule is a frozen dataclass. Called with a step (0 = before the first update) it returns the sparsity in
force, a step function that changes only at the steps for which ``due`` is true.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Protocol

from secateur.vocabulary import SelectionError

__all__ = [
    "ChainSchedule",
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "LinearSchedule",
    "OneShotSchedule",
    "PolynomialSchedule",
    "RoundsSchedule",
    "Schedule",
    "geometric_rounds",
]


class Schedule(Protocol):
    """What the Pruner needs of a schedule."""

    @property
    def final_sparsity(self) -> float:
        """The sparsity at the end."""

    @property
    def end_step(self) -> int:
        """The step at which the final sparsity is reached."""

    def __call__(self, step: int) -> float:
        """Return the sparsity in force at ``step``, in [0, 1]."""

    def due(self, step: int) -> bool:
        """Return whether masks are drawn anew at ``step``."""


def _check(final: float, initial: float, begin: int, end: int, frequency: int) -> None:
    for name, value in (("initial_sparsity", initial), ("final_sparsity", final)):
        if not 0 <= value <= 1:
            raise SelectionError(f"{name} is a share between 0 and 1, got {value}")
    if not 0 <= begin <= end:
        raise SelectionError(f"a schedule needs 0 <= begin_step <= end_step, got {begin} and {end}")
    if frequency < 1:
        raise SelectionError(f"frequency is a number of steps of at least 1, got {frequency}")


def _due(step: int, begin: int, end: int, frequency: int) -> bool:
    # The end is always due: the final sparsity is reached whatever the frequency.
    return begin <= step <= end and ((step - begin) % frequency == 0 or step == end)


class _Ramp:
    """What schedules that rise from one sparsity to another share; each adds its curve."""

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    frequency: int

    def __post_init__(self) -> None:
        _check(self.final_sparsity, self.initial_sparsity, self.begin_step, self.end_step, self.frequency)

    def __call__(self, step: int) -> float:
        """Return the sparsity in force at ``step``."""
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return self.final_sparsity
        last = (step - self.begin_step) // self.frequency * self.frequency
        low, high = sorted((self.initial_sparsity, self.final_sparsity))
        # Rounding may carry a curve past its ends by a hair, and one hair can be one weight.
        curve = self._curve(last / (self.end_step - self.begin_step)) if last else self.initial_sparsity
        return min(max(curve, low), high)

    def due(self, step: int) -> bool:
        """Return whether masks are drawn at ``step``."""
        return _due(step, self.begin_step, self.end_step, self.frequency)

    def _curve(self, progress: float) -> float:
        """Return the sparsity at a progress between 0 and 1."""
        raise TypeError(f"{type(self).__name__} has no curve")


@dataclass(frozen=True)
class OneShotSchedule:
    """The whole sparsity at one step.

    Example:
        >>> schedule = OneShotSchedule(0.9, step=10)
        >>> schedule(9), schedule(10)
        (0.0, 0.9)
    """

    final_sparsity: float
    step: int = 0

    def __post_init__(self) -> None:
        _check(self.final_sparsity, 0.0, self.step, self.step, 1)

    @property
    def end_step(self) -> int:
        """The one step."""
        return self.step

    def __call__(self, step: int) -> float:
        """Return the sparsity in force at ``step``."""
        return self.final_sparsity if step >= self.step else 0.0

    def due(self, step: int) -> bool:
        """Return whether masks are drawn at ``step``."""
        return step == self.step


@dataclass(frozen=True)
class ConstantSchedule:
    """One sparsity from ``begin_step``, masks redrawn every ``frequency`` steps until ``end_step``.

    Redrawing changes masks only with regrowth. The parameters are those of tfmot's ConstantSparsity.

    Example:
        >>> ConstantSchedule(0.5, begin_step=100)(100)
        0.5
    """

    final_sparsity: float
    begin_step: int = 0
    end_step: int = 0
    frequency: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "end_step", max(self.begin_step, self.end_step))
        _check(self.final_sparsity, 0.0, self.begin_step, self.end_step, self.frequency)

    def __call__(self, step: int) -> float:
        """Return the sparsity in force at ``step``."""
        return self.final_sparsity if step >= self.begin_step else 0.0

    def due(self, step: int) -> bool:
        """Return whether masks are drawn at ``step``."""
        return _due(step, self.begin_step, self.end_step, self.frequency)


@dataclass(frozen=True)
class PolynomialSchedule(_Ramp):
    """From initial to final sparsity along ``1 - (1 - t) ** power``: fast at first, slow at the end.

    Source: Zhu and Gupta 2017, "To prune, or not to prune" (arXiv 1710.01878), eq. 1; the parameters are those of
    tfmot's PolynomialDecay.

    Raises:
        SelectionError: a power that is not above 0.

    Example:
        >>> schedule = PolynomialSchedule(0.5, 0.8, begin_step=0, end_step=400, frequency=100)
        >>> [round(schedule(step), 4) for step in (0, 99, 100, 200, 400, 999)]
        [0.5, 0.5, 0.6734, 0.7625, 0.8, 0.8]
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float = 3
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.power > 0:
            raise SelectionError(f"power is a number above 0, got {self.power}")

    def _curve(self, progress: float) -> float:
        first, last = self.initial_sparsity, self.final_sparsity
        return last + (first - last) * float((1 - progress) ** self.power)


@dataclass(frozen=True)
class LinearSchedule(_Ramp):
    """From initial to final sparsity in a straight line.

    Example:
        >>> LinearSchedule(0.0, 0.8, begin_step=0, end_step=4, frequency=1)(2)
        0.4
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    frequency: int = 100

    def _curve(self, progress: float) -> float:
        return self.initial_sparsity + (self.final_sparsity - self.initial_sparsity) * progress


@dataclass(frozen=True)
class CosineSchedule(_Ramp):
    """From initial to final sparsity along half a cosine: slow, fast, slow.

    Example:
        >>> round(CosineSchedule(0.0, 0.8, begin_step=0, end_step=4, frequency=1)(2), 6)
        0.4
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    frequency: int = 100

    def _curve(self, progress: float) -> float:
        first, last = self.initial_sparsity, self.final_sparsity
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class ExponentialSchedule(_Ramp):
    """Density falls by the same factor at every update, from ``1 - initial`` to ``1 - final``.

    Raises:
        SelectionError: a sparsity of 1, whose density no factor reaches.

    Example:
        >>> round(ExponentialSchedule(0.0, 0.99, begin_step=0, end_step=2, frequency=1)(1), 6)
        0.9
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.initial_sparsity, self.final_sparsity) >= 1:
            raise SelectionError("an exponential schedule never reaches sparsity 1; end below it")

    def _curve(self, progress: float) -> float:
        first, last = 1 - self.initial_sparsity, 1 - self.final_sparsity
        return 1 - first * float((last / first) ** progress)


@dataclass(frozen=True)
class ChainSchedule:
    """One schedule after another: each is in force from where the one before it ended and it is due itself.

    Raises:
        SelectionError: there is none, or they are not in order.

    Example:
        >>> rise = LinearSchedule(0.0, 0.8, begin_step=0, end_step=4, frequency=1)
        >>> schedule = ChainSchedule((rise, ConstantSchedule(0.8, begin_step=4, end_step=8, frequency=2)))
        >>> [step for step in range(10) if schedule.due(step)], schedule(2), schedule.end_step
        ([0, 1, 2, 3, 4, 6, 8], 0.4, 8)
    """

    parts: tuple[Schedule, ...]
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = [part.end_step for part in self.parts]
        if not ends or ends != sorted(ends):
            raise SelectionError(f"a chain needs schedules that end one after the other, got ends at {ends}")
        # Of every part the first step at which it draws masks by itself: until then the one before holds.
        starts = [0]
        for before, part in itertools.pairwise(self.parts):
            own = range(before.end_step + 1, part.end_step)
            starts.append(next((step for step in own if part.due(step)), part.end_step))
        object.__setattr__(self, "_starts", tuple(starts))

    @property
    def final_sparsity(self) -> float:
        """That of the last part."""
        return self.parts[-1].final_sparsity

    @property
    def end_step(self) -> int:
        """That of the last part."""
        return self.parts[-1].end_step

    def __call__(self, step: int) -> float:
        """Return the sparsity in force at ``step``."""
        number = self._number(step)
        if step < self._starts[number]:
            return self.parts[number - 1].final_sparsity
        return self.parts[number](step)

    def due(self, step: int) -> bool:
        """Return whether masks are drawn at ``step``."""
        return self.parts[self._number(step)].due(step)

    def _number(self, step: int) -> int:
        """Return which part is in force; where several end at once, the last of them at that step."""
        ends = [part.end_step for part in self.parts]
        if step in ends:
            return len(ends) - 1 - ends[::-1].index(step)
        return next((number for number, end in enumerate(ends) if step < end), len(ends) - 1)


@dataclass(frozen=True)
class RoundsSchedule:
    """Iterative pruning: ``rounds`` prune-retrain cycles of ``steps_per_round`` steps, each removing the same share.

    Source: Frankle and Carbin 2019, "The Lottery Ticket Hypothesis" (arXiv 1803.03635), section 1.

    Example:
        >>> schedule = RoundsSchedule(0.75, rounds=2, steps_per_round=100)
        >>> schedule(0), schedule(99), schedule(100)
        (0.5, 0.5, 0.75)
    """

    final_sparsity: float
    rounds: int
    steps_per_round: int
    begin_step: int = 0

    def __post_init__(self) -> None:
        _check(self.final_sparsity, 0.0, self.begin_step, self.begin_step, self.steps_per_round)
        geometric_rounds(self.final_sparsity, self.rounds)

    @property
    def end_step(self) -> int:
        """The step of the last cut."""
        return self.begin_step + (self.rounds - 1) * self.steps_per_round

    def __call__(self, step: int) -> float:
        """Return the sparsity in force at ``step``."""
        if step < self.begin_step:
            return 0.0
        done = min(self.rounds - 1, (step - self.begin_step) // self.steps_per_round)
        return geometric_rounds(self.final_sparsity, self.rounds)[done]

    def due(self, step: int) -> bool:
        """Return whether masks are drawn at ``step``."""
        return _due(step, self.begin_step, self.end_step, self.steps_per_round)


def geometric_rounds(final_sparsity: float, rounds: int) -> list[float]:
    """Return the sparsity after each round when every round removes the same share of what is left.

    Raises:
        SelectionError: fewer than 1 round, or a final sparsity outside [0, 1).

    Example:
        >>> [round(s, 3) for s in geometric_rounds(0.9, 3)]
        [0.536, 0.785, 0.9]
    """
    if rounds < 1:
        raise SelectionError(f"rounds is a number of at least 1, got {rounds}")
    if not 0 <= final_sparsity < 1:
        raise SelectionError(f"a share of what is left never reaches sparsity {final_sparsity}; give one in [0, 1)")
    return [*(1 - (1 - final_sparsity) ** (i / rounds) for i in range(1, rounds)), final_sparsity]
