"""What is known of the values that pass through a graph: whose unit each element is, and what depends on the inputs.

Labels and liveness are tensors of as many axes as the value. An axis along which they do not differ has size 1, so
that an activation of ``(B, C, H, W)`` carries labels of ``(1, C, 1, 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Flow", "along", "compressed", "laid", "spread", "vector"]


@dataclass
class Flow:
    """One value of a graph while it is followed.

    Attributes:
        value: the value itself, of the example; None once nothing reads it any more.
        labels: the unit of each element; None where there are no units.
        live: which elements depend on the inputs of the model; None for what is no tensor.
        name: of the parameter or buffer that the value is; "" for activations.
        places: of a parameter that was moved: where its elements are stored along each of its own axes, compressed;
            () for one that is as it is stored.
    """

    value: Any
    labels: Tensor | None = None
    live: Tensor | None = None
    name: str = ""
    places: tuple[Tensor, ...] = ()

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the value."""
        shape: torch.Size = self.value.shape
        return shape


def compressed(full: Tensor) -> Tensor:
    """Return a tensor with every axis along which nothing differs cut to size 1.

    Example:
        >>> compressed(torch.tensor([[1, 2], [1, 2]])).shape
        torch.Size([1, 2])
    """
    for dim in range(full.ndim):
        if full.shape[dim] > 1 and full.stride(dim) == 0:
            full = full.narrow(dim, 0, 1)
    for dim in range(full.ndim):
        first = full.narrow(dim, 0, 1) if full.shape[dim] > 1 else full
        if bool((full == first).all()):
            full = first
    return full


def along(labels: Tensor) -> list[int]:
    """Return the axes along which compressed labels differ.

    Example:
        >>> along(torch.tensor([[1, 2]]))
        [1]
    """
    return [dim for dim, size in enumerate(labels.shape) if size > 1]


def laid(tensor: Tensor, ndim: int) -> Tensor:
    """Give a tensor axes of size 1 in front, as broadcasting does.

    Example:
        >>> laid(torch.zeros(3), 3).shape
        torch.Size([1, 1, 3])
    """
    return tensor.reshape((1,) * (ndim - tensor.ndim) + tuple(tensor.shape))


def spread(of_axis: Tensor, dim: int, ndim: int) -> Tensor:
    """Lay a vector along axis ``dim`` of ``ndim``.

    Example:
        >>> spread(torch.zeros(3), 1, 4).shape
        torch.Size([1, 3, 1, 1])
    """
    sizes = [1] * ndim
    sizes[dim] = -1
    return of_axis.reshape(sizes)


def vector(flags: Tensor, dim: int, size: int) -> Tensor:
    """Return what is true anywhere for each index along ``dim``.

    Example:
        >>> vector(torch.tensor([[False, True], [True, True]]), 0, 2)
        tensor([True, True])
    """
    kept = flags.movedim(dim, -1).flatten(0, -2).any(0) if flags.ndim > 1 else flags
    return kept.expand(size)
