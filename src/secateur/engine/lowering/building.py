"""A plan under construction: operators are added one by one, and know at once what they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from secateur.engine.lowering.batch import Refused
from secateur.engine.plan import Op, Plan, Value
from secateur.engine.plan.checking import infer
from secateur.engine.plan.values import Array

__all__ = ["Builder", "Constant", "with_activation"]

# An array, and the name it should have in the plan ("" to be named after its operator).
Constant: TypeAlias = "tuple[Array, str]"


class Builder:
    """The operators so far, the values they write and the constants they read."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Array] = {}
        self._same: dict[tuple[Any, ...], str] = {}

    def declare(self, name: str, value: Value) -> str:
        """Add a value that no operator writes, under its name or one like it."""
        name = _fresh(name, self.values)
        self.values[name] = value
        return name

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any],
        constants: Mapping[str, Constant],
        where: str,
    ) -> str:
        """Add an operator and return the name of what it writes.

        Raises:
            Refused: its inputs, attributes and constants do not go together.
        """
        names = {role: self._constant(array, name or f"{where}.{role}") for role, (array, name) in constants.items()}
        op = Op(kind, tuple(inputs), _fresh(f"v{len(self.ops)}", self.values), dict(attributes), names, where)
        shapes = {role: array.shape for role, (array, _) in constants.items()}
        try:
            self.values[op.output] = infer(op, [self.values[name] for name in inputs], shapes)
        except ValueError as error:
            raise Refused(f"{kind}: {error}") from error
        self.ops.append(op)
        return op.output

    def _constant(self, array: Array, name: str) -> str:
        # The same memory, laid out the same way, is the same tensor.
        key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if key not in self._same:
            self._same[key] = _fresh(name.lstrip("."), self.constants)
            self.constants[self._same[key]] = array  # which also keeps the memory from being used again
        return self._same[key]

    def plan(self, inputs: Sequence[str], outputs: Sequence[str]) -> Plan:
        """Return the plan so far."""
        return Plan(tuple(inputs), tuple(outputs), dict(self.values), tuple(self.ops), dict(self.constants))


def with_activation(activation: str = "none", alpha: float = 0.0, beta: float = 0.0) -> dict[str, Any]:
    """Return the attributes that conv, linear and binary have in common.

    Example:
        >>> with_activation("relu")
        {'activation': 'relu', 'alpha': 0.0, 'beta': 0.0}
    """
    return {"activation": activation, "alpha": float(alpha), "beta": float(beta)}


def _fresh(name: str, taken: Mapping[str, Any]) -> str:
    number, wanted = 2, name
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
