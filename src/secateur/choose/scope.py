"""What competes in one ranking, and how a budget is split when there are several rankings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from secateur.vocabulary import SelectionError, near_matches

__all__ = ["Allocation", "Global", "PerRow", "PerTensor", "Scope", "Window", "erk", "scaled", "uniform"]


@dataclass(frozen=True)
class Global:
    """One ranking over all targets."""


@dataclass(frozen=True)
class PerTensor:
    """One ranking for each target (layer-wise pruning)."""


@dataclass(frozen=True)
class PerRow:
    """One ranking for each output unit of each target (for blocks: for each row of blocks)."""


@dataclass(frozen=True)
class Window:
    """N:M sparsity: at most ``keep`` non-zeros in every ``of`` consecutive inputs of an output unit.

    A convolution is windowed along its input channels at each kernel position. Inputs left over at the end of a
    row that ``of`` does not divide form a shorter window that also keeps at most ``keep``.

    Raises:
        SelectionError: not ``0 <= keep <= of`` with ``of >= 1``.

    Example:
        >>> Window(keep=2, of=4).sparsity
        0.5
    """

    keep: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= self.of or self.of < 1:
            raise SelectionError(f"{self} needs 0 <= keep <= of and of >= 1")

    @property
    def sparsity(self) -> float:
        """The share of every full window that is removed."""
        return 1 - self.keep / self.of


Scope: TypeAlias = Global | PerTensor | PerRow | Window
Allocation: TypeAlias = Callable[[Mapping[str, Tensor], float], Mapping[str, float]] | Mapping[str, float]


def uniform(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """Give every target the same sparsity.

    Example:
        >>> import torch
        >>> uniform({"a": torch.zeros(2), "b": torch.zeros(9)}, 0.5)
        {'a': 0.5, 'b': 0.5}
    """
    return dict.fromkeys(weights, sparsity)


def erk(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """Split a budget by the Erdos-Renyi-Kernel rule: large layers sparser, small layers denser.

    The density of a tensor of shape (out, in, k1, k2, ...) is proportional to the sum of those sizes over their
    product; tensors that would exceed density 1 stay whole and the rest share what remains. Counts are rounded so
    that round(sparsity * n) weights are removed in all. Vectors keep all their weights.

    Source: Evci et al. 2020, "Rigging the Lottery" (arXiv 1911.11134), section 3 (1).

    Args:
        weights: tensors by name; only shapes matter.
        sparsity: in [0, 1], of all the tensors together.

    Returns:
        A sparsity in [0, 1] for each name.

    Raises:
        SelectionError: vectors hold more weights than the budget keeps.

    Example:
        >>> import torch
        >>> shares = erk({"small": torch.zeros(10, 10), "large": torch.zeros(100, 100)}, 0.9)
        >>> {name: round(share, 2) for name, share in shares.items()}
        {'small': 0.08, 'large': 0.91}
    """
    sizes = {name: w.numel() for name, w in sorted(weights.items())}
    budget = sum(sizes.values()) - round(sparsity * sum(sizes.values()))
    whole = {name for name, w in weights.items() if w.ndim < 2}
    slope = {name: sum(w.shape) / w.numel() for name, w in weights.items() if w.ndim >= 2 and w.numel()}
    vectors = sum(sizes[name] for name in whole)
    if vectors > budget:
        raise SelectionError(
            f"erk keeps vectors whole, {vectors} weights, but sparsity {sparsity} keeps only {budget}; "
            "leave biases out of the targets"
        )
    scale = 0.0
    while free := sorted(slope.keys() - whole):
        left = budget - sum(sizes[name] for name in whole)
        scale = left / sum(slope[name] * sizes[name] for name in free)
        full = {name for name in free if scale * slope[name] > 1}
        if not full:
            break
        whole |= full
    kept = {name: sizes[name] for name in sizes.keys() - slope.keys()}  # vectors, and what is empty
    weights_of = {name: slope[name] * sizes[name] for name in sizes if name in slope}
    kept |= _divided(weights_of, sizes, budget - sum(kept.values()), scale)
    return {name: 1 - kept[name] / sizes[name] if sizes[name] else 0.0 for name in weights}


def scaled(shares: Mapping[str, float], at: float) -> Callable[[Mapping[str, Tensor], float], dict[str, float]]:
    """Return an allocation that gives the named targets ``shares`` when the sparsity is ``at``, in proportion below.

    A dict holds for one sparsity only; under a schedule that rises, this rises with it. Targets that are not named
    take the sparsity itself, as tfmot's per-layer schedules do: it is then theirs, not that of the whole model.

    Args:
        shares: sparsity in [0, 1] by target name.
        at: the final sparsity of the schedule, above 0.

    Raises:
        SelectionError: a share or ``at`` is out of range; when called, a name is not among the targets.

    Example:
        >>> import torch
        >>> allocation = scaled({"head": 0.5}, at=1.0)
        >>> allocation({"body": torch.zeros(9), "head": torch.zeros(2)}, 0.4)
        {'body': 0.4, 'head': 0.2}
    """
    if not 0 < at <= 1:
        raise SelectionError(f"at= is a sparsity above 0 and at most 1, got {at}")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise SelectionError(f"the allocation gives {name!r} the sparsity {share}, outside 0 to 1")

    def allocate(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
        unknown = shares.keys() - weights.keys()
        if unknown:
            known = near_matches(sorted(unknown)[0], weights)
            raise SelectionError(f"the allocation names {sorted(unknown)}, not among the targets; {known}")
        # The quotient first: it is exactly 1 at the end, and a hair can be one weight.
        return {name: min(1.0, shares[name] * (sparsity / at)) if name in shares else sparsity for name in weights}

    return allocate


def _divided(shares: Mapping[str, float], sizes: Mapping[str, int], total: int, scale: float) -> dict[str, int]:
    """Divide ``total`` in proportion to ``shares``, in whole numbers and none above its size; ties go by name.

    By Webster's method: the highest of all share / (2 k + 1), k = 0, 1, ..., get one each. So no part grows when the
    total shrinks, as it may with largest remainders, and masks that a schedule tightens end at the count asked for.

    Args:
        shares: by name, above 0.
        sizes: by name.
        total: at most the sum of the sizes.
        scale: factor on the shares that nearly gives the total: few are left to correct.
    """
    parts = {name: min(sizes[name], int(scale * share + 0.5)) for name, share in shares.items()}
    for _ in range(total - sum(parts.values())):
        room = (name for name in shares if parts[name] < sizes[name])
        parts[min(room, key=lambda name: (-shares[name] / (2 * parts[name] + 1), name))] += 1
    for _ in range(sum(parts.values()) - total):
        some = (name for name in shares if parts[name])
        # Of equals the later name was last to get one, so it is first to lose it.
        parts[max(some, key=lambda name: (-shares[name] / (2 * parts[name] - 1), name))] -= 1
    return parts
