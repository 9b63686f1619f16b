"""Which way of carrying a convolution out is the fastest here: found by trying."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from secateur.engine.layouts import Target
from secateur.engine.placing.convolving import Convolution, Tiling, candidates
from secateur.engine.placing.maps import Buffer, Maps
from secateur.vocabulary import CorruptFileError

__all__ = ["Tuned", "quickest", "tune"]

# A way is left as soon as it is so much slower than the best one known.
_HOPELESS = 1.3
# Seconds after which it is not run again: what takes long varies little.
_ENOUGH = 0.02


@dataclass(frozen=True)
class Tuned:
    """What was found to be fastest on a processor.

    Attributes:
        instructions: the instruction set that it was measured with, and is good for.
        batched_from: from how many samples on a vector of samples is faster than one after the other.
        single: how to carry convolutions out, by the number of the operator, where one sample is computed at a time.
        batched: the same where each lane is a sample.

    Example:
        >>> tuned = Tuned("avx2", 5, {0: Tiling(2, 4, 1, 64)})
        >>> Tuned.from_json(tuned.to_json()) == tuned
        True
    """

    instructions: str
    batched_from: int
    single: Mapping[int, Tiling] = field(default_factory=dict)
    batched: Mapping[int, Tiling] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as JSON."""
        tilings = {
            name: {str(number): list(astuple(tiling)) for number, tiling in each.items()}
            for name, each in (("single", self.single), ("batched", self.batched))
        }
        return json.dumps({"instructions": self.instructions, "batched_from": self.batched_from, **tilings})

    @staticmethod
    def from_json(text: str) -> Tuned:
        """Read what :meth:`to_json` wrote.

        Raises:
            CorruptFileError: it is something else.
        """
        try:
            whole = json.loads(text)
            if not isinstance(whole, dict) or whole.keys() != {"instructions", "batched_from", "single", "batched"}:
                raise ValueError("it has other parts")
            instructions, batched_from = whole["instructions"], whole["batched_from"]
            if type(instructions) is not str or type(batched_from) is not int or not 2 <= batched_from <= sys.maxsize:
                raise ValueError("it is for no number of samples")
            return Tuned(instructions, batched_from, _tilings(whole["single"]), _tilings(whole["batched"]))
        except (ValueError, RecursionError) as error:
            raise CorruptFileError(f"what was measured is damaged: {str(error)[:200]}") from error


def _tilings(given: Any) -> dict[int, Tiling]:
    if not isinstance(given, dict) or not all(isinstance(each, list) and len(each) == 5 for each in given.values()):
        raise ValueError("its tilings are no tilings")
    read = {int(number): Tiling(*each) for number, each in given.items()}
    for tiling in read.values():
        *sizes, winograd = astuple(tiling)
        if type(winograd) is not bool or not all(type(each) is int and 1 <= each < 1 << 31 for each in sizes):
            raise ValueError(f"there is no {str(tiling)[:100]}")
        if tiling.outputs not in (1, 2, 4, 8):
            raise ValueError(f"a tiling of {tiling.outputs} outputs; 1, 2, 4 or 8 can be computed at once")
    return read


def tune(
    convolutions: Iterable[Convolution], target: Target, kernels: Any, instructions: str = "", seconds: float = 0.05
) -> dict[int, Tiling]:
    """Return the fastest tiling of each convolution, by the number of its operator.

    Args:
        convolutions: of a plan that was laid out.
        target: what it was laid out for.
        kernels: the module of the kernels.
        instructions: the instruction set; the best there is if empty.
        seconds: that may be spent on each, about; twice that where one run takes long.
    """
    return {each.number: _fastest(each, Maps(kernels, target), instructions, seconds) for each in convolutions}


def _fastest(convolution: Convolution, maps: Maps, instructions: str, seconds: float) -> Tiling:
    choices = candidates(convolution, maps.target)
    best, least = choices[0], float("inf")
    until = time.perf_counter() + seconds
    for tiling in choices:
        took = quickest(_alone(convolution, maps, instructions, tiling), least)
        if took < least:
            best, least = tiling, took
        if time.perf_counter() > until:
            break
    return best


def _alone(convolution: Convolution, maps: Maps, instructions: str, tiling: Tiling) -> Callable[[], None]:
    """Return a program of the convolution alone."""
    layouts = (convolution.source, convolution.target, convolution.residual)
    sizes = [0 if layout is None else layout.floats(maps.target) for layout in layouts]
    buffers, end = list[Any](), 0
    for size in (*sizes, convolution.scratch(maps.target)):
        buffers.append(Buffer(size, 0, 0, offset=end) if size else None)
        end += size
    program = maps.kernels.Program(instructions, end, [], [], maps.target.batched)
    convolution.add(program, maps, (buffers[0], buffers[1], buffers[2], buffers[3]), tiling)
    return lambda: program.run([], [], 1)


def quickest(run: Callable[[], None], least: float = float("inf")) -> float:
    """Return the seconds of the fastest of a few runs.

    Fewer are made where they take long, or far longer than the least known.

    Example:
        >>> 0 < quickest(lambda: None) < 1
        True
    """
    run()
    took, began = float("inf"), time.perf_counter()
    for _ in range(5):
        before = time.perf_counter()
        run()
        now = time.perf_counter()
        took = min(took, now - before)
        if took > _HOPELESS * least or now - began > _ENOUGH:
            break
    return took
