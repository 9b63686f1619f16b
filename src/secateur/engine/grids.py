"""How an image lies in vectors: cut into a grid of blocks, one for each lane, with a halo around each block.

A vector holds one pixel of every block, the same place in each. The neighbours of these pixels then lie together in a
neighbouring vector, whatever the lane, and a convolution reads whole aligned vectors with any stride. What a block
needs of its neighbours is kept around it, the halo; it is written again whenever the value is.

Where every lane is a sample of its own there is one block, the image, and its halo is what lies outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Edges", "Grid", "natural_grid"]

Integers: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Edges:
    """How many vectors lie before and after a block, along the rows and along the columns."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def with_(self, other: Edges) -> Edges:
        """Return edges wide enough for both."""
        pairs = zip(
            (self.top, self.bottom, self.left, self.right),
            (other.top, other.bottom, other.left, other.right),
            strict=True,
        )
        return Edges(*(max(pair) for pair in pairs))


@dataclass(frozen=True)
class Grid:
    """An image of ``size`` pixels in ``across[0]`` x ``across[1]`` blocks, a lane each, of ``pitch`` pixels.

    Attributes:
        size: height and width of the image, pixels.
        across: blocks down and across; their product is the number of lanes, or 1 where lanes are samples.
        pitch: height and width of a block, pixels; blocks may reach beyond the image.
        edges: the halo.

    Example:
        >>> Grid((32, 32), (4, 4), (8, 8), Edges(1, 1, 1, 1)).vectors
        100
    """

    size: tuple[int, int]
    across: tuple[int, int]
    pitch: tuple[int, int]
    edges: Edges = Edges()

    @property
    def rows(self) -> int:
        """Rows of vectors with the halo."""
        return self.pitch[0] + self.edges.top + self.edges.bottom

    @property
    def cols(self) -> int:
        """Vectors of a row with the halo."""
        return self.pitch[1] + self.edges.left + self.edges.right

    @property
    def vectors(self) -> int:
        """Vectors of a channel."""
        return self.rows * self.cols

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.across[0] * self.across[1]

    @property
    def first(self) -> int:
        """Number of the block's first vector."""
        return self.edges.top * self.cols + self.edges.left

    @property
    def exact(self) -> bool:
        """Whether no block reaches beyond the image."""
        return all(a * p == s for a, p, s in zip(self.across, self.pitch, self.size, strict=True))

    def with_edges(self, edges: Edges) -> Grid:
        """Return the same grid with another halo."""
        return replace(self, edges=edges)

    def same_blocks(self, other: Grid) -> bool:
        """Return whether the blocks are the same, whatever the halos."""
        return (self.size, self.across, self.pitch) == (other.size, other.across, other.pitch)

    @cached_property
    def pixels(self) -> Integers:
        """The pixel of every slot, counted by rows, -1 outside the image; shape [rows, cols, blocks]."""
        down, right = self._places(0), self._places(1)
        inside = (down >= 0)[:, None, :, None] & (right >= 0)[None, :, None, :]
        pixel = down[:, None, :, None] * self.size[1] + right[None, :, None, :]
        found: Integers = np.where(inside, pixel, -1).reshape(self.rows, self.cols, self.blocks)
        return found

    @cached_property
    def homes(self) -> Integers:
        """The slot, among those of a channel, at which every pixel is computed; shape [pixels]."""
        y, x = np.divmod(np.arange(self.size[0] * self.size[1]), self.size[1])
        row, col = y % self.pitch[0] + self.edges.top, x % self.pitch[1] + self.edges.left
        lane = y // self.pitch[0] * self.across[1] + x // self.pitch[1]
        slots: Integers = (row * self.cols + col) * self.blocks + lane
        return slots

    def halo(self) -> tuple[Integers, Integers]:
        """Return what makes the halo, and zeros where blocks reach beyond the image, from the blocks.

        Returns:
            Triples [n, 3] of the vector that is written, the vector it is made from and a number of a permutation; and
            the permutations [m, blocks]: the lane that each lane is taken from, or -1.
        """
        lanes = np.where(self.pixels >= 0, self.homes[self.pixels] % self.blocks, -1)
        row, col = np.indices((self.rows, self.cols))
        down, right = row - self.edges.top, col - self.edges.left
        own = (down >= 0) & (down < self.pitch[0]) & (right >= 0) & (right < self.pitch[1])
        (numbers,) = np.nonzero(~(own & (lanes.min(-1) >= 0)).reshape(-1))
        home = (down % self.pitch[0] + self.edges.top) * self.cols + right % self.pitch[1] + self.edges.left
        if not len(numbers):
            return np.zeros((0, 3), np.uint32), np.zeros((0, self.blocks), np.int32)
        permutations, which = np.unique(lanes.reshape(-1, self.blocks)[numbers], axis=0, return_inverse=True)
        fills = np.stack([numbers, home.reshape(-1)[numbers], which.reshape(-1)], 1)
        return fills.astype(np.uint32), permutations.astype(np.int32)

    def _places(self, axis: int) -> Integers:
        """Return the row (or column) of the image for each vector and block along an axis, -1 outside."""
        before = self.edges.top if axis == 0 else self.edges.left
        length = self.rows if axis == 0 else self.cols
        place = np.arange(length)[:, None] - before + np.arange(self.across[axis])[None, :] * self.pitch[axis]
        return np.where((place >= 0) & (place < self.size[axis]), place, -1)


def natural_grid(size: tuple[int, int], lanes: int) -> Grid:
    """Return the grid that wastes the fewest lanes; of these, the one whose blocks are nearest to squares, and wide.

    Args:
        size: height and width of the image.
        lanes: blocks, a power of two.

    Example:
        >>> natural_grid((28, 28), 16).pitch
        (7, 7)
    """
    choices = []
    for power in range(lanes.bit_length()):
        down = 1 << power
        across = (down, lanes // down)
        pitch = (-(-size[0] // across[0]), -(-size[1] // across[1]))
        choices.append((pitch[0] * pitch[1], sum(pitch), pitch[0], Grid(size, across, pitch)))
    return min(choices, key=lambda choice: choice[:3])[3]
