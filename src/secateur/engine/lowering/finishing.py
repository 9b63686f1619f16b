"""The last steps: what differs between two plans, and a plan that can be run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from secateur.engine.plan import Op, Plan
from secateur.engine.plan.values import Array

__all__ = ["finished", "first_difference"]


def first_difference(one: Plan, two: Plan) -> str:
    """Return where two plans differ first, in words; nothing if they are equal."""
    for first, second in zip(one.ops, two.ops, strict=False):
        constants = zip(first.constants.items(), second.constants.items(), strict=False)
        if first != second or not all(_equal(one, two, left, right) for left, right in constants):
            return f"{first.kind} at {first.where or 'the model itself'}"
    same = (one.inputs, one.outputs, one.values, one.structure) == (two.inputs, two.outputs, two.values, two.structure)
    return "" if same and len(one.ops) == len(two.ops) else "it has another plan for another number"


def _equal(one: Plan, two: Plan, left: tuple[str, str], right: tuple[str, str]) -> bool:
    first, second = np.asarray(one.constants[left[1]]), np.asarray(two.constants[right[1]])
    address = "__array_interface__"
    same = getattr(first, address)["data"] == getattr(second, address)["data"] and first.strides == second.strides
    return same or np.array_equal(first, second, equal_nan=True)


def finished(plan: Plan) -> Plan:
    """Return a plan with constants of its own, in float32 and once each, and values numbered as they come."""
    arrays = {name: np.array(array, np.float32, order="C") for name, array in plan.constants.items()}
    names, constants = _once(arrays)
    values = {name: name for name in plan.inputs}
    number = 0
    for op in plan.ops:
        while f"v{number}" in plan.inputs:
            number += 1
        values[op.output] = f"v{number}"
        number += 1
    ops = tuple(
        Op(
            op.kind,
            tuple(values[name] for name in op.inputs),
            values[op.output],
            op.attributes,
            {role: names[name] for role, name in op.constants.items()},
            op.where,
        )
        for op in plan.ops
    )
    return Plan(
        plan.inputs,
        tuple(values[name] for name in plan.outputs),
        {values[name]: value for name, value in plan.values.items()},
        ops,
        constants,
        plan.arguments,
        _renamed(plan.structure, values),
    )


def _once(arrays: Mapping[str, Array]) -> tuple[dict[str, str], dict[str, Array]]:
    """Return the name that stands for each of several equal arrays, and the arrays by those."""
    first: dict[tuple[Any, ...], str] = {}
    names = {}
    for name, array in arrays.items():
        key = (array.shape, hashlib.sha256(array.tobytes()).digest())
        names[name] = first.setdefault(key, name)
    return names, {name: arrays[name] for name in first.values()}


def _renamed(tree: Any, values: Mapping[str, str]) -> Any:
    if isinstance(tree, list):
        return [_renamed(each, values) for each in tree]
    if not isinstance(tree, Mapping):
        return tree
    if "value" in tree:
        return {**tree, "value": values[tree["value"]]}
    return {
        key: {name: _renamed(each, values) for name, each in found.items()}
        if key == "dict"
        else _renamed(found, values)
        for key, found in tree.items()
    }
