"""A plan whose operators are exchanged one by one, with who writes and reads what at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from secateur.engine.plan import Op, Plan, Value
from secateur.engine.plan.checking import infer
from secateur.engine.plan.values import Array, Shape

__all__ = ["Draft", "changed"]

_ROOM = 4  # free places ahead of each operator


class Draft:
    """A plan being changed.

    Operators have numbered places, with some room between them. A place may be emptied or get another operator;
    :meth:`plan` then gives what is left. Arrays may be of any float type here: they are rounded once, at the end.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ops: list[Op | None] = []
        self._outputs = Counter(plan.outputs)
        self._writers: dict[str, int] = {}
        self._readers: dict[str, list[int]] = {}
        self._uses: Counter[str] = Counter()
        self.values: dict[str, Value] = dict(plan.values)
        self.constants: dict[str, Array] = {name: np.asarray(each) for name, each in plan.constants.items()}
        for op in plan.ops:
            self._ops += [None] * (_ROOM + 1)
            self.put(len(self._ops) - 1, op)

    # -- looking ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[int, Op]]:
        """Return each place that has an operator, and the operator; changes are seen."""
        for place in range(len(self._ops)):
            op = self._ops[place]
            if op is not None:
                yield place, op

    def writer(self, name: str, *kinds: str) -> tuple[int, Op] | None:
        """Return the place and operator that writes a value, if it is of one of the kinds (or if none is named)."""
        place = self._writers.get(name)
        op = None if place is None else self._ops[place]
        return None if place is None or op is None or (kinds and op.kind not in kinds) else (place, op)

    def sole(self, name: str) -> bool:
        """Say if a value is read once, and is no output."""
        return len(self._readers.get(name, ())) == 1 and name not in self._outputs

    def unread(self, name: str) -> bool:
        """Say if a value is neither read nor an output."""
        return not self._readers.get(name) and name not in self._outputs

    def is_output(self, name: str) -> bool:
        """Say if a value is an output of the plan."""
        return name in self._outputs

    def shape(self, name: str) -> Shape:
        """Return the shape of a value."""
        return self.values[name].shape

    def constant(self, op: Op, role: str) -> Array:
        """Return an array that an operator reads."""
        return self.constants[op.constants[role]]

    def scalar(self, name: str, *hows: str) -> tuple[str, float, Op] | None:
        """Return what a value is computed from by one number, the number, and the operator; None if it is not."""
        found = self.writer(name, "binary")
        if found is None or found[1].attributes["how"] not in hows or not found[1].constants:
            return None
        other = self.constant(found[1], "other")
        if other.size != 1 or found[1].attributes["activation"] != "none" or len(other.shape) > len(self.shape(name)):
            return None
        return found[1].inputs[0], float(other.reshape(())), found[1]

    # -- changing --------------------------------------------------------------------------------------------------

    def put(self, place: int, op: Op) -> None:
        """Put an operator at a place, instead of any that is there."""
        self.drop(place)
        self._ops[place] = op
        self._writers[op.output] = place
        for name in op.inputs:
            self._readers.setdefault(name, []).append(place)
        self._uses.update(op.constants.values())
        shapes = {role: self.constants[name].shape for role, name in op.constants.items()}
        self.values[op.output] = infer(op, [self.values[name] for name in op.inputs], shapes)

    def add_before(self, place: int, op: Op) -> str:
        """Put an operator ahead of a place, behind those put there before, and return what it writes.

        Its output is renamed if there is such a value already.
        """
        if op.output in self.values:
            op = replace(op, output=self.fresh(op.output))
        free = place - _ROOM
        while self._ops[free] is not None:
            free += 1
        self.put(free, op)
        return op.output

    def drop(self, place: int) -> None:
        """Empty a place."""
        op = self._ops[place]
        if op is not None:
            for name in op.inputs:
                self._readers[name].remove(place)
            self._uses.subtract(op.constants.values())
            if self._writers.get(op.output) == place:
                del self._writers[op.output]
            self._ops[place] = None

    def rewire(self, old: str, new: str) -> None:
        """Make everything that reads one value read another; an output stays an output."""
        for place in sorted(set(self._readers.get(old, ()))):
            op = self._ops[place]
            if op is not None:
                self.put(place, replace(op, inputs=tuple(new if name == old else name for name in op.inputs)))

    def fresh(self, like: str) -> str:
        """Return a name for a new value."""
        number = 2
        while f"{like}_{number}" in self.values:
            number += 1
        return f"{like}_{number}"

    def store(self, array: Array, wanted: str, instead_of: Op | None = None, role: str = "") -> str:
        """Add an array and return its name; it takes the name of the one that an operator alone reads."""
        old = instead_of.constants.get(role) if instead_of is not None else None
        name, number = old or wanted, 2
        while name in self.constants and not (name == old and self._uses[name] == 1):
            name, number = f"{old or wanted}_{number}", number + 1
        self.constants[name] = np.asarray(array)
        return name

    def plan(self) -> Plan:
        """Return the plan as it is now."""
        ops = tuple(op for _, op in self)
        written = {op.output for op in ops} | set(self._plan.inputs)
        used = {name for op in ops for name in op.constants.values()}
        values = {name: value for name, value in self.values.items() if name in written}
        constants = {name: array for name, array in self.constants.items() if name in used}
        return replace(self._plan, values=values, ops=ops, constants=constants)


def changed(op: Op, **attributes: Any) -> Op:
    """Return an operator with some attributes changed."""
    return replace(op, attributes={**op.attributes, **attributes})
