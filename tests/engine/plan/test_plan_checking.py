"""A plan that passes ``check`` keeps every promise; whatever was changed in one is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import plans
import pytest
import reference

from secateur.engine.plan import KINDS, Op, Plan, Value, check
from secateur.vocabulary import CorruptFileError


def test_the_plan_of_these_tests_has_every_kind_and_passes() -> None:
    plan = plans.whole()
    assert {op.kind for op in plan.ops} == set(KINDS) == set(reference.OPERATORS)
    check(plan)
    assert plans.results(plan)["aa"].shape == (3, 3, 4, 2)


def with_op(plan: Plan, output: str, /, **changes: Any) -> Plan:
    """Return a plan with one operator changed; attributes and constants are merged in, None removes one."""
    ops = []
    for op in plan.ops:
        if op.output == output:
            new = dict(changes)
            for key in ("attributes", "constants"):
                if key in new:
                    joint = {**getattr(op, key), **new[key]}
                    new[key] = {name: value for name, value in joint.items() if value is not None}
            ops.append(replace(op, **new))
        else:
            ops.append(op)
    return replace(plan, ops=tuple(ops))


def with_constant(plan: Plan, name: str, array: Any) -> Plan:
    return replace(plan, constants={**plan.constants, name: array})


def with_value(plan: Plan, name: str, value: Any) -> Plan:
    return replace(plan, values={**plan.values, name: value})


OPS: dict[str, tuple[str, dict[str, Any], str]] = {
    "kind": ("c", {"kind": "convv"}, r"operator 0 .*unknown kind: did you mean 'conv'"),
    "no attribute": ("c", {"attributes": {"groups": None}}, "it has the attributes"),
    "attribute too many": ("r", {"attributes": {"more": 1}}, "it has the attributes"),
    "bool for int": ("c", {"attributes": {"groups": True}}, "its groups is True"),
    "int for float": ("n", {"attributes": {"eps": 0}}, "its eps is 0"),
    "float for int": ("n", {"attributes": {"groups": 2.0}}, "its groups is 2.0"),
    "int for bool": ("t", {"attributes": {"causal": 1}}, "its causal is 1"),
    "infinite": ("t", {"attributes": {"scale": float("inf")}}, "its scale is inf"),
    "beyond 32 bits": ("t", {"attributes": {"scale": 1e39}}, "its scale is 1e"),
    "not a number": ("d", {"attributes": {"value": float("nan")}}, "its value is nan"),
    "negative eps": ("n", {"attributes": {"eps": -1.0}}, "its eps is -1.0"),
    "list for tuple": ("z", {"attributes": {"order": [0, 2, 1]}}, "its order is"),
    "three of two": ("c", {"attributes": {"stride": (1, 1, 1)}}, "its stride is"),
    "stride of 0": ("c", {"attributes": {"stride": (0, 1)}}, "its stride is"),
    "negative padding": ("c", {"attributes": {"padding": (-1, 1, 1, 1)}}, "its padding is"),
    "enormous": ("c", {"attributes": {"padding": (1 << 40, 1, 1, 1)}}, "its padding is"),
    "activation": ("c", {"attributes": {"activation": "swish"}}, "its activation is swish"),
    "parameter of none": ("c", {"attributes": {"alpha": 0.5}}, "relu takes 0 parameters"),
    "second parameter": ("bb", {"attributes": {"beta": 0.5}}, "power takes 1 parameters"),
    "bounds": ("bb", {"attributes": plans.unary("clamp", 1.0, -1.0)}, "clamp to 1 and above"),
    "softplus": ("bb", {"attributes": plans.unary("softplus", 0.0, 1.0)}, "softplus with the factor 0"),
    "what is not there": ("m", {"inputs": ("nothing",)}, r"operator 1 \(max_pool at 'place.m'\): it reads 'nothing'"),
    "what comes later": ("m", {"inputs": ("s",)}, "'s', which is not there yet"),
    "what it writes itself": ("m", {"inputs": ("m",)}, "'m', which is not there yet"),
    "an input written": ("m", {"output": "x"}, "it writes 'x', which is there already"),
    "twice written": ("m", {"output": "c"}, "it writes 'c', which is there already"),
    "too few": ("m", {"inputs": ()}, "it reads 0 values, not 1 to 1"),
    "too many": ("m", {"inputs": ("c", "c")}, "it reads 2 values, not 1 to 1"),
    "no list of names": ("m", {"inputs": ["c"]}, "inputs of operator 1 are not a tuple"),
    "no name": ("m", {"inputs": (1,)}, "which is no name"),
    "half a character": ("m", {"where": "\ud800"}, "surrogates"),
    "whole numbers": ("m", {"inputs": ("i",)}, "it reads 'I64', not F32"),
    "floats as places": ("e", {"inputs": ("x",)}, "it reads 'F32', not I64"),
    "mixed types": ("v", {"inputs": ("e", "i")}, "it reads 'F32', 'I64', not values of one type"),
    "no weight": ("c", {"constants": {"weight": None}}, "it has the constants 'bias'"),
    "unknown role": ("c", {"constants": {"more": "bias"}}, "it has the constants"),
    "no constant": ("c", {"constants": {"weight": "w"}}, "its weight is 'w', which is not among the constants"),
    "weight of another shape": ("c", {"constants": {"weight": "linear"}}, "not 4 axes"),
    "bias of another shape": ("c", {"constants": {"bias": "row"}}, r"its bias has the shape \(6,\), not \(4,\)"),
    "groups": ("c", {"attributes": {"groups": 2}}, "2 groups do not fit"),
    "large kernel": ("c", {"attributes": {"dilation": (9, 9)}}, "larger than the padded input"),
    "another sum": ("o", {"inputs": ("q", "i")}, "it reads 'F32', 'I64'"),
    "another sum of floats": ("o", {"inputs": ("q", "e", "e")}, "it reads 3 values"),
    "wide padding": ("m", {"attributes": {"padding": (2, 0, 0, 0)}}, "is wider than its windows"),
    "wide gaps": ("m", {"attributes": {"kernel": (1, 1), "dilation": (9, 1)}}, "gaps of its windows"),
    "axes out of order": ("r", {"attributes": {"axes": (2, 1)}}, "not in order"),
    "axes beyond": ("r", {"attributes": {"axes": (1, 3)}}, "which has not all of the axes"),
    "softmax beyond": ("g", {"attributes": {"axis": 3}}, "no axis 3"),
    "another shape": ("y", {"attributes": {"shape": (3, 2, 3)}}, "cannot be laid out as"),
    "too many axes": ("y", {"attributes": {"shape": (1,) * 9}}, "a shape of 9 axes"),
    "no order": ("z", {"attributes": {"order": (0, 0, 1)}}, "no order of the axes"),
    "expanded otherwise": ("j", {"attributes": {"shape": (3, 5, 2)}}, "cannot be expanded"),
    "empty slice": ("w", {"attributes": {"start": 4}}, "is not a part of axis 0"),
    "slice beyond": ("w", {"attributes": {"stop": 9}}, "is not a part of axis 0"),
    "padding of one axis": ("d", {"attributes": {"padding": (1, 1)}}, "is not two numbers for each axis"),
    "swapped values": ("s", {"attributes": {"swapped": True}}, "two values are swapped"),
    "groups of channels": ("n", {"attributes": {"groups": 3}}, "3 groups do not fit"),
    "norm over too many": ("l", {"attributes": {"axes": 3}}, "fewer than 3 axes"),
    "another mask": ("t", {"constants": {"mask": "kept"}}, "its mask|broadcast together"),
    "other matrices": ("b", {"inputs": ("z", "n")}, "cannot be multiplied"),
    "parts that do not fit": ("v", {"inputs": ("e", "e", "f")}, "cannot be put together|one type"),
    "terabytes": ("d", {"attributes": {"padding": (1 << 30, 0, 1 << 30, 1, 0, 0)}}, "more than 2\\^40"),
    "another result": ("d", {"attributes": {"padding": (0, 0, 2, 2, 0, 0)}}, "but the plan says F32"),
}


@pytest.mark.parametrize("name", OPS)
def test_a_changed_operator_is_named(name: str) -> None:
    output, changes, said = OPS[name]
    with pytest.raises(CorruptFileError, match=said):
        check(with_op(plans.whole(), output, **changes))


PARTS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "float64": (lambda p: with_constant(p, "row", np.ones(6)), "'row' is no float32"),
    "other byte order": (lambda p: with_constant(p, "row", np.ones(6, ">f4")), "'row'"),
    "columns": (lambda p: with_constant(p, "linear", np.ones((6, 6), np.float32).T[::2].repeat(2, 0).T), "'linear'"),
    "strided": (lambda p: with_constant(p, "row", np.ones(12, np.float32)[::2]), "'row' is no float32"),
    "a list": (lambda p: with_constant(p, "row", [1.0] * 6), "'row' is no float32"),
    "unread constant": (
        lambda p: with_constant(p, "more", np.ones(1, np.float32)),
        "constants that nothing reads: 'more'",
    ),
    "empty constant": (lambda p: with_constant(p, "more", np.ones(0, np.float32)), "none empty"),
    "value too many": (lambda p: with_value(p, "more", Value((1,))), "values that no operator writes: 'more'"),
    "value of another shape": (lambda p: with_value(p, "c", Value((4, 6, 9))), "operator 0 .*it writes"),
    "value of another type": (lambda p: with_value(p, "c", Value((4, 6, 8), "I64")), "operator 0 .*it writes"),
    "empty axis": (lambda p: with_value(p, "x", Value((3, 0, 8))), "has the shape"),
    "nine axes": (lambda p: with_value(p, "x", Value((1,) * 9)), "8 axes are allowed"),
    "axis of a float": (lambda p: with_value(p, "x", Value((3.0, 6, 8))), "has the shape"),
    "no value": (lambda p: with_value(p, "x", (3, 6, 8)), "has no shape"),
    "input without shape": (lambda p: replace(p, inputs=("x", "i", "j2")), "an input has no shape"),
    "input twice": (lambda p: replace(p, inputs=("x", "x", "i")), "an input is named twice"),
    "no outputs": (lambda p: replace(p, outputs=()), "it has no outputs"),
    "output of nothing": (lambda p: replace(p, outputs=("aa", "nothing")), "outputs that no operator writes"),
    "unread value": (lambda p: replace(p, outputs=("aa",)), "values that nothing reads: 'bb'"),
    "other structure": (lambda p: replace(p, structure={"value": "aa"}), "does not hold its outputs"),
    "no structure": (lambda p: replace(p, structure={"values": "aa"}), "described by a tree"),
    "other arguments": (lambda p: replace(p, arguments={"args": [], "kwargs": {}}), "do not hold its inputs"),
    "no arguments": (lambda p: replace(p, arguments={}), "not described by args and kwargs"),
    "argument twice": (
        lambda p: replace(p, arguments={"args": [["x", {"value": "x"}]], "kwargs": {"x": {"value": "i"}}}),
        "an argument is named twice",
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_changed_part_is_named(name: str) -> None:
    change, said = PARTS[name]
    with pytest.raises(CorruptFileError, match=said):
        check(change(plans.whole()))


def test_an_input_may_be_unread_and_an_output_may_be_an_input() -> None:
    check(plans.plan({"x": (3,), "y": (2,)}, [("z", "unary", "x", plans.unary("exp"))], ["z", "x", "z"]))
    check(plans.plan({"x": (3,)}, [], ["x"]))


def test_an_error_of_a_long_name_stays_short() -> None:
    op = Op("x" * 900, ("x",), "y")
    with pytest.raises(CorruptFileError) as error:
        check(Plan(("x",), ("y",), {"x": Value((1,)), "y": Value((1,))}, (op,), {}))
    assert len(str(error.value)) < 1500


def test_a_plan_prints_as_a_table() -> None:
    lines = str(plans.whole()).splitlines()
    assert lines[2].split() == ["input", "x", "F32[3,", "6,", "8]"]
    first = next(line for line in lines if line.startswith("0 "))
    assert "4x3x3x3, 1 kept" in first
    assert first.endswith("relu padding=(1,1,1,1)")
    assert lines[-1] == "26 operators, 7 constants of 188 numbers; the outputs are aa, bb"
