"""What a plan consists of: values, operators and constants; ``print`` shows them as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

from secateur.pack.kept import Kept, count_kept

__all__ = ["Array", "Attribute", "Constant", "Op", "Plan", "Shape", "Value"]

Shape: TypeAlias = "tuple[int, ...]"
Attribute: TypeAlias = "int | float | bool | str | tuple[int, ...]"
Array: TypeAlias = NDArray[Any]
Constant: TypeAlias = "Array | Kept"


@dataclass(frozen=True)
class Value:
    """The shape and type of what one sample brings to an operator; the batch axis is implicit, and first.

    Attributes:
        shape: of one sample, each axis at least 1; ``()`` for a single number.
        dtype: "F32", or "I64" for indices that are given as input.

    Example:
        >>> str(Value((3, 32, 32)))
        'F32[3, 32, 32]'
    """

    shape: Shape
    dtype: str = "F32"

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Op:
    """One operator: it reads values that are there and writes a new one.

    Attributes:
        kind: a key of :data:`~secateur.engine.plan.KINDS`.
        inputs: names of the values it reads, in the order of its kind.
        output: name of the value it writes.
        attributes: all that its kind has, and no other.
        constants: from a role ("weight", "bias", ...) to a name in the plan's constants.
        where: the place in the model it comes from ("layer1.0.conv1"), for tables and errors.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    def __str__(self) -> str:
        head = f"{self.output} = {self.kind}({', '.join(self.inputs)})"
        return head + (f" at {self.where}" if self.where else "")


@dataclass(frozen=True, eq=False)
class Plan:
    """A model as a list of operators in the order in which they run.

    Attributes:
        inputs: names of the values that a call gives, in order.
        outputs: names of the values that a call returns; one may be named twice, or be an input.
        values: of every name, its shape and type.
        ops: the operators.
        constants: the arrays that operators name: float32, C order; or without their zeros.
        arguments: how the arguments of a call hold the inputs, see :func:`~secateur.engine.plan.gathered`.
        structure: how the result of a call holds the outputs, see :func:`~secateur.engine.plan.structured`.

    Example:
        >>> ops = (Op("unary", ("x",), "y", {"how": "exp", "alpha": 0.0, "beta": 0.0}, where="head"),)
        >>> print(Plan(("x",), ("y",), {"x": Value((3,)), "y": Value((3,))}, ops, {}))
        #  kind   where  reads  writes  value   weights  with
        -  -----  -----  -----  ------  ------  -------  ----
           input                x       F32[3]
        0  unary  head   x      y       F32[3]           exp
        1 operator, 0 constants of 0 numbers; the outputs are y
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    ops: tuple[Op, ...]
    constants: Mapping[str, Constant]
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"args": [], "kwargs": {}})
    structure: Mapping[str, Any] = field(default_factory=lambda: {"tuple": []})

    def __str__(self) -> str:
        head = ["#", "kind", "where", "reads", "writes", "value", "weights", "with"]
        rows = [["", "input", "", "", name, str(self.values[name]), "", ""] for name in self.inputs]
        rows += [self._row(number, op) for number, op in enumerate(self.ops)]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [head, ["-" * width for width in widths], *rows]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        size = sum(array.size for array in self.constants.values())
        count = (
            f"{len(self.ops)} operator{'s' * (len(self.ops) != 1)}, {len(self.constants)} constants of {size:,} numbers"
        )
        return "\n".join([*table, f"{count}; the outputs are {', '.join(self.outputs)}"])

    def _row(self, number: int, op: Op) -> list[str]:
        weight = self.constants.get(op.constants.get("weight", ""))
        shape = "" if weight is None else f"{'x'.join(map(str, weight.shape))}, {_density(weight):.3g} kept"
        reads, value = " ".join(op.inputs), str(self.values[op.output])
        return [str(number), op.kind, op.where, reads, op.output, value, shape, _settings(op, self.constants)]


def _density(array: Constant) -> float:
    return count_kept(array) / max(1, array.size)


def _settings(op: Op, constants: Mapping[str, Constant]) -> str:
    """Return what is particular about an operator."""
    words = [str(op.attributes[name]) for name in ("how", "activation") if op.attributes.get(name, "none") != "none"]
    usual = {
        "stride": (1, 1),
        "dilation": (1, 1),
        "padding": (0, 0, 0, 0),
        "groups": 1,
        "swapped": False,
        "causal": False,
    }
    for name, value in op.attributes.items():
        unset = name in ("alpha", "beta") and value == 0
        if name not in ("how", "activation") and not unset and usual.get(name, ...) != value:
            text = f"{value:.6g}" if isinstance(value, float) else str(value).replace(" ", "")
            words.append(f"{name}={text}")
    for role, name in op.constants.items():
        if role not in ("weight", "bias"):
            words.append(f"{role}={'x'.join(map(str, constants[name].shape)) or constants[name]}")
    return " ".join(words)
