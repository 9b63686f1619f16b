"""A convolution as the kernels are given it, and how it can be carried out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.layouts import Layout, Mapped, Target
from secateur.engine.placing.maps import Buffer, Maps
from secateur.pack.kept import Kept

__all__ = ["Buffers", "Convolution", "Tiling", "candidates", "usual_tiling"]

Array: TypeAlias = npt.NDArray[np.float32]
# Of the source, the target, the residual and scratch.
Buffers: TypeAlias = "tuple[Buffer, Buffer, Buffer | None, Buffer | None]"


_NEAR, _SHORTEST = 40_000, 10  # bytes; weights
# Winograd's filtering multiplies with zeros: below this density it is not tried, and without trying it is taken above.
_FILTERED, _SURELY = 0.25, 0.6
_MOST_SCRATCH = 4 << 20  # floats


@dataclass(frozen=True)
class Tiling:
    """How a convolution is carried out; it changes the speed, and the last digits.

    Attributes:
        rows: vectors down, of a tile that is held in registers.
        cols: vectors across.
        outputs: output channels at a time, 1, 2, 4 or 8; the zeros that only some of them have are multiplied too.
        block: input channels that are gone through before the next tile.
        winograd: whether all weights are multiplied with, by minimal filtering; the rest then does not count.
    """

    rows: int
    cols: int
    outputs: int
    block: int
    winograd: bool = False


@dataclass(frozen=True, eq=False)
class Convolution:
    """One convolution.

    Attributes:
        number: of the operator in the plan.
        source: layout of what it reads.
        target: layout of what it writes.
        residual: layout of what is added, if anything is.
        window: corner, stride, size and dilation, rows and columns of each.
        groups: of channels.
        weights: shape [outputs, inputs of a group x kernel height x kernel width], without zeros.
        bias: shape [outputs].
        activation: for the kernels.
        pooling: 0 for none; 1 and 2 write the greatest and the mean of each 2 x 2 instead.
    """

    number: int
    source: Layout
    target: Layout
    residual: Layout | None
    window: tuple[Any, Any, Any, Any]
    groups: int
    weights: Kept
    bias: Array
    activation: Any
    pooling: int = 0

    @property
    def count(self) -> int:
        """Number of weights that are not zero."""
        return len(self.weights.values)

    @property
    def density(self) -> float:
        """Share of the weights that are not zero."""
        return self.count / self.weights.size

    @property
    def inputs(self) -> int:
        """Input channels of a group."""
        height, width = self.window[2]
        return int(self.weights.shape[1] // (height * width))

    def flat(self, target: Target) -> bool:
        """Return whether rows are all alike and follow each other: one long row."""
        layouts = [self.source, self.target, *([self.residual] if self.residual is not None else [])]
        if self.window[1] != (1, 1) or self.window[2] != (1, 1) or self.pooling:
            return False
        return all(isinstance(each, Mapped) and not each.padded for each in layouts)

    def scratch(self, target: Target) -> int:
        """Return the floats that Winograd's filtering needs beside the maps; 0 where there is no use for it."""
        fits = self.window[1:] == ((1, 1), (3, 3), (1, 1)) and self.groups == 1 and not self.pooling
        if not fits or not isinstance(self.target, Mapped):
            return 0
        down, across = self.target.grid.pitch
        tiles = -(-down // 2) * -(-across // 2)
        floats = 16 * (self.inputs + 1) * tiles * target.lanes
        # Tiles of 2 x 2 that reach far beyond the block save nothing.
        worth = self.density >= _FILTERED and min(self.inputs, self.weights.shape[0]) >= 8
        return floats if worth and floats <= _MOST_SCRATCH and 16 * tiles < 7 * down * across else 0

    def add(self, to: Any, maps: Maps, buffers: Buffers, tiling: Tiling) -> None:
        """Add it to a program.

        Args:
            to: the program.
            maps: for its target.
            buffers: with their places.
            tiling: how it is to be carried out.
        """
        source, target, residual, scratch = buffers
        kernels, flat, (corner, stride, size, dilation) = maps.kernels, self.flat(maps.target), self.window
        if tiling.winograd and scratch is not None:
            to.filter(
                maps.whole(self.source, source),
                maps.inside(self.target, target),
                list(corner),
                self.sparse(kernels),
                self.bias,
                None if residual is None or self.residual is None else maps.inside(self.residual, residual),
                self.activation,
                maps.halo(self.target, target),
                kernels.Span(scratch.offset, scratch.size),
            )
            return
        part = maps.flat if flat else maps.inside
        to.convolve(
            maps.flat(self.source, source) if flat else maps.whole(self.source, source),
            part(self.target, target),
            kernels.Window(list(corner), list(stride), list(size), list(dilation)),
            self.groups,
            self.sparse(kernels),
            self.bias,
            None if residual is None or self.residual is None else part(self.residual, residual),
            self.activation,
            maps.halo(self.target, target),
            kernels.Tiling(tiling.rows, tiling.cols, tiling.outputs, tiling.block),
            self.pooling,
        )

    def sparse(self, kernels: Any) -> Any:
        """Return the weights that are not zero."""
        return kernels.Sparse(*self._rows)

    @cached_property
    def _rows(self) -> tuple[Any, Any, Any]:
        """Return where each row starts, and the column of each weight."""
        (rows, length), places = self.weights.shape, self.weights.places
        starts = np.searchsorted(places, np.arange(rows + 1) * length)
        columns = places - np.repeat(np.arange(rows) * length, np.diff(starts))
        return starts.astype(np.uint32), columns.astype(np.uint32), np.ascontiguousarray(self.weights.values)


def _tile(convolution: Convolution, target: Target) -> tuple[int, int]:
    """Return rows and columns of the sums, in vectors."""
    if convolution.flat(target):
        return 1, convolution.target.floats(target) // target.lanes // convolution.weights.shape[0]
    if not isinstance(convolution.target, Mapped):
        return 1, 1
    side = 2 if convolution.pooling else 1
    return side * convolution.target.grid.pitch[0], side * convolution.target.grid.pitch[1]


def usual_tiling(convolution: Convolution, target: Target) -> Tiling:
    """Return what does well as a rule, without measuring."""
    return _dense(convolution, target) if convolution.density > _SURELY else _sparse(convolution, target)


def _dense(convolution: Convolution, target: Target) -> Tiling:
    """Return a tiling for a convolution whose zeros do not matter."""
    (rows, cols), held = _tile(convolution, target), target.registers - 4
    winograd = convolution.density > _SURELY and convolution.scratch(target) > 0
    outputs = 8 if rows * cols <= 3 else 4
    return Tiling(1, max(1, min(cols, 8, held // outputs)), outputs, 64, winograd)


def _sparse(convolution: Convolution, target: Target) -> Tiling:
    rows, cols = _tile(convolution, target)
    cols = min(cols, 8)
    rows = min(rows, 4, max(1, 8 // cols))
    (_, stride, size, _), taps = convolution.window, convolution.weights.shape[1] // convolution.inputs
    seen = (rows * stride[0] + size[0] - 1) * (cols * stride[1] + size[1] - 1) * 4 * target.lanes
    # As many input channels as stay near at hand, but enough for lists that are worth beginning.
    block = max(_NEAR // seen, _SHORTEST / max(convolution.density * taps, 1e-9))
    return Tiling(rows, cols, 1, 1 << round(math.log2(min(max(block, 16), 1 << 20))))


def candidates(convolution: Convolution, target: Target) -> list[Tiling]:
    """Return what is worth a try: the usual first, then the likeliest."""
    (rows, cols), held = _tile(convolution, target), target.registers - 4
    usual, sparse, dense = usual_tiling(convolution, target), _sparse(convolution, target), _dense(convolution, target)
    likely = [usual]
    if convolution.scratch(target):
        likely.append(replace(dense, winograd=not usual.winograd))
    shapes = ((1, 8), (2, 8), (2, 4), (4, 4), (4, 2), (1, 4), (3, 7), (2, 7), (1, 7), (4, 1))
    tiles = {(min(rows, r), min(cols, c)) for r, c in shapes}
    blocks = sorted({min(convolution.inputs, block) for block in (16, 32, 64, 128, 512)})
    found = []
    if convolution.density < 0.7:
        found += [Tiling(r, c, 1, block) for r, c in sorted(tiles) for block in blocks if r * c <= held]
        # Near the usual block, large tiles first.
        found.sort(
            key=lambda each: (abs(math.log2(each.block / min(sparse.block, blocks[-1]))), -each.rows * each.cols)
        )
    if convolution.density > 0.2 and convolution.groups == 1:
        several = [
            Tiling(1, min(cols, max(1, held // outputs)), outputs, block)
            for outputs in (4, 8, 2)
            for block in blocks[-2:]
        ]
        found = several + found if convolution.density > _SURELY else [*found[:2], dense, *found[2:], *several]
    return list(dict.fromkeys(likely + found))
