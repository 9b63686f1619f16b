"""Plans written by hand, for tests that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import reference
from numpy.typing import NDArray

from secateur.engine.plan import Op, Plan, Value
from secateur.engine.plan.checking import infer

RELU = {"activation": "relu", "alpha": 0.0, "beta": 0.0}
NONE = {"activation": "none", "alpha": 0.0, "beta": 0.0}
WINDOW = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


def add(**more: Any) -> dict[str, Any]:
    return {"how": "add", "swapped": False, **NONE, **more}


def multiply(**more: Any) -> dict[str, Any]:
    return {"how": "multiply", "swapped": False, **NONE, **more}


def unary(how: str, alpha: float = 0.0, beta: float = 0.0) -> dict[str, Any]:
    return {"how": how, "alpha": alpha, "beta": beta}


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Numbers that differ, none of them 0."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plan(
    inputs: Mapping[str, Sequence[int]],
    ops: Sequence[tuple[Any, ...]],
    outputs: Sequence[str],
    constants: Mapping[str, NDArray[Any]] | None = None,
) -> Plan:
    """Return a plan of operators, each ``(output, kind, inputs, attributes[, constants])``.

    Args:
        inputs: shapes by name; a name that begins with "i" is of whole numbers.
        ops: names in a string, with spaces between.
        outputs: names.
        constants: arrays by name.
    """
    constants = dict(constants or {})
    values = {name: Value(tuple(shape), "I64" if name[0] == "i" else "F32") for name, shape in inputs.items()}
    made = []
    for output, kind, reads, attributes, *rest in ops:
        roles = rest[0] if rest else {}
        op = Op(kind, tuple(reads.split()), output, attributes, roles, f"place.{output}")
        shapes = {role: constants[name].shape for role, name in roles.items()}
        values[output] = infer(op, [values[name] for name in op.inputs], shapes)
        made.append(op)
    arguments = {"args": [[name, {"value": name}] for name in inputs], "kwargs": {}}
    structure = {"tuple": [{"value": name} for name in outputs]}
    return Plan(tuple(inputs), tuple(outputs), values, tuple(made), constants, arguments, structure)


def results(plan: Plan, samples: int = 3) -> dict[str, NDArray[Any]]:
    """Return the outputs of a plan for numbers that depend on its inputs alone."""
    inputs = {}
    for seed, name in enumerate(plan.inputs):
        shape = (samples, *plan.values[name].shape)
        whole = plan.values[name].dtype == "I64"
        inputs[name] = np.arange(np.prod(shape)).reshape(shape) % 3 if whole else numbers(*shape, seed=100 + seed)
    return reference.run(plan, inputs)


def whole() -> Plan:
    """Return a plan that has every kind of operator."""
    constants = {
        "conv": numbers(4, 3, 3, 3),
        "bias": numbers(4),
        "table": numbers(3, 6),
        "linear": numbers(6, 6),
        "row": numbers(6),
        "mask": np.zeros((2, 2), np.float32),
        "kept": numbers(2, 6),
    }
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
    ops = [
        ("c", "conv", "x", {**WINDOW, "padding": (1, 1, 1, 1), **RELU}, {"weight": "conv", "bias": "bias"}),
        ("m", "max_pool", "c", {**window, "dilation": (1, 1)}),
        ("a", "average_pool", "c", {**window, "count_padding": True}),
        ("s", "binary", "m a", {"how": "maximum", "swapped": False, **NONE}),
        ("p", "adaptive_pool", "s", {"size": (3, 2), "how": "average"}),
        ("u", "upsample_nearest", "p", {"factors": (1, 2)}),
        ("n", "group_norm", "u", {"groups": 2, "eps": 1e-5}, {"weight": "bias"}),
        ("r", "reduce", "n", {"how": "mean", "axes": (1, 2), "keep": False}),
        ("e", "embedding", "i", {}, {"weight": "table"}),
        ("f", "cast", "i", {}),
        ("k", "constant", "", {}, {"value": "kept"}),
        ("v", "concat", "e k", {"axis": 0}),
        ("w", "slice", "v", {"axis": 0, "start": 0, "stop": 4, "step": 2}),
        ("l", "layer_norm", "w", {"axes": 1, "eps": 1e-5}, {"weight": "row", "bias": "row"}),
        ("q", "rms_norm", "l", {"axes": 2, "eps": 1e-6}),
        ("o", "linear", "q w", RELU, {"weight": "linear"}),
        ("t", "attention", "o l w", {"scale": 0.5, "causal": True}, {"mask": "mask"}),
        ("y", "reshape", "t", {"shape": (3, 2, 2)}),
        ("z", "permute", "y", {"order": (0, 2, 1)}),
        ("b", "matmul", "z y", {"swapped": False}),
        ("d", "pad", "b", {"padding": (0, 0, 1, 1, 0, 0), "value": 0.5}),
        ("g", "softmax", "d", {"axis": 2}),
        ("h", "reshape", "r", {"shape": (1, 4, 1)}),
        ("j", "expand", "h", {"shape": (3, 4, 2)}),
        ("aa", "binary", "g j", add(activation="tanh")),
        ("bb", "unary", "f", unary("power", 2.0)),
    ]
    return plan({"x": (3, 6, 8), "i": (2,)}, ops, ["aa", "bb"], constants)
