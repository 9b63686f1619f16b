"""Importance by lot: the control every method has to beat."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.vocabulary import NamedTensors, Scores

__all__ = ["random"]


def random(weights: Mapping[str, Tensor], seed: int = 0) -> Scores:
    """Score every weight by a uniform random number that depends on the seed and the tensor's name alone.

    Args:
        weights: tensors by name; only names, shapes and devices matter.
        seed: any non-negative integer; equal seeds give equal scores on every device.

    Returns:
        float32 scores in [0, 1), of the shapes of the weights.

    Example:
        >>> import torch
        >>> first, again = (random({"w": torch.zeros(3)}, seed=1)["w"] for _ in range(2))
        >>> torch.equal(first, again)
        True
    """

    def draw(name: str, weight: Tensor) -> Tensor:
        # torch uses 32 bits of a seed, so name and seed are hashed into one number of that size.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
        return torch.rand(weight.shape, generator=generator).to(weight.device)

    return NamedTensors(weights).map_named(draw)
