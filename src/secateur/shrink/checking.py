"""Proof that two networks compute the same: their outputs on an example and on random inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["TOLERANCES", "difference", "differences", "holds_a_number", "inputs_like", "outputs"]

# The largest difference allowed, as a share of the range of the outputs.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def inputs_like(example: Any, seed: int) -> Any:
    """Return random inputs of the shapes and dtypes of an example.

    Floats are normal with the mean and deviation of the example's; integers are drawn between its smallest and
    largest, which a vocabulary has room for; flags are the example's.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dtype == torch.bool or not leaf.numel():
            return leaf
        if leaf.is_floating_point():
            wide = leaf.double()
            noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device)
            deviation = wide.std(correction=0)
            return (wide.mean() + noise * (deviation if deviation > 0 else 1)).to(leaf.dtype)
        if leaf.is_complex():
            return leaf
        low, high = int(leaf.min()), int(leaf.max())
        return torch.randint(low, high + 1, leaf.shape, generator=generator).to(leaf)

    return pytree.tree_map(draw, example)


@torch.no_grad()
def difference(first: Any, second: Any) -> tuple[float, bool]:
    """Return the largest difference between two outputs as a share of the first's range, and if that is agreement.

    Structures, shapes, dtypes, NaN and infinities must be the same; otherwise the difference is infinite.

    Example:
        >>> difference(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0 + 2**-10]))
        (0.0009765625, False)
    """
    ones, structure = pytree.tree_flatten(first)
    others, also = pytree.tree_flatten(second)
    if structure != also:
        return float("inf"), False
    worst, agree = 0.0, True
    for one, other in zip(ones, others, strict=True):
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            apart = _apart(one, other)
            worst, agree = max(worst, apart), agree and apart <= TOLERANCES.get(one.dtype, 1e-5)
        elif one is not other and one != other:
            return float("inf"), False
    return worst, agree


def differences(expected: Sequence[Any], found: Sequence[Any]) -> tuple[float, bool]:
    """Return the largest :func:`difference` of pairs of outputs, and if all agree."""
    apart = [difference(one, other) for one, other in zip(expected, found, strict=True)]
    return max(share for share, _ in apart), all(agree for _, agree in apart)


def _apart(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if not one.numel() or torch.equal(one, other):
        return 0.0
    if not one.is_floating_point():
        return float("inf")
    finite = one.isfinite()
    infinite = one[~finite].nan_to_num(), other[~finite].nan_to_num()
    if not torch.equal(finite, other.isfinite()) or not torch.equal(*infinite):
        return float("inf")
    left, right = one[finite].double(), other[finite].double()
    if not left.numel():
        return 0.0
    extent = float(left.max() - left.min()) or float(left.abs().max()) or 1.0
    return float((left - right).abs().max()) / extent


def holds_a_number(outputs: Any) -> bool:
    """Return whether there is a finite number in outputs, or none of floats at all."""
    floats = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return not any(leaf.numel() for leaf in floats) or any(bool(leaf.isfinite().any()) for leaf in floats)


def outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return copies of what a model in eval mode gives, the same draws of chance each time."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        args, kwargs = pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, model(*args, **kwargs))
