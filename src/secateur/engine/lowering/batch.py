"""Where the samples of a batch lie in a tensor, so that what follows can be said of one sample alone.

An axis of the tensor holds the batch, alone or merged with others: ``[outer * batch * inner]``. The value in the plan
is the tensor without it: the same numbers in the same order, of one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.engine.plan import Value
from secateur.engine.plan.values import Array, Shape

__all__ = ["Batch", "Fixed", "Live", "Refused", "between", "is_live", "located"]


class Refused(Exception):  # noqa: N818
    """An operation that a rule knows, used in a way that the engine has no operator for; the text says which."""


@dataclass(frozen=True)
class Batch:
    """The place of the samples: axis ``dim`` counts ``outer * samples * inner``.

    Example:
        >>> Batch(0, 1, 5, samples=7).sample((35, 3))
        (5, 3)
    """

    dim: int
    outer: int
    inner: int
    samples: int

    @property
    def merged(self) -> int:
        """What else the axis counts."""
        return self.outer * self.inner

    def sample(self, shape: Sequence[int]) -> Shape:
        """Return the shape of one sample of a tensor."""
        own = (self.merged,) if self.merged > 1 else ()
        return (*shape[: self.dim], *own, *shape[self.dim + 1 :])

    def moved(self, dim: int) -> Batch:
        """Return the same with the axis at another place."""
        return replace(self, dim=dim)


@dataclass(frozen=True)
class Live:
    """A tensor that depends on the inputs.

    Attributes:
        name: of the value in the plan.
        shape: of the tensor, the batch included.
        batch: where the samples lie in it.
        dtype: of the tensor; bool and whole numbers that were computed are 0, 1, ... in F32.
        value: in the plan.
    """

    name: str
    shape: Shape
    batch: Batch
    dtype: torch.dtype
    value: Value

    @property
    def sample(self) -> Shape:
        """The shape of one sample."""
        return self.batch.sample(self.shape)

    @property
    def plain(self) -> bool:
        """Whether the first axis is the batch, and nothing else."""
        return self.batch.dim == 0 and self.batch.merged == 1

    def dim(self, dim: int) -> int:
        """Return an axis of the tensor as a number from 0 on."""
        return dim % max(1, len(self.shape))

    def axis(self, dim: int) -> int:
        """Return the axis of a sample that an axis of the tensor is.

        Raises:
            Refused: it counts samples.
        """
        dim = self.dim(dim)
        if dim == self.batch.dim:
            raise Refused("it mixes samples of a batch")
        return dim if dim < self.batch.dim or self.batch.merged > 1 else dim - 1

    def place(self) -> tuple[int, int, int]:
        """Return the place of the batch, counted from the last axis, as broadcasting does."""
        return len(self.shape) - self.batch.dim, self.batch.outer, self.batch.inner


@dataclass(frozen=True)
class Fixed:
    """A tensor that is the same whatever the inputs are; ``name`` is its name in the model, if it is stored there."""

    tensor: Tensor
    name: str = ""

    @property
    def shape(self) -> Shape:
        """Of the tensor."""
        return tuple(self.tensor.shape)

    def array(self) -> Array:
        """Return the numbers: float64 where they were, else float32; whole numbers are exact."""
        tensor = self.tensor.detach().cpu()
        if tensor.is_complex():
            raise Refused("complex numbers")
        exact = tensor.dtype == torch.float64 or not (tensor.is_floating_point() or tensor.dtype == torch.bool)
        # What is sparse or conjugated is made plain.
        return np.asarray(tensor.to_dense().to(torch.float64 if exact else torch.float32).resolve_neg().numpy())

    def sampled(self, like: Batch, rank: int) -> Array:
        """Return the constant that one sample meets when this is broadcast with a tensor of ``rank`` axes.

        Raises:
            Refused: it differs from sample to sample.

        Example:
            >>> Fixed(torch.ones(1, 3, 1, 1)).sampled(Batch(0, 1, 1, samples=7), 4).shape
            (3, 1, 1)
        """
        array = self.array()
        dim = like.dim - (rank - array.ndim)
        if dim < 0:
            return array
        size = array.shape[dim]
        if size == 1:
            return array if like.merged > 1 else array.squeeze(dim)
        if size != like.samples * like.merged:
            raise Refused("it mixes samples of a batch")
        split = array.reshape(*array.shape[:dim], like.outer, like.samples, like.inner, *array.shape[dim + 1 :])
        first = split.take([0], dim + 1)
        if not np.array_equal(split, np.broadcast_to(first, split.shape), equal_nan=True):
            raise Refused("a constant that differs from sample to sample")
        return first.reshape(like.sample(array.shape))


def located(shape: Sequence[int], below: int, samples: int) -> Batch:
    """Return where the samples lie in a shape, given how many numbers lie between one sample and the next.

    Raises:
        Refused: a sample would not lie in one place of one axis.

    Example:
        >>> located((35, 3), 15, 7)
        Batch(dim=0, outer=1, inner=5, samples=7)
    """
    after = 1
    for dim in reversed(range(len(shape))):
        if below < after * shape[dim]:
            inner, rest = divmod(below, after)
            if rest or shape[dim] % (samples * inner):
                break
            return Batch(dim, shape[dim] // (samples * inner), inner, samples)
        after *= shape[dim]
    raise Refused("it lays out samples of a batch together")


def between(live: Live) -> int:
    """Return how many numbers lie between one sample and the next."""
    return live.batch.inner * math.prod(live.shape[live.batch.dim + 1 :])


def is_live(thing: Any) -> bool:
    """Say if anything in (nested lists of) arguments depends on the inputs."""
    if isinstance(thing, list | tuple):
        return any(is_live(each) for each in thing)
    return isinstance(thing, Live)
