"""Which way of carrying a convolution out is the fastest here: found by trying."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from secateur.engine.layouts import Target
from secateur.engine.placing.convolving import Convolution, Tiling, candidates
from secateur.engine.placing.maps import Buffer, Maps

__all__ = ["tune"]

# A way is left as soon as it is so much slower than the best one known.
_HOPELESS = 1.3


def tune(
    convolutions: Iterable[Convolution], target: Target, kernels: Any, instructions: str = "", seconds: float = 0.02
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
        took = _time(_alone(convolution, maps, instructions, tiling), least)
        if took < least:
            best, least = tiling, took
        if time.perf_counter() > until:
            break
    return best


def _alone(convolution: Convolution, maps: Maps, instructions: str, tiling: Tiling) -> Callable[[], None]:
    """Return a program of the convolution alone."""
    layouts = (convolution.source, convolution.target, convolution.residual)
    buffers, end = list[Any](), 0
    for layout in layouts:
        size = layout.floats(maps.target) if layout is not None else 0
        buffers.append(None if layout is None else Buffer(size, 0, 0, offset=end))
        end += size
    program = maps.kernels.Program(instructions, end, [], [], maps.target.batched)
    convolution.add(program, maps, (buffers[0], buffers[1], buffers[2]), tiling)
    return lambda: program.run([], [], 1)


def _time(run: Callable[[], None], least: float) -> float:
    run()
    took = float("inf")
    for _ in range(5):
        before = time.perf_counter()
        run()
        took = min(took, time.perf_counter() - before)
        if took > _HOPELESS * least:
            break
    return took
