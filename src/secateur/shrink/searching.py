"""The search for the most that can be removed: everything dead, or less where a model's code does not bear it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from secateur.graph.coupling import Coupling, Group
from secateur.shrink.cutting import Kept
from secateur.shrink.dead import DeadUnits, find_dead

__all__ = ["Attempt", "Found", "search"]

# Cut the model without some units; return it, what was kept and how far outputs are apart, or None if that went wrong.
Attempt: TypeAlias = Callable[[DeadUnits], "tuple[Any, Kept, float] | None"]


@dataclass(frozen=True, eq=False)
class Found:
    """The smallest model that was found to give the same outputs.

    Attributes:
        small: the model.
        kept: the indices that were kept, by tensor and axis.
        dead: what was removed, and what stays though it is dead.
        worst: largest difference of an output, as a share of the outputs' range.
        refused: groups that had to be left whole.
    """

    small: Any
    kept: Kept
    dead: DeadUnits
    worst: float
    refused: tuple[Group, ...]


def search(coupling: Coupling, tensors: Mapping[str, Tensor], attempt: Attempt) -> Found:
    """Remove everything that is dead, or, where that goes wrong, what can be of it, group by group.

    Args:
        coupling: of the model.
        tensors: its parameters and buffers, by the names of the coupling.
        attempt: cuts the model and compares.
    """
    every = {unit for group in coupling.groups for unit in group.units}

    def without(groups: list[Group], refused: tuple[Group, ...] = ()) -> Found | None:
        free = {unit for group in groups for unit in group.units}
        dead = find_dead(coupling, tensors, every - free)
        done = attempt(dead)
        return None if done is None else Found(done[0], done[1], dead, done[2], refused)

    free = [group for group in coupling.groups if not group.whole]
    found = without(free)
    if found is None:
        accepted: list[Group] = []
        refused: list[Group] = []
        for group in free:  # alone first: whatever fails with it is its own doing
            (refused if without([*accepted, group]) is None else accepted).append(group)
        found = without(accepted, tuple(refused))
    assert found is not None, "a model must agree with its own copy"
    return found
