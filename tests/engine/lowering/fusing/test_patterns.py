"""Activations, norms and attention written as formulas become one operator."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import kinds
from fusions import FORMULAS, same, step
from plans import add, multiply, numbers, plan

from secateur.engine.lowering import fusing
from secateur.engine.plan import Plan


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_recognized(name: str) -> None:
    before = FORMULAS[name]
    step(lambda each: fusing.tidied(fusing.recognized(each)), before, name.partition(",")[0])


def test_formulas_that_are_a_little_different_stay() -> None:
    for name, constant, value in (
        ("gelu", "root", 1.5),
        ("gelu", "half", 0.6),
        ("gelu", "one", 1.1),
        ("gelu_tanh", "small", 0.05),
        ("gelu_tanh", "scale", 0.7),
        ("hardswish", "three", 2.0),
        ("hardsigmoid", "six", 5.0),
    ):
        other = FORMULAS[name]
        other.constants[constant][...], before = value, float(other.constants[constant])
        after = fusing.tidied(fusing.recognized(other))
        same(other, after)
        assert kinds(after) == kinds(other)
        other.constants[constant][...] = before


def test_the_factor_behind_an_rms_norm_goes_into_it() -> None:
    for weight in (numbers(6), np.float32(2.0)):
        ops = [("a", "rms_norm", "x", {"axes": 1, "eps": 1e-6}), ("z", "binary", "a", multiply(), {"other": "w"})]
        before = plan({"x": (4, 6)}, ops, ["z"], {"w": np.asarray(weight)})
        after = step(lambda each: fusing.tidied(fusing.recognized(each)), before, "rms_norm")
        assert after.constants[after.ops[0].constants["weight"]].shape == (6,)


class TestAttention:
    def scores(self, *masked: tuple[object, ...], last: str) -> Plan:
        ops = [
            ("k2", "permute", "k", {"order": (0, 2, 1)}),
            ("a", "matmul", "q k2", {"swapped": False}),
            ("b", "binary", "a", multiply(), {"other": "scale"}),
            *masked,
            ("s", "softmax", last, {"axis": 2}),
            ("z", "matmul", "s v", {"swapped": False}),
        ]
        mask = np.where(np.tril(np.ones((5, 5), bool)), 0, -np.inf).astype(np.float32)
        constants = {"scale": np.float32(0.25)} | ({"mask": mask} if any("mask" in str(op) for op in masked) else {})
        shapes = {"q": (2, 5, 4), "k": (2, 5, 4), "v": (2, 5, 3)} | ({"m": (5, 5)} if "m" in str(masked) else {})
        return plan(shapes, ops, ["z"], {name: np.asarray(array) for name, array in constants.items()})

    def test_without_a_mask(self) -> None:
        after = step(lambda each: fusing.tidied(fusing.recognized(each)), self.scores(last="b"), "attention")
        assert after.ops[0].inputs == ("q", "k", "v")
        assert after.ops[0].attributes == {"scale": 0.25, "causal": False}

    def test_with_a_constant_that_hides_what_comes_later(self) -> None:
        before = self.scores(("c", "binary", "b", add(), {"other": "mask"}), last="c")
        after = fusing.fused(before)
        same(before, after)
        assert kinds(after) == ["attention"]
        assert after.ops[0].attributes["causal"]
        assert not after.ops[0].constants

    def test_with_a_mask_that_is_computed(self) -> None:
        before = self.scores(("c", "binary", "b m", add()), last="c")
        after = step(lambda each: fusing.tidied(fusing.recognized(each)), before, "attention")
        assert after.ops[0].inputs == ("q", "k", "v", "m")
