"""What is removed together: elements, blocks, rows, columns.

A granularity is a pair of inverse views. ``split`` lays a tensor out as ``(*units, n)``, the last axis running over
what one unit holds; ``join`` undoes it. Scores are pooled, and unit masks spread, over that last axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from secateur.vocabulary import Layout, SelectionError

__all__ = ["Block", "Column", "Element", "Granularity", "Row", "canonical", "pool", "restore"]

Reduce = Literal["l2", "sum", "mean", "max"]


class Granularity(Protocol):
    """What every granularity offers; ``x`` below is a score tensor or a mask."""

    @property
    def reduce(self) -> Reduce:
        """How the scores of a unit become one: their L2 norm, sum, mean or maximum."""

    def split(self, x: Tensor, layout: Layout) -> Tensor:
        """Lay ``x`` out as ``(*units, n)``; what pads a partial unit is 0 (False)."""

    def join(self, units: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
        """Undo :meth:`split`: from ``(*units, n)`` back to ``shape``."""


@dataclass(frozen=True)
class Element:
    """Every weight by itself (unstructured pruning).

    Example:
        >>> Element()
        Element()
    """

    @property
    def reduce(self) -> Reduce:
        """There is nothing to pool."""
        return "sum"

    def split(self, x: Tensor, layout: Layout) -> Tensor:
        """Lay ``x`` out as ``(*shape, 1)``."""
        return x.unsqueeze(-1)

    def join(self, units: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
        """Undo :meth:`split`."""
        return units.squeeze(-1)


@dataclass(frozen=True)
class Block:
    """Blocks of ``height`` output units by ``width`` columns of the weight seen as a matrix (out, in * kernel).

    A block at the edge of a matrix that its size does not divide is smaller, and counts as one unit.

    Raises:
        SelectionError: a side is below 1.

    Example:
        >>> Block(1, 4)
        Block(height=1, width=4, reduce='l2')
    """

    height: int
    width: int
    reduce: Reduce = "l2"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise SelectionError(f"{self} needs sides of at least 1")

    def split(self, x: Tensor, layout: Layout) -> Tensor:
        """Lay ``x`` out as ``(block rows, block columns, height * width)``."""
        matrix = canonical(x, layout).flatten(1)
        rows, columns = self._grid(matrix.shape)
        padding = (0, columns * self.width - matrix.shape[1], 0, rows * self.height - matrix.shape[0])
        padded = torch.nn.functional.pad(matrix, padding)
        return padded.view(rows, self.height, columns, self.width).transpose(1, 2).flatten(2)

    def join(self, units: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
        """Undo :meth:`split`."""
        three = canonical(torch.empty(shape, device="meta"), layout).shape
        rows, columns = units.shape[:2]
        matrix = units.reshape(rows, columns, self.height, self.width).transpose(1, 2)
        matrix = matrix.reshape(rows * self.height, columns * self.width)[: three[0], : three[1] * three[2]]
        return restore(matrix.reshape(three), shape, layout)

    def _grid(self, shape: torch.Size) -> tuple[int, int]:
        return -(-shape[0] // self.height), -(-shape[1] // self.width)


@dataclass(frozen=True)
class Row:
    """Output neurons or filters; the bias of a row goes with it when biases are targets.

    Example:
        >>> Row()
        Row(reduce='l2')
    """

    reduce: Reduce = "l2"

    def split(self, x: Tensor, layout: Layout) -> Tensor:
        """Lay ``x`` out as ``(out, in * kernel)``."""
        return canonical(x, layout).flatten(1)

    def join(self, units: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
        """Undo :meth:`split`."""
        three = canonical(torch.empty(shape, device="meta"), layout).shape
        return restore(units.reshape(three), shape, layout)


@dataclass(frozen=True)
class Column:
    """Input neurons or channels; a vector (a bias) has none and stays whole.

    Example:
        >>> Column(reduce="max")
        Column(reduce='max')
    """

    reduce: Reduce = "l2"

    def split(self, x: Tensor, layout: Layout) -> Tensor:
        """Lay ``x`` out as ``(in, out / groups * kernel)``."""
        x_OIK = canonical(x, layout)
        x_GOIK = x_OIK.reshape(layout.groups, x_OIK.shape[0] // layout.groups, *x_OIK.shape[1:])
        return x_GOIK.transpose(1, 2).flatten(2).flatten(0, 1)

    def join(self, units: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
        """Undo :meth:`split`."""
        outs, ins, kernel = canonical(torch.empty(shape, device="meta"), layout).shape
        grouped = units.reshape(layout.groups, ins, outs // layout.groups, kernel).transpose(1, 2)
        return restore(grouped.reshape(outs, ins, kernel), shape, layout)


def canonical(x: Tensor, layout: Layout) -> Tensor:
    """Return ``x`` as ``(out, in / groups, kernel)``; a vector is ``(n, 1, 1)``.

    Example:
        >>> canonical(torch.zeros(4, 3, 5, 5), Layout(out_axis=1, in_axis=0)).shape
        torch.Size([3, 4, 25])
    """
    if x.ndim < 2:
        return x.reshape(-1, 1, 1)
    if layout.stacked:
        outs_first = x if layout.out_axis == 0 else x.transpose(1, 2)
        return outs_first.flatten(0, 1).unsqueeze(-1)
    kernel = math.prod(x.shape[2:])  # not -1, which is ambiguous where a tensor is empty
    if layout.out_axis == 0:
        return x.reshape(x.shape[0], x.shape[1], kernel)
    # A transposed convolution holds (in, out / groups): its groups divide the first axis.
    x_GIOK = x.reshape(layout.groups, x.shape[0] // layout.groups, x.shape[1], kernel)
    return x_GIOK.transpose(1, 2).flatten(0, 1)


def restore(x_OIK: Tensor, shape: torch.Size, layout: Layout) -> Tensor:
    """Undo :func:`canonical`."""
    if layout.stacked:
        if layout.out_axis == 0:
            return x_OIK.reshape(shape)
        return x_OIK.reshape(shape[0], shape[2], shape[1]).transpose(1, 2)
    if len(shape) < 2 or layout.out_axis == 0:
        return x_OIK.reshape(shape)
    x_GOIK = x_OIK.reshape(layout.groups, x_OIK.shape[0] // layout.groups, *x_OIK.shape[1:])
    return x_GOIK.transpose(1, 2).reshape(shape)


def pool(scores_UN: Tensor, sizes_U: Tensor, reduce: Reduce) -> Tensor:
    """Pool the scores of each unit, the last axis, into one; half precision is pooled in float32.

    Raises:
        SelectionError: ``reduce`` is unknown, or is ``l2`` and a score is negative.
    """
    values = scores_UN if scores_UN.dtype == torch.float64 else scores_UN.float()
    if reduce == "l2":
        if bool((values < 0).any()):
            raise SelectionError("reduce='l2' needs scores of at least 0; use reduce='sum' for signed scores")
        return values.square().sum(-1).sqrt()
    if reduce == "sum" or (reduce in ("mean", "max") and scores_UN.shape[-1] == 0):
        return values.sum(-1)
    if reduce == "mean":
        return values.sum(-1) / sizes_U
    if reduce == "max":
        return values.amax(-1)
    raise SelectionError(f"reduce={reduce!r} is unknown; it is one of 'l2', 'sum', 'mean', 'max'")
