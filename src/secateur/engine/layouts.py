"""How values lie in the arena: as maps of vectors, or number after number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.grids import Grid, natural_grid

__all__ = ["Layout", "Mapped", "Plain", "Target", "elements", "natural", "positions", "slots", "table"]

Integers: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Target:
    """What a program is made for.

    Attributes:
        lanes: floats of a vector.
        batched: whether each lane is a sample of its own; else a pass computes one sample.
    """

    lanes: int
    batched: bool

    @property
    def registers(self) -> int:
        """Vectors that the processor holds at once, at least."""
        return 32 if self.lanes == 16 else 16

    def grid(self, size: tuple[int, int]) -> Grid:
        """Return the grid for an image that nothing else is asked of."""
        return Grid(size, (1, 1), size) if self.batched else natural_grid(size, self.lanes)


@dataclass(frozen=True)
class Plain:
    """Numbers in the order of the value's elements: floats, or vectors where lanes are samples.

    Attributes:
        size: elements.
    """

    size: int

    def floats(self, target: Target) -> int:
        """Return how many floats it takes, whole vectors."""
        width = target.lanes if target.batched else 1
        return -(-self.size * width // target.lanes) * target.lanes


@dataclass(frozen=True)
class Mapped:
    """Channels of an image each.

    Attributes:
        channels: number of them.
        grid: how each lies in vectors.
        last: whether channels are the value's last axis; else they are its first.
        outside: what the halo holds outside the image.
    """

    channels: int
    grid: Grid
    last: bool = False
    outside: float = 0.0

    def floats(self, target: Target) -> int:
        """Return how many floats it takes."""
        return self.channels * self.channel(target)

    def channel(self, target: Target) -> int:
        """Return the floats of a channel."""
        return self.grid.vectors * target.lanes

    def same_blocks(self, other: Layout) -> bool:
        """Return whether the two differ by their halos at most."""
        return (
            isinstance(other, Mapped)
            and (self.channels, self.last) == (other.channels, other.last)
            and self.grid.same_blocks(other.grid)
        )

    def serves(self, other: Layout) -> bool:
        """Return whether who asked for the other layout can read this one."""
        if not isinstance(other, Mapped) or not self.same_blocks(other):
            return False
        wide = self.grid.edges.with_(other.grid.edges) == self.grid.edges
        return wide and (self.outside == other.outside or not other.padded)

    @property
    def padded(self) -> bool:
        """Whether anything but the image is ever looked at."""
        return self.grid.vectors > self.grid.pitch[0] * self.grid.pitch[1]

    def bare(self) -> Mapped:
        """Return the layout without its halo."""
        return replace(self, grid=Grid(self.grid.size, self.grid.across, self.grid.pitch), outside=0.0)


Layout: TypeAlias = "Mapped | Plain"


def positions(shape: tuple[int, ...], last: bool) -> tuple[int, int]:
    """Return height and width of the image of each channel.

    Example:
        >>> positions((64, 8, 9), last=False), positions((17, 64), last=True)
        ((8, 9), (1, 17))
    """
    axes = shape[:-1] if last else shape[1:]
    return (1, math.prod(axes)) if len(axes) != 2 else (axes[0], axes[1])


def natural(shape: tuple[int, ...], target: Target, last: bool = False) -> Layout:
    """Return the layout for a value that nothing else is asked of: a map if it has positions."""
    if len(shape) < 2 or math.prod(positions(shape, last)) == 1:
        return Plain(math.prod(shape))
    return Mapped(shape[-1] if last else shape[0], target.grid(positions(shape, last)), last)


def table(source: Layout, wanted: Layout, target: Target) -> tuple[int, int, int, Integers]:
    """Return how one layout of a value is made from another.

    Returns:
        Channels; floats of one in the source and in the result; and, for every float of a channel of the result, which
        float of the source's channel it is, or -1 outside the image.
    """
    width = target.lanes if target.batched else 1
    if isinstance(source, Mapped) and isinstance(wanted, Mapped) and source.last == wanted.last:
        places = _lookup(source.grid.homes, wanted.grid.pixels.reshape(-1))
        return wanted.channels, source.channel(target), wanted.channel(target), _widened(places, width)
    if isinstance(source, Mapped) and isinstance(wanted, Plain) and not source.last:
        pixels = source.grid.size[0] * source.grid.size[1]
        return source.channels, source.channel(target), pixels * width, _widened(source.grid.homes, width)
    if isinstance(source, Plain) and isinstance(wanted, Mapped) and not wanted.last:
        pixels = wanted.grid.size[0] * wanted.grid.size[1]
        return wanted.channels, pixels * width, wanted.channel(target), _widened(wanted.grid.pixels.reshape(-1), width)
    places = _lookup(elements(source), slots(wanted))
    return 1, 0, 0, _widened(places, width)


def _lookup(homes: Integers, wanted: Integers) -> Integers:
    return np.where(wanted >= 0, homes[wanted], -1)


def _widened(places: Integers, width: int) -> Integers:
    """Return the same for each float, where every element has `width` of them."""
    if width > 1:
        places = np.where(places[:, None] >= 0, places[:, None] * width + np.arange(width), -1).reshape(-1)
    return np.ascontiguousarray(places, np.int32)


def elements(layout: Layout) -> Integers:
    """Return the slot of every element, in the order of the value's elements."""
    if isinstance(layout, Plain):
        return np.arange(layout.size)
    each = layout.grid.vectors * layout.grid.blocks
    channel, pixel = np.arange(layout.channels) * each, layout.grid.homes
    pair = pixel[:, None] + channel[None, :] if layout.last else channel[:, None] + pixel[None, :]
    return pair.reshape(-1)


def slots(layout: Layout) -> Integers:
    """Return the element of every slot, -1 for those outside the image."""
    if isinstance(layout, Plain):
        return np.arange(layout.size)
    pixels = layout.grid.pixels.reshape(-1)
    channel = np.arange(layout.channels)[:, None]
    count = layout.grid.size[0] * layout.grid.size[1]
    element = pixels * layout.channels + channel if layout.last else channel * count + pixels
    return np.where(pixels >= 0, element, -1).reshape(-1)
