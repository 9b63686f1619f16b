"""Plans as JSON: what was written is read, and nothing that was tampered with gets through."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import plans
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.plan import Plan, Value, check, from_json, to_json
from secateur.vocabulary import CorruptFileError

WHOLE = plans.whole()
TEXT = to_json(WHOLE)


def test_a_plan_is_read_as_it_was_written() -> None:
    again = from_json(TEXT, WHOLE.constants)
    for part in ("inputs", "outputs", "values", "ops", "arguments", "structure"):
        assert getattr(again, part) == getattr(WHOLE, part), part
    assert str(again) == str(WHOLE)
    assert to_json(again) == TEXT


def test_each_operator_has_a_line_and_no_number_of_a_constant_is_there() -> None:
    assert sum(line.startswith('{"kind"') for line in TEXT.splitlines()) == len(WHOLE.ops)
    assert len(TEXT) < 10_000


def test_what_is_no_plan_is_not_written() -> None:
    with pytest.raises(CorruptFileError):
        to_json(Plan(("x",), (), {"x": Value((1,))}, (), {}))


BAD = {
    "empty": "",
    "no JSON": TEXT[:-20],
    "list": "[]",
    "number": "1",
    "NaN": TEXT.replace("1e-06", "NaN"),
    "infinity": TEXT.replace("1e-06", "Infinity"),
    "large": TEXT.replace("1e-06", "1e999"),
    "long number": TEXT.replace("1e-06", "9" * 5000),
    "deep": "[" * 100_000,
    "deep structure": TEXT.replace('{"tuple": [{"value"', '{"tuple": [' + '{"tuple": [' * 60 + '{"value"'),
    "twice": TEXT.replace('"plan": 1', '"plan": 1, "plan": 1'),
    "other version": TEXT.replace('"plan": 1', '"plan": 2'),
    "version of a bool": TEXT.replace('"plan": 1', '"plan": true'),
    "no version": TEXT.replace('"plan": 1,', ""),
    "more": TEXT.replace('"plan": 1', '"plan": 1, "more": 1'),
    "nul": TEXT.replace('"place.c"', '"\\ud800"'),
    "no kind": TEXT.replace('"kind": "conv"', '"kinds": "conv"'),
    "nested attribute": TEXT.replace('"order": [0, 2, 1]', '"order": [[2], 0, 1]'),
    "attribute of a dict": TEXT.replace('"order": [0, 2, 1]', '"order": {}'),
    "attribute of nothing": TEXT.replace('"order": [0, 2, 1]', '"order": null'),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_texts_are_refused(name: str) -> None:
    assert BAD[name] != TEXT
    with pytest.raises(CorruptFileError):
        from_json(BAD[name], WHOLE.constants)


def test_constants_must_be_those_of_the_plan() -> None:
    with pytest.raises(CorruptFileError, match="not among the constants"):
        from_json(TEXT, {})
    with pytest.raises(CorruptFileError, match="nothing reads"):
        from_json(TEXT, {**WHOLE.constants, "more": plans.numbers(2)})


NUMBERS = [0, 1, -1, 2, 3, 7, 1 << 31, 1 << 63, 1 << 200, 0.0, -0.0, 0.5, 1e300]
WORDS = ["", "x", "c", "F32", "I64", "conv", "linear", "none", "relu", "weight", "\ud800"]
OTHERS = [None, True, False, [], [1], [2, 2], [[1]], {}, {"value": "x"}, [0] * 9]
SCRAPS = st.sampled_from([*NUMBERS, *WORDS, *OTHERS]).map(copy.deepcopy)


@st.composite
def tampered(draw: st.DrawFn) -> Any:
    """The JSON of a plan with a few places changed, removed or copied elsewhere."""
    thing = json.loads(TEXT)
    for _ in range(draw(st.integers(1, 3))):
        parent, key = thing, draw(st.sampled_from(sorted(thing)))
        for _ in range(draw(st.integers(0, 4))):
            inner = parent[key]
            if not isinstance(inner, dict | list) or not inner:
                break
            parent = inner
            key = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        how = draw(st.sampled_from(["replace", "replace", "nudge", "remove", "copy"]))
        if how == "remove":
            del parent[key]
            if not isinstance(thing, dict) or not thing:
                return thing
        elif how == "nudge" and type(parent[key]) in (int, float):
            parent[key] += draw(st.sampled_from([-2, -1, 1, 2]))
        elif how == "copy" and isinstance(parent, list):
            parent.insert(draw(st.integers(0, len(parent))), parent[key])
        else:
            parent[key] = draw(SCRAPS)
    return thing


@given(tampered())
@settings(max_examples=600)
def test_what_was_tampered_with_is_refused_or_is_a_plan_that_runs(thing: Any) -> None:
    try:
        plan = from_json(json.dumps(thing), WHOLE.constants)
    except CorruptFileError:
        return
    check(plan)
    for op in plan.ops:
        assert all(math.isfinite(v) for v in op.attributes.values() if isinstance(v, float))
    if all(math.prod(value.shape) < 1 << 20 for value in plan.values.values()):
        found = plans.results(plan)  # whose shapes the reference compares with those of the plan
        assert found.keys() == set(plan.outputs)


@given(st.recursive(SCRAPS, lambda each: st.lists(each) | st.dictionaries(st.text(max_size=5), each)), st.text())
def test_other_texts_are_refused(thing: Any, text: str) -> None:
    for bad in (json.dumps(thing), text, TEXT[: min(len(text) * 50, len(TEXT) - 5)]):
        with pytest.raises(CorruptFileError):
            from_json(bad, WHOLE.constants)
