"""Parameters that code turns before a layer reads them: where every element was stored.

Keras keeps the kernel of a convolution as (height, width, inputs, outputs) and permutes it each time; others write
``x @ weight.T``. Whatever moves the elements of a parameter moves, by the same call, the indices they are stored at, so
that each axis of what comes out is known to be one of the parameter's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from secateur.graph.flow import Flow, compressed, spread

__all__ = ["differing", "moved", "own_axis", "own_sizes"]


def moved(flow: Flow, again: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Return the places of a parameter's elements after a call that moved them.

    Args:
        flow: of the parameter, as it was before.
        again: the call, on a tensor of the shape of the parameter before.

    Example:
        >>> rows, columns = moved(Flow(torch.zeros(2, 3), name="weight"), torch.t)
        >>> rows.tolist(), columns.flatten().tolist()
        ([[0, 1]], [0, 1, 2])
    """
    ndim = flow.value.ndim
    places = flow.places or tuple(spread(torch.arange(size), dim, ndim) for dim, size in enumerate(flow.shape))
    return tuple(compressed(again(each.expand(flow.shape))) for each in places)


def own_sizes(flow: Flow) -> tuple[int, ...]:
    """Return the shape that a parameter is stored in.

    Example:
        >>> weight = torch.zeros(2, 3)
        >>> own_sizes(Flow(weight.T, name="weight", places=moved(Flow(weight, name="weight"), torch.t)))
        (2, 3)
    """
    if not flow.places:
        return tuple(flow.shape)
    return tuple(int(each.max()) + 1 if each.numel() else 0 for each in flow.places)


def differing(flow: Flow, dim: int) -> list[int]:
    """Return the parameter's own axes along which one moves as ``dim`` is walked."""
    return [axis for axis, each in enumerate(flow.places) if each.shape[dim] > 1]


def own_axis(flow: Flow, dim: int) -> int | None:
    """Return which of a parameter's own axes ``dim`` is, in the same order; None if it is none of them.

    Example:
        >>> weight = torch.zeros(2, 3)
        >>> own_axis(Flow(weight.T, name="weight", places=moved(Flow(weight, name="weight"), torch.t)), 0)
        1
    """
    if not flow.places:
        return dim
    if flow.shape[dim] == 1:  # nothing tells axes of size 1 apart, and nothing has to: they are taken in order
        single = [axis for axis, size in enumerate(own_sizes(flow)) if size == 1]
        rank = sum(flow.shape[each] == 1 for each in range(dim))
        return single[rank] if rank < len(single) else None
    for axis in differing(flow, dim):
        places = flow.places[axis].flatten()
        if differing(flow, dim) == [axis] and torch.equal(places, torch.arange(flow.shape[dim])):
            return axis
    return None
