"""What following a graph finds: where units are stored, which of them hang together, which must stay and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.graph.units import NONE

__all__ = ["Axis", "Coupling", "Group", "Site", "Size"]


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter or buffer, along which units are stored.

    Attributes:
        name: of the parameter or buffer.
        dim: the axis.
        role: "writes" (output units), "reads" (input units), "follows" (norms, gains: one number for each unit), or
            "looks up" (the entries of a table, which stay).
    """

    name: str
    dim: int
    role: str = field(compare=False)


@dataclass(frozen=True)
class Group:
    """Units stored along the same axes; each may be removed without the others.

    Attributes:
        units: the number of each.
        axes: where they are stored.
        whole: why none of them may be removed; empty if they may.
    """

    units: tuple[int, ...]
    axes: tuple[Axis, ...]
    whole: str = ""


@dataclass(frozen=True, eq=False)
class Site:
    """One place where a weight reads an activation.

    Attributes:
        place: the module, for messages.
        reads: the axis of the weight that runs over what is read, of size I.
        writes: its axis of output units, of size O.
        groups: of a grouped convolution (G); each has its own O / G rows.
        live: which inputs depend on the model's inputs, bool (G, I).
        constant: the value of each input that does not; NaN where it differs from place to place, float64 (G, I).
        exact: whether constants other than zero can be moved into what is added afterwards.
        fold: where they are moved to: a bias, a running mean, or a bias to be made; "" if to nowhere.
        sign: 1 if they are added there, -1 if taken away, as from a running mean.
    """

    place: str
    reads: Axis
    writes: Axis
    groups: int
    live: Tensor
    constant: Tensor
    exact: bool
    fold: str
    sign: int = 1


@dataclass(frozen=True, eq=False)
class Size:
    """A number in the code of a module that counts units.

    Attributes:
        module: path of the module.
        attribute: its name; "" where only the size is known, as an argument of ``view``.
        labels: the units it counts, compressed.
        dim: the axis of ``labels`` along which it counts.
        old: the number.
    """

    module: str
    attribute: str
    labels: Tensor
    dim: int
    old: int

    def left(self, units: set[int]) -> int:
        """Return what the number becomes without some units."""
        gone = member(self.labels, units)
        total = self.labels.shape[self.dim]
        return self.old * int((~gone).movedim(self.dim, 0).reshape(total, -1).any(1).sum()) // total


@dataclass(frozen=True, eq=False)
class Coupling:
    """Which units of a network are coupled; prints as a table.

    Attributes:
        units: for every axis, the unit of each index along it; -1 where it belongs to none.
        groups: of units stored alike, in the order in which the network writes them.
        pinned: why a unit must stay, for those that must.
        sites: where weights read activations, in the order of the graph.
        sizes: numbers in the code that count units.
        positions: multiply-adds that each weight of a tensor takes part in, for the example, by tensor.
        unknown: what could not be followed, each with its place; the units that meet it are pinned.
    """

    units: dict[Axis, Tensor]
    groups: tuple[Group, ...]
    pinned: dict[int, str]
    sites: tuple[Site, ...]
    sizes: tuple[Size, ...]
    positions: dict[str, int]
    unknown: tuple[str, ...]

    def axis(self, name: str, dim: int) -> Tensor | None:
        """Return the unit of each index along an axis of a tensor, or None if it holds no units."""
        return self.units.get(Axis(name, dim, ""))

    def __str__(self) -> str:
        """Return a table: how many units, where they are written and read, and why some are left whole."""
        lines = [("units", "written by", "read by", "left whole because")]
        for group in self.groups:
            named = {role: [axis.name for axis in group.axes if axis.role == role] for role in ("writes", "reads")}
            written, read = (_listed(named[role]) for role in ("writes", "reads"))
            lines.append((str(len(group.units)), written, read, group.whole))
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        rows = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        table = [rows[0], "  ".join("-" * width for width in widths), *rows[1:]]
        return "\n".join([*table, *(f"not followed: {what}" for what in self.unknown)])


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:2]) or "-"
    return shown if len(names) < 3 else f"{shown} and {len(names) - 2} more"


def grouped(units: dict[Axis, Tensor], pinned: dict[int, str]) -> tuple[Group, ...]:
    """Put units that are stored along the same axes into one group."""
    stored: dict[int, list[Axis]] = {}
    for axis, labels in units.items():
        for unit in labels.unique().tolist():
            if unit != NONE:
                stored.setdefault(unit, []).append(axis)
    groups: dict[tuple[tuple[Axis, ...], str], list[int]] = {}
    for unit in sorted(stored):
        groups.setdefault((tuple(stored[unit]), pinned.get(unit, "")), []).append(unit)
    return tuple(Group(tuple(members), axes, whole) for (axes, whole), members in groups.items())


def member(labels: Tensor, units: set[int]) -> Tensor:
    """Say for every label if it is one of some units.

    Example:
        >>> member(torch.tensor([3, -1, 4]), {4, 5})
        tensor([False, False,  True])
    """
    return torch.isin(labels, torch.tensor(sorted(units), dtype=torch.int64))
