"""Hold a plan to what its operators mean; whoever runs one that passed need not look again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secateur.engine.plan.calling import check_tree, leaves
from secateur.engine.plan.kinds import KINDS
from secateur.engine.plan.shapes import MAX_RANK
from secateur.engine.plan.values import Op, Plan, Shape, Value
from secateur.pack.kept import Kept
from secateur.vocabulary import CorruptFileError, near_matches

__all__ = ["check", "infer"]

MAX_ELEMENTS = 1 << 40
MAX_NAME = 1000
DTYPES = ("F32", "I64")


def check(plan: Plan) -> None:
    """Verify everything that a runtime relies on.

    That is: every kind is known and has its attributes, of the right types and in range, and no other; every value is
    written once, before it is read, with the shape and type that its operator gives; every constant is a float32 array
    in C order with the shape its operator needs; nothing is there that is not used, but an input; no value has more
    than 8 axes or 2^40 numbers, or an axis of none.

    Raises:
        CorruptFileError: naming the operator by its number, and what is wrong.

    Example:
        >>> op = Op("reshape", ("x",), "y", {"shape": (2, 3)}, where="flatten")
        >>> values = {"x": Value((7,)), "y": Value((2, 3))}
        >>> check(Plan(("x",), ("y",), values, (op,), {}))
        Traceback (most recent call last):
        ...
        secateur.vocabulary.CorruptFileError: the plan is damaged: operator 0 (reshape at 'flatten'): (7,) cannot be ...
    """
    try:
        _check_types(plan)
        known = {name: plan.values[name] for name in plan.inputs}
        for number, op in enumerate(plan.ops):
            try:
                _check_op(op, known, plan)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"operator {number} ({_short(op.kind)} at {_short(op.where)!r}): {error}") from error
        _check_use(plan, known)
        _check_calling(plan)
    except ValueError as error:
        raise CorruptFileError(f"the plan is damaged: {error}") from error


def infer(op: Op, inputs: Sequence[Value], constants: Mapping[str, Shape]) -> Value:
    """Return the value that an operator writes.

    Args:
        op: whose kind and attributes are used, not its names.
        inputs: the values it reads.
        constants: shapes by role.

    Raises:
        ValueError: they do not go together.

    Example:
        >>> infer(Op("unary", ("x",), "y", {"how": "relu", "alpha": 0.0, "beta": 0.0}), [Value((3, 4))], {})
        Value(shape=(3, 4), dtype='F32')
    """
    kind = _checked_kind(op)
    fewest, most = kind.inputs
    if not fewest <= len(inputs) <= most:
        raise ValueError(f"it reads {len(inputs)} values, not {fewest} to {most}")
    if not set(kind.required) <= constants.keys() <= {*kind.required, *kind.optional}:
        raise ValueError(f"it has the constants {_names(constants)}, not {_names([*kind.required, *kind.optional])}")
    reads = {value.dtype for value in inputs}
    if len(reads) > 1 or (kind.reads and reads - {kind.reads}):
        raise ValueError(f"it reads {_names(reads)}, not {kind.reads or 'values of one type'}")
    shape = kind.shape(op.attributes, [value.shape for value in inputs], constants)
    found = Value(shape, "F32" if kind.reads or not reads else reads.pop())
    _check_value(found, "what it writes")
    return found


def _checked_kind(op: Op) -> Any:
    kind = KINDS.get(op.kind)
    if kind is None:
        raise ValueError(f"an unknown kind: {near_matches(_short(op.kind), KINDS)}")
    if op.attributes.keys() != kind.attributes.keys():
        raise ValueError(f"it has the attributes {_names(op.attributes)}, not {_names(kind.attributes)}")
    for name, value in op.attributes.items():
        if not kind.attributes[name].fits(value):
            raise ValueError(f"its {name} is {_short(value)}, not one of {kind.attributes[name]}")
    return kind


def _check_op(op: Op, known: dict[str, Value], plan: Plan) -> None:
    for name in op.inputs:
        if name not in known:
            raise ValueError(f"it reads {_short(name)!r}, which is not there yet")
    if op.output in known:
        raise ValueError(f"it writes {_short(op.output)!r}, which is there already")
    shapes = {}
    for role, name in op.constants.items():
        if name not in plan.constants:
            raise ValueError(f"its {_short(role)} is {_short(name)!r}, which is not among the constants")
        shapes[role] = tuple(plan.constants[name].shape)
    found = infer(op, [known[name] for name in op.inputs], shapes)
    if plan.values.get(op.output) != found:
        raise ValueError(f"it writes {found}, but the plan says {_short(plan.values.get(op.output))}")
    known[op.output] = found


def _check_use(plan: Plan, known: Mapping[str, Value]) -> None:
    """Refuse what is never written, or never read."""
    read = {name for op in plan.ops for name in op.inputs} | set(plan.outputs)
    for what, names in (
        ("outputs that no operator writes", set(plan.outputs) - known.keys()),
        ("values that no operator writes", plan.values.keys() - known.keys()),
        ("values that nothing reads", known.keys() - read - set(plan.inputs)),
        ("constants that nothing reads", plan.constants.keys() - {n for op in plan.ops for n in op.constants.values()}),
    ):
        if names:
            raise ValueError(f"it has {what}: {_names(names)}")


def _check_calling(plan: Plan) -> None:
    check_tree(plan.structure)
    if tuple(leaves(plan.structure)) != plan.outputs:
        raise ValueError("the structure of its result does not hold its outputs, in order")
    arguments = plan.arguments
    if not isinstance(arguments, Mapping) or arguments.keys() != {"args", "kwargs"}:
        raise ValueError("its arguments are not described by args and kwargs")
    args, kwargs = arguments["args"], arguments["kwargs"]
    if not isinstance(args, list) or not isinstance(kwargs, Mapping):
        raise ValueError("its arguments are not a list and a dict")
    if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in args):
        raise ValueError("its arguments are not named")
    if len({*kwargs, *(pair[0] for pair in args)}) < len(args) + len(kwargs):
        raise ValueError("an argument is named twice")
    trees = [*(pair[1] for pair in args), *kwargs.values()]
    for tree in trees:
        check_tree(tree)
    if tuple(name for tree in trees for name in leaves(tree)) != plan.inputs:
        raise ValueError("its arguments do not hold its inputs, in order")


def _check_types(plan: Plan) -> None:
    """Verify what can be said of each part alone."""
    _check_names(plan.inputs, "its inputs")
    _check_names(plan.outputs, "its outputs")
    if len(set(plan.inputs)) != len(plan.inputs):
        raise ValueError("an input is named twice")
    if not plan.outputs:
        raise ValueError("it has no outputs")
    for name, value in plan.values.items():
        _check_names((name,), "its values")
        _check_value(value, f"the value {_short(name)!r}")
    if set(plan.inputs) - plan.values.keys():
        raise ValueError("an input has no shape")
    for name, array in plan.constants.items():
        _check_names((name,), "its constants")
        _check_constant(name, array)
    for number, op in enumerate(plan.ops):
        _check_names(op.inputs, f"the inputs of operator {number}")
        words = (op.kind, op.output, *op.constants.keys(), *op.constants.values(), *op.attributes.keys())
        _check_names(words, f"what operator {number} says")
        _check_names((op.where or "-",), f"the place of operator {number}")


def _check_names(names: Any, what: str) -> None:
    if not isinstance(names, tuple):
        raise ValueError(f"{what} are not a tuple of names")
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"{what} are named {_short(name)!r}, which is no name")
        name.encode()  # not half a character


def _check_value(value: Any, what: str) -> None:
    if not isinstance(value, Value) or not isinstance(value.shape, tuple) or value.dtype not in DTYPES:
        raise ValueError(f"{what} has no shape, or a type that is none of {_names(DTYPES)}")
    if len(value.shape) > MAX_RANK or not all(type(size) is int and size >= 1 for size in value.shape):
        raise ValueError(f"{what} has the shape {_short(value.shape)}; 8 axes are allowed, each of 1 or more")
    if math.prod(value.shape) > MAX_ELEMENTS:
        raise ValueError(f"{what} has the shape {_short(value.shape)}: more than 2^40 numbers")


def _check_constant(name: str, array: Any) -> None:
    whole = isinstance(array, np.ndarray) and array.flags.c_contiguous
    if not (whole or isinstance(array, Kept)) or array.dtype != np.float32:
        raise ValueError(f"the constant {_short(name)!r} is no float32 array in C order")
    if len(array.shape) > MAX_RANK or not array.dtype.isnative or array.size == 0:
        raise ValueError(f"the constant {_short(name)!r} has the shape {array.shape}; 8 axes are allowed, none empty")


def _short(thing: Any) -> str:
    text = str(thing)
    return text if len(text) <= 100 else text[:100] + "..."


def _names(names: Any) -> str:
    return ", ".join(repr(_short(name)) for name in sorted(names)[:10]) or "none"
