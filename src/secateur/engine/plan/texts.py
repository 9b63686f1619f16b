"""A plan as JSON, without its constants; what is read is held to everything a plan must be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from secateur.engine.plan.checking import check
from secateur.engine.plan.values import Constant, Op, Plan, Value
from secateur.vocabulary import CorruptFileError

__all__ = ["from_json", "to_json"]

VERSION = 1
MAX_TEXT = 1 << 28
_KEYS = {"plan", "inputs", "outputs", "values", "ops", "arguments", "structure"}
_OP_KEYS = {"kind", "inputs", "output", "attributes", "constants", "where"}


def to_json(plan: Plan) -> str:
    """Return a plan as JSON, one operator a line; the constants are named but not held.

    Raises:
        CorruptFileError: it is not a plan that could be read again.

    Example:
        >>> op = Op("unary", ("x",), "y", {"how": "exp", "alpha": 0.0, "beta": 0.0})
        >>> arguments = {"args": [["x", {"value": "x"}]], "kwargs": {}}
        >>> plan = Plan(("x",), ("y",), {"x": Value((3,)), "y": Value((3,))}, (op,), {}, arguments, {"value": "y"})
        >>> from_json(to_json(plan), {}).ops == plan.ops
        True
    """
    check(plan)
    ops = [
        _line(
            {
                "kind": op.kind,
                "inputs": list(op.inputs),
                "output": op.output,
                "attributes": dict(op.attributes),
                "constants": dict(op.constants),
                "where": op.where,
            }
        )
        for op in plan.ops
    ]
    parts = {
        "plan": _line(VERSION),
        "inputs": _line(list(plan.inputs)),
        "outputs": _line(list(plan.outputs)),
        "arguments": _line(plan.arguments),
        "structure": _line(plan.structure),
        "values": _line({name: [value.dtype, *value.shape] for name, value in plan.values.items()}),
        "ops": "[\n" + ",\n".join(ops) + "\n]",
    }
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {text}" for key, text in parts.items()) + "\n}\n"


def _line(thing: Any) -> str:
    return json.dumps(thing, allow_nan=False)


def from_json(text: str, constants: Mapping[str, Constant]) -> Plan:
    """Read a plan that :func:`to_json` wrote, and check it.

    Args:
        text: the JSON.
        constants: every array that the plan names, and no other; float32, C order, or without their zeros.

    Raises:
        CorruptFileError: the text is not such JSON, or the plan does not pass :func:`~secateur.engine.plan.check`.
    """
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"it has {len(text):,} characters; {MAX_TEXT:,} are allowed")
        plan = _plan(json.loads(text, object_pairs_hook=_once, parse_constant=_refuse), constants)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"this is not the JSON of a plan: {str(error)[:300]}") from error
    check(plan)
    return plan


def _plan(thing: Any, constants: Mapping[str, Constant]) -> Plan:
    whole = _dict(thing, "the plan")
    if type(whole.get("plan")) is not int or whole["plan"] != VERSION:
        raise ValueError(f"its version is {str(whole.get('plan'))[:20]}, known here is {VERSION}; update secateur")
    if whole.keys() != _KEYS:
        raise ValueError(f"it has the keys {sorted(whole)[:10]}")
    values = {name: _value(each) for name, each in _dict(whole["values"], "its values").items()}
    return Plan(
        _tuple(whole["inputs"], _text),
        _tuple(whole["outputs"], _text),
        values,
        _tuple(whole["ops"], _op),
        dict(constants),
        _dict(whole["arguments"], "its arguments"),
        _dict(whole["structure"], "its structure"),
    )


def _op(thing: Any) -> Op:
    whole = _dict(thing, "an operator")
    if whole.keys() != _OP_KEYS:
        raise ValueError(f"an operator has the keys {sorted(whole)[:10]}")
    constants = {role: _text(name) for role, name in _dict(whole["constants"], "constants").items()}
    attributes = {name: _attribute(each) for name, each in _dict(whole["attributes"], "attributes").items()}
    inputs = _tuple(whole["inputs"], _text)
    return Op(_text(whole["kind"]), inputs, _text(whole["output"]), attributes, constants, _text(whole["where"]))


def _value(thing: Any) -> Value:
    words = _tuple(thing, lambda each: each)
    if not words or not all(type(size) is int for size in words[1:]):
        raise ValueError(f"a value is {str(thing)[:100]}, not a type and a shape")
    return Value(words[1:], _text(words[0]))


def _attribute(thing: Any) -> Any:
    if isinstance(thing, list):
        return _tuple(thing, _number)
    if type(thing) not in (int, float, bool, str):
        raise ValueError(f"an attribute is {str(thing)[:100]}")
    return thing


def _number(thing: Any) -> int:
    if type(thing) is not int:
        raise ValueError(f"{str(thing)[:100]} stands where a whole number should")
    return thing


def _text(thing: Any) -> str:
    if not isinstance(thing, str):
        raise ValueError(f"{str(thing)[:100]} stands where a text should")
    return thing


def _tuple(thing: Any, each: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(thing, list):
        raise ValueError(f"{str(thing)[:100]} stands where a list should")
    return tuple(each(part) for part in thing)


def _dict(thing: Any, what: str) -> dict[str, Any]:
    if not isinstance(thing, dict):
        raise ValueError(f"{str(thing)[:100]} stands where {what} should")
    return thing


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it says something twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}, which is not JSON")
