"""Sums and activations go into the layers before them."""

from __future__ import annotations

import pytest
from fusions import step
from plans import NONE, add, multiply, numbers, plan, unary

from secateur.engine.lowering import fusing
from secateur.engine.plan import Plan


class TestSums:
    LAYER = ("linear", NONE, {"weight": "w"})

    def two(self, *more: tuple[object, ...], outputs: list[str] | None = None) -> Plan:
        ops = [("a", "linear", "x", NONE, {"weight": "w"}), *more]
        return plan({"x": (4,), "y": (4,)}, ops, outputs or [str(more[-1][0])], {"w": numbers(4, 4)})

    def test_the_layer_adds_the_other_operand(self) -> None:
        for reads in ("a y", "y a"):
            after = step(fusing.summed, self.two(("z", "binary", reads, add(activation="tanh"))), "linear")
            assert after.ops[0].inputs == ("x", "y")
            assert after.ops[0].attributes["activation"] == "tanh"

    def test_of_two_layers_the_later_one_adds(self) -> None:
        before = self.two(("b", "linear", "y", NONE, {"weight": "w"}), ("z", "binary", "a b", add()))
        assert step(fusing.summed, before, "linear", "linear").ops[1].inputs == ("y", "a")

    def test_an_operand_that_comes_later_is_waited_for(self) -> None:
        before = self.two(("b", "unary", "y", unary("exp")), ("z", "binary", "a b", add()))
        assert step(fusing.summed, before, "exp", "linear").ops[1].inputs == ("x", "b")

    def test_a_sum_of_the_layer_and_what_is_made_of_it_stays(self) -> None:
        before = self.two(("b", "unary", "a", unary("exp")), ("z", "binary", "a b", add()))
        step(fusing.summed, before, "linear", "exp", "add")

    @pytest.mark.parametrize("attributes", [add(how="subtract"), multiply()])
    def test_other_arithmetic_stays(self, attributes: dict[str, object]) -> None:
        step(fusing.summed, self.two(("z", "binary", "a y", attributes)), "linear", str(attributes["how"]))

    def test_a_sum_that_broadcasts_stays(self) -> None:
        ops = [("a", "linear", "x", NONE, {"weight": "w"}), ("z", "binary", "a y", add())]
        step(fusing.summed, plan({"x": (4,), "y": (3, 4)}, ops, ["z"], {"w": numbers(4, 4)}), "linear", "add")

    def test_twice_the_same_stays(self) -> None:
        step(fusing.summed, self.two(("z", "binary", "a a", add())), "linear", "add")

    def test_what_others_read_too_stays(self) -> None:
        step(fusing.summed, self.two(("z", "binary", "a y", add()), outputs=["z", "a"]), "linear", "add")

    def test_a_layer_adds_once(self) -> None:
        before = self.two(("b", "binary", "a y", add()), ("z", "binary", "b x", add()))
        step(fusing.summed, before, "linear", "add")


class TestActivations:
    @pytest.mark.parametrize("how", ["relu", "gelu", "hardswish", "sigmoid"])
    def test_layers_and_arithmetic_apply_them(self, how: str) -> None:
        ops = [
            ("a", "linear", "x", NONE, {"weight": "w"}),
            ("b", "unary", "a", unary(how)),
            ("c", "binary", "b y", multiply()),
            ("z", "unary", "c", unary(how)),
        ]
        after = step(
            fusing.activated, plan({"x": (4,), "y": (4,)}, ops, ["z"], {"w": numbers(4, 4)}), "linear", "multiply"
        )
        assert [op.attributes["activation"] for op in after.ops] == [how, how]

    def test_parameters_go_along(self) -> None:
        ops = [("a", "linear", "x", NONE, {"weight": "w"}), ("z", "unary", "a", unary("clamp", -0.5, 0.25))]
        after = step(fusing.activated, plan({"x": (4,)}, ops, ["z"], {"w": numbers(4, 4)}), "linear")
        assert (after.ops[0].attributes["alpha"], after.ops[0].attributes["beta"]) == (-0.5, 0.25)

    def test_only_one_is_applied_and_other_functions_stay(self) -> None:
        ops = [
            ("a", "linear", "x", NONE, {"weight": "w"}),
            ("b", "unary", "a", unary("tanh")),
            ("c", "unary", "b", unary("relu")),
            ("z", "unary", "c", unary("exp")),
        ]
        step(fusing.activated, plan({"x": (4,)}, ops, ["z"], {"w": numbers(4, 4)}), "linear", "relu", "exp")

    def test_what_others_read_too_stays(self) -> None:
        ops = [("a", "linear", "x", NONE, {"weight": "w"}), ("z", "unary", "a", unary("relu"))]
        step(fusing.activated, plan({"x": (4,)}, ops, ["z", "a"], {"w": numbers(4, 4)}), "linear", "relu")
