"""First pass: in which layout each operator reads its values and writes its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from secateur.engine.layouts import Layout, Mapped, Plain, Target, natural
from secateur.engine.plan.values import Op, Plan

__all__ = ["Decide", "Decision", "Layouts", "decide"]


@dataclass(frozen=True)
class Decision:
    """The layouts of an operator.

    Attributes:
        reads: of its inputs, in order.
        writes: of its output.
        alias: whether the output is the first input, only named otherwise.
    """

    reads: tuple[Layout, ...]
    writes: Layout
    alias: bool = False


@dataclass
class Layouts:
    """What is known so far of every value: shape, operators, the layout it is written in and those it is read in."""

    plan: Plan
    target: Target
    homes: dict[str, Layout] = field(default_factory=dict)
    wanted: dict[str, list[Layout]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    writers: dict[str, Op] = field(default_factory=dict)
    readers: dict[str, list[Op]] = field(default_factory=dict)
    # What only a pool reads, which computes it too: the numbers of those that would have.
    pooled: dict[str, int] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value, of one sample."""
        return self.plan.values[name].shape

    def home(self, name: str) -> Layout:
        """Return the layout a value is written in."""
        return self.homes[name]

    def given(self, name: str) -> bool:
        """Return whether a value is an input, which is read into any layout at the same cost."""
        return name in self.plan.inputs

    def final(self, name: str, wanted: Layout) -> Layout:
        """Return the layout that a value is really kept in for whoever asked for one: with the halo that all need."""
        if not isinstance(wanted, Mapped):
            return wanted
        for layout in [self.homes[name], *self.wanted.get(name, [])]:
            same = isinstance(layout, Mapped) and layout.same_blocks(wanted)
            if same and (layout.outside == wanted.outside or not wanted.padded or not layout.padded):  # type: ignore[union-attr]
                wanted = _both(wanted, layout)  # type: ignore[arg-type]
        return wanted


Decide: TypeAlias = Callable[[Layouts, Op], Decision]


def decide(plan: Plan, target: Target, rules: Mapping[str, Decide]) -> Layouts:
    """Return the layouts of a plan.

    Args:
        plan: the plan, checked.
        target: what it is laid out for.
        rules: how each kind of operator chooses.
    """
    layouts = Layouts(plan, target)
    for name in plan.inputs:
        # Nobody is kept from asking for a better one.
        layouts.homes[name] = Plain(_size(plan.values[name].shape))
    for op in plan.ops:
        for name in op.inputs:
            layouts.readers.setdefault(name, []).append(op)
    for op in plan.ops:
        decision = rules[op.kind](layouts, op)
        layouts.decisions.append(decision)
        layouts.writers[op.output] = op
        layouts.homes[op.output] = decision.writes
        for name, layout in zip(op.inputs, decision.reads, strict=True):
            layouts.wanted.setdefault(name, []).append(layout)
    for number, (op, decision) in enumerate(zip(plan.ops, layouts.decisions, strict=True)):
        if isinstance(decision.writes, Mapped) and not decision.alias:
            layouts.decisions[number] = replace(decision, writes=layouts.final(op.output, decision.writes))
            layouts.homes[op.output] = layouts.decisions[number].writes
    return layouts


def preferred(layouts: Layouts, name: str) -> Layout:
    """Return the layout to take a value in where any would do."""
    home = layouts.home(name)
    return natural(layouts.shape(name), layouts.target) if layouts.given(name) else home


def _both(one: Mapped, other: Mapped) -> Mapped:
    outside = one.outside if one.padded else other.outside
    return replace(one, grid=one.grid.with_edges(one.grid.edges.with_(other.grid.edges)), outside=outside)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
