"""Layouts and buffers as the kernels are told of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.layouts import Layout, Plain, Target

__all__ = ["Buffer", "Floats", "Kernels", "Maps"]

Floats: TypeAlias = npt.NDArray[np.float32]
Kernels: TypeAlias = Any  # the module of the kernels, which has no stubs


@dataclass
class Buffer:
    """Floats of the arena, and the steps between which they are needed."""

    size: int
    first: int
    last: int
    constant: Floats | None = None
    offset: int = -1


@dataclass(frozen=True)
class Maps:
    """Makes maps for a target."""

    kernels: Kernels
    target: Target

    def flat(self, layout: Layout, buffer: Buffer) -> Any:
        """Return a map of all vectors of a value, all of a channel in one row."""
        if isinstance(layout, Plain):
            return self.line(layout, buffer)
        vectors, channel = layout.grid.vectors, layout.channel(self.target)
        return self.kernels.Map(buffer.offset, layout.channels, channel, 1, channel, vectors)

    def whole(self, layout: Layout, buffer: Buffer) -> Any:
        """Return a map of all vectors of a value, with its halo."""
        if isinstance(layout, Plain):
            return self.line(layout, buffer)
        grid, lanes = layout.grid, self.target.lanes
        channel, row = layout.channel(self.target), grid.cols * lanes
        return self.kernels.Map(buffer.offset, layout.channels, channel, grid.rows, row, grid.cols)

    def inside(self, layout: Layout, buffer: Buffer) -> Any:
        """Return a map of the vectors of a value without its halo."""
        if isinstance(layout, Plain):
            return self.line(layout, buffer)
        grid, lanes = layout.grid, self.target.lanes
        channel, row = layout.channel(self.target), grid.cols * lanes
        offset = buffer.offset + grid.first * lanes
        return self.kernels.Map(offset, layout.channels, channel, grid.pitch[0], row, grid.pitch[1])

    def line(self, layout: Plain, buffer: Buffer) -> Any:
        """Return a map of plain numbers: vectors in a row, or a channel each where lanes are samples."""
        lanes = self.target.lanes
        if self.target.batched:
            return self.kernels.Map(buffer.offset, layout.size, lanes, 1, lanes, 1)
        vectors = -(-layout.size // lanes)
        return self.kernels.Map(buffer.offset, 1, vectors * lanes, 1, vectors * lanes, vectors)

    def halo(self, layout: Layout, buffer: Buffer) -> Any:
        """Return what is to be written around a value, once it was computed."""
        if isinstance(layout, Plain) or not layout.padded:
            nothing = np.zeros(0, np.uint32), np.zeros(0, np.int32)
            return self.kernels.Halo(0, *nothing, 0.0)
        fills, permutations = layout.grid.halo()
        if self.target.batched:
            permutations = np.where(permutations >= 0, np.arange(self.target.lanes), -1)
        return self.kernels.Halo(
            buffer.offset,
            np.ascontiguousarray(fills.reshape(-1), np.uint32),
            np.ascontiguousarray(permutations.reshape(-1), np.int32),
            layout.outside,
        )
