"""Runtimes on the same inputs: compared with float64 first, then timed in turns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from secateur.lab.runtimes import Ready, Runner, Runtime, reason
from secateur.lab.threads import torch_at
from secateur.lab.timing import Pace, Quartiles, Times, in_turns, times_faster

__all__ = ["TOLERANCE", "Contestant", "Entry", "Lineup", "Row", "hold", "line_up", "relative_error"]

# Outputs in float64, or why they are not known.
Wanted: TypeAlias = "npt.NDArray[Any] | str"

# Whoever is further from float64, as a share of the largest output, computes something else and is not timed.
TOLERANCE = 1e-3
# Seconds until the threads that a library keeps have stopped spinning and sleep.
_REST = 0.02


@dataclass(frozen=True)
class Entry:
    """A network and what is to run it, under the name that tables show."""

    name: str
    runtime: Runtime
    model: nn.Module


@dataclass(frozen=True)
class Contestant:
    """A runtime that is ready; its outputs are compared with those of ``model``, if it is given, in float64."""

    name: str
    ready: Ready
    model: nn.Module | None


@dataclass(frozen=True)
class Lineup:
    """Who takes part, in order, and who does not and why; the first is what the others are compared with."""

    contestants: tuple[Contestant, ...]
    absent: Mapping[str, str]

    @property
    def notes(self) -> list[str]:
        """What a reader must know of how networks run."""
        return [f"{each.name}: {each.ready.note}" for each in self.contestants if each.ready.note]


@dataclass(frozen=True)
class Row:
    """One runtime with one number of threads and one batch.

    Attributes:
        name: of the contestant.
        threads: it computes on.
        batch: inputs in a call.
        error: largest difference from torch in float64, as a share of the largest output; None if there was nothing
            to compare with.
        ms: quartiles of a call in milliseconds; None if it was not timed.
        turns: median of each turn in milliseconds.
        ratio: how many times faster than the first contestant it is, quartiles over the turns.
        calls: that count.
        note: why it was not timed, or not compared.
    """

    name: str
    threads: int
    batch: int
    error: float | None = None
    ms: Quartiles | None = None
    turns: tuple[float, ...] = ()
    ratio: Quartiles | None = None
    calls: int = 0
    note: str = ""

    @property
    def gain(self) -> bool:
        """Whether it is faster than the first in three turns of four at least.

        Example:
            >>> Row("b", 1, 1, ratio=(1.1, 1.2, 1.3)).gain, Row("b", 1, 1, ratio=(0.9, 1.2, 1.3)).gain
            (True, False)
        """
        return self.ratio is not None and self.ratio[0] > 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields and whether it is a gain."""
        lists = {key: value and list(value) for key, value in (("ms", self.ms), ("ratio", self.ratio))}
        lists["turns"] = list(self.turns)
        return dataclasses.asdict(self) | lists | {"gain": self.gain}


def line_up(entries: Sequence[Entry], example: Tensor) -> Lineup:
    """Prepare every runtime for its network; one that fails stays away.

    Args:
        entries: in eval mode.
        example: inputs, batch first.
    """
    contestants, absent = [], {}
    for entry in entries:
        try:
            contestants.append(Contestant(entry.name, entry.runtime.prepare(entry.model, example), entry.model))
        except Exception as error:  # every library has its own; none may end the contest
            absent[entry.name] = reason(error)
    return Lineup(tuple(contestants), absent)


def hold(lineup: Lineup, inputs: Tensor, threads: int, pace: Pace = Pace()) -> list[Row]:  # noqa: B008
    """Compare outputs, then time everyone whose outputs are right, in turns; return a row for each.

    Args:
        lineup: who takes part.
        inputs: for all of them, batch first.
        threads: each computes on.
        pace: how long to time.
    """
    wanted = _references(lineup.contestants, inputs)
    if threads > 1:
        pace = dataclasses.replace(pace, pause=_REST)
    with torch_at(threads), torch.inference_mode():
        pairs = [_started(each, inputs, threads, wanted[id(each.model)]) for each in lineup.contestants]
        running = [runner for runner, _ in pairs if runner is not None]
        times = iter(in_turns([runner.block for runner in running], pace))
    taken = [None if runner is None else next(times) for runner, _ in pairs]
    return [_timed(row, time, taken[0]) for (_, row), time in zip(pairs, taken, strict=True)]


def _started(each: Contestant, inputs: Tensor, threads: int, wanted: Wanted) -> tuple[Runner | None, Row]:
    """Return a runner whose output was compared, and what is known of it; no runner if it fails or is wrong."""
    row = Row(each.name, threads, len(inputs))
    try:
        runner = each.ready.start(inputs, threads)
        output = runner.output()
    except Exception as failure:  # as above
        return None, dataclasses.replace(row, note=reason(failure))
    if not isinstance(wanted, np.ndarray):
        return runner, dataclasses.replace(row, note=wanted)
    error = relative_error(output, wanted)
    if not error <= TOLERANCE:
        return None, dataclasses.replace(row, error=error, note="its outputs are wrong")
    return runner, dataclasses.replace(row, error=error)


def _timed(row: Row, time: Times | None, first: Times | None) -> Row:
    if time is None:
        return row
    low, median, high = (1e3 * seconds for seconds in time.quartiles())
    turns = tuple(1e3 * seconds for seconds in time.medians())
    ratio = None if first is None else times_faster(time.medians(), first.medians())
    return dataclasses.replace(row, ms=(low, median, high), turns=turns, ratio=ratio, calls=time.calls)


def _references(contestants: Sequence[Contestant], inputs: Tensor) -> dict[int, Wanted]:
    """Return what each of the networks gives in float64, by its identity, or why that is not known."""
    wanted: dict[int, Wanted] = {id(None): ""}
    for each in contestants:
        if each.model is not None and id(each.model) not in wanted:
            try:
                wanted[id(each.model)] = _in_float64(each.model, inputs)
            except Exception as error:  # a network may insist on float32 anywhere in its code
                wanted[id(each.model)] = f"compared with nothing: in float64 {reason(error)}"
    return wanted


def _in_float64(model: nn.Module, inputs: Tensor) -> npt.NDArray[Any]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            found: npt.NDArray[Any] = copy.deepcopy(model).double().eval()(inputs.double()).numpy()
            return found
    finally:
        torch.set_default_dtype(before)


def relative_error(found: Any, wanted: npt.NDArray[Any]) -> float:
    """Return the largest difference of an output from another, as a share of the largest number wanted.

    Another shape, or a number that is not finite, is as far as can be.

    Example:
        >>> relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0])), relative_error(np.zeros(3), np.zeros(2))
        (0.25, inf)
    """
    found = np.asarray(found, np.float64)
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    return float(np.abs(found - wanted).max(initial=0.0)) / scale
