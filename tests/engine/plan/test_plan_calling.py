"""How arguments become inputs, and outputs a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secateur.engine.plan import gathered, structured
from secateur.engine.plan.calling import ArgumentsError

ARGUMENTS = {
    "args": [["x", {"value": "a"}], ["rest", {"tuple": [{"value": "b"}, {"dict": {"k": {"value": "c"}}}]}]],
    "kwargs": {"flag": {"constant": True}, "unused": {"ignored": True}, "none": {"constant": None}},
}
NAMED = {"flag": True, "unused": object(), "none": None}


def test_arguments_are_found_by_place_and_by_name() -> None:
    wanted = {"a": 1, "b": 2, "c": 3}
    assert gathered(ARGUMENTS, (1, (2, {"k": 3})), NAMED) == wanted
    assert gathered(ARGUMENTS, (1,), {"rest": [2, {"k": 3}], **NAMED}) == wanted
    assert gathered(ARGUMENTS, (), {"x": 1, "rest": (2, {"k": 3}), **NAMED}) == wanted


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((1,), NAMED, r"without \['rest'\]"),
        ((1, (2, {"k": 3})), {**NAMED, "more": 1}, r"with \['more'\]"),
        ((1, (2, {"k": 3}), 4), NAMED, "3 arguments by position"),
        ((1, (2, {"k": 3})), {**NAMED, "x": 1}, "2 arguments by position"),
        ((1, (2, {"k": 3})), {**NAMED, "flag": False}, "flag is False; the plan was made with True"),
        ((1, (2, {"k": 3})), {**NAMED, "flag": 1}, "flag is 1"),
        ((1, (2, {"k": 3})), {**NAMED, "none": np.ones(2)}, "none is array"),
        ((1, (2,)), NAMED, "rest is not a tuple of 2"),
        ((1, 2), NAMED, "rest is not a tuple of 2"),
        ((1, (2, {"q": 3})), NAMED, r"rest\[1\] is not a dict with the keys \['k'\]"),
    ],
)
def test_other_arguments_are_refused(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(ArgumentsError, match=said):
        gathered(ARGUMENTS, args, kwargs)


def test_results_have_the_structure_of_the_model() -> None:
    tree = {"list": [{"tuple": [{"value": "a"}]}, {"dict": {"k": {"value": "b", "merged": True}}}, {"constant": 3}]}
    arrays = {"a": np.zeros((2, 3)), "b": np.arange(12).reshape(2, 3, 2)}
    one, two, three = structured(tree, arrays)
    assert isinstance(one, tuple)
    assert one[0] is arrays["a"]
    assert np.array_equal(two["k"], np.arange(12).reshape(6, 2))
    assert three == 3
