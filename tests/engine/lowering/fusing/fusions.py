"""What tests of fusions share: plans of a layer and what is behind it, and whether results stay the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plans
from agreement import kinds
from plans import NONE, WINDOW, add, multiply, numbers, plan, unary

from secateur.engine.lowering import fusing
from secateur.engine.plan import Plan


def same(before: Plan, after: Plan) -> None:
    """The same inputs, outputs and results, by operators that go together."""
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    wanted, found = plans.results(before), plans.results(after)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-6)
    written = [*after.inputs, *(op.output for op in after.ops)]
    assert len(set(written)) == len(written)
    assert set(after.values) == set(written)


def step(function: Callable[[Plan], Plan], before: Plan, *wanted: str) -> Plan:
    after = function(before)
    same(before, after)
    assert kinds(after) == list(wanted)
    same(before, fusing.fused(before))
    return after


CONV = {**WINDOW, "padding": (1, 1, 1, 1), **NONE}

FILTERS = {
    "w": numbers(4, 3, 3, 3),
    "s": numbers(4, 1, 1, seed=1),
    "t": numbers(4, 1, 1, seed=2),
    "b": numbers(4, seed=3),
}


def conv_then(*ops: tuple[str, dict[str, object], str], bias: bool = False) -> Plan:
    """A convolution, and arithmetic with constants behind it."""
    roles = {"weight": "w", **({"bias": "b"} if bias else {})}
    made: list[tuple[object, ...]] = [("v0", "conv", "x", CONV, roles)]
    made += [
        (f"v{i}", kind, f"v{i - 1}", attributes, {"other": other}) for i, (kind, attributes, other) in enumerate(ops, 1)
    ]
    used = {"w", *(other for _, _, other in ops), *(["b"] if bias else [])}
    more = {"ones": np.ones(1, np.float32), "wide": numbers(4, 5, 1), "row": numbers(5), "high": numbers(2, 4, 1, 1)}
    constants = {name: array for name, array in {**FILTERS, **more}.items() if name in used}
    return plan({"x": (3, 5, 5)}, made, [f"v{len(ops)}"], constants)


def formula(*ops: tuple[object, ...], shape: tuple[int, ...] = (4, 6), **scalars: float) -> Plan:
    constants = {name: np.asarray(value, np.float64) for name, value in scalars.items()}
    return plan({"x": shape}, ops, [str(ops[-1][0])], constants)  # type: ignore[arg-type]


FORMULAS = {
    "gelu": formula(
        ("a", "binary", "x", multiply(how="divide"), {"other": "root"}),
        ("b", "unary", "a", unary("erf")),
        ("c", "binary", "b", add(), {"other": "one"}),
        ("d", "binary", "x", multiply(), {"other": "half"}),
        ("z", "binary", "d c", multiply()),
        root=2**0.5,
        one=1.0,
        half=0.5,
    ),
    "gelu_tanh": formula(
        ("a", "unary", "x", unary("power", 3.0)),
        ("b", "binary", "a", multiply(), {"other": "small"}),
        ("c", "binary", "x b", add()),
        ("d", "binary", "c", multiply(), {"other": "scale"}),
        ("e", "unary", "d", unary("tanh")),
        ("f", "binary", "e", add(), {"other": "one"}),
        ("g", "binary", "x f", multiply()),
        ("z", "binary", "g", multiply(), {"other": "half"}),
        small=0.044715,
        scale=0.7978845608,
        one=1.0,
        half=0.5,
    ),
    "silu": formula(("a", "unary", "x", unary("sigmoid")), ("z", "binary", "a x", multiply())),
    "hardsigmoid": formula(
        ("a", "binary", "x", add(), {"other": "three"}),
        ("b", "unary", "a", unary("relu6")),
        ("z", "binary", "b", multiply(how="divide"), {"other": "six"}),
        three=3.0,
        six=6.0,
    ),
    "hardswish": formula(
        ("a", "binary", "x", add(), {"other": "three"}),
        ("b", "unary", "a", unary("relu6")),
        ("c", "binary", "x b", multiply()),
        ("z", "binary", "c", multiply(how="divide"), {"other": "six"}),
        three=3.0,
        six=6.0,
    ),
    "rms_norm": formula(
        ("a", "unary", "x", unary("power", 2.0)),
        ("b", "reduce", "a", {"how": "mean", "axes": (1,), "keep": True}),
        ("c", "binary", "b", add(), {"other": "eps"}),
        ("d", "unary", "c", unary("rsqrt")),
        ("z", "binary", "x d", multiply()),
        eps=1e-3,
    ),
    "rms_norm, by a root": formula(
        ("a", "binary", "x x", multiply()),
        ("b", "reduce", "a", {"how": "mean", "axes": (0, 1), "keep": True}),
        ("c", "binary", "b", add(), {"other": "eps"}),
        ("d", "unary", "c", unary("sqrt")),
        ("z", "binary", "x d", multiply(how="divide")),
        eps=1e-3,
    ),
}
