"""Arithmetic and padding around layers goes into their constants; constants behind each other become one."""

from __future__ import annotations

import numpy as np
import pytest
from fusions import CONV, FILTERS, conv_then, step
from plans import NONE, RELU, add, multiply, numbers, plan, unary

from secateur.engine.lowering import fusing


class TestScales:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize(
        "attributes",
        [
            [multiply()],
            [add()],
            [add(how="subtract")],
            [add(how="subtract", swapped=True)],
            [add(how="divide")],
            [multiply(), add(), multiply(how="subtract", swapped=True)],
        ],
    )
    def test_arithmetic_by_channel_becomes_weights(self, attributes: list[dict[str, object]], bias: bool) -> None:
        ops = [("binary", each, "st"[i % 2]) for i, each in enumerate(attributes)]
        after = step(fusing.scaled, conv_then(*ops, bias=bias), "conv")
        assert set(after.ops[0].constants) == {"weight", "bias"}
        assert after.ops[0].where == "place.v0"

    def test_one_number_is_for_all_channels(self) -> None:
        step(fusing.scaled, conv_then(("binary", multiply(), "ones")), "conv")

    @pytest.mark.parametrize(("kind", "other"), [("multiply", "wide"), ("add", "row"), ("add", "high")])
    def test_what_differs_from_place_to_place_stays(self, kind: str, other: str) -> None:
        step(fusing.scaled, conv_then(("binary", add(how=kind), other)), "conv", kind)

    @pytest.mark.parametrize("attributes", [add(how="divide", swapped=True), add(how="maximum"), add(how="power")])
    def test_other_arithmetic_stays(self, attributes: dict[str, object]) -> None:
        step(fusing.scaled, conv_then(("binary", attributes, "s")), "conv", str(attributes["how"]))

    def test_a_layer_behind_an_activation_or_a_sum_is_left(self) -> None:
        for conv, reads in (({**CONV, **RELU}, "x"), (CONV, "x y")):
            ops = [("a", "conv", reads, conv, {"weight": "w"}), ("z", "binary", "a", multiply(), {"other": "s"})]
            constants = {"w": numbers(3, 3, 3, 3), "s": numbers(3, 1, 1)}
            before = plan({"x": (3, 5, 5), "y": (3, 5, 5)}, ops, ["z"], constants)
            step(fusing.scaled, before, "conv", "multiply")

    def test_what_others_read_too_stays(self) -> None:
        ops = [("a", "conv", "x", CONV, {"weight": "w"}), ("z", "binary", "a", multiply(), {"other": "s"})]
        constants = {"w": FILTERS["w"], "s": FILTERS["s"]}
        step(fusing.scaled, plan({"x": (3, 5, 5)}, ops, ["z", "a"], constants), "conv", "multiply")

    def test_a_weight_of_two_layers_is_changed_for_one(self) -> None:
        ops = [
            ("a", "linear", "x", NONE, {"weight": "w"}),
            ("b", "linear", "a", NONE, {"weight": "w"}),
            ("z", "binary", "b", multiply(), {"other": "s"}),
        ]
        before = plan({"x": (2, 4)}, ops, ["z"], {"w": numbers(4, 4), "s": numbers(4)})
        after = step(fusing.scaled, before, "linear", "linear")
        assert after.ops[0].constants["weight"] == "w"
        assert np.array_equal(after.constants["w"], before.constants["w"])

    def test_zeros_stay_zero_and_infinities_out(self) -> None:
        weight = numbers(4, 3)
        weight[:, 1] = 0
        for scale in (-1.0, np.inf, np.nan):
            ops = [("a", "linear", "x", NONE, {"weight": "w"}), ("z", "binary", "a", multiply(), {"other": "s"})]
            before = plan({"x": (3,)}, ops, ["z"], {"w": weight, "s": np.full(4, scale, np.float32)})
            after = fusing.scaled(before)
            column = after.constants[after.ops[0].constants["weight"]][:, 1]
            assert not column.any()
            assert not np.signbit(column).any()
            assert len(after.ops) == (1 if scale == -1 else 2)

    def test_factors_are_multiplied_before_anything_is_rounded(self) -> None:
        ops = [("a", "linear", "x", NONE, {"weight": "w"})]
        ops += [(f"b{i}", "binary", f"b{i - 1}" if i else "a", multiply(), {"other": "s"}) for i in range(20)]
        before = plan({"x": (3,)}, ops, ["b19"], {"w": numbers(4, 3), "s": numbers(4) + 2})
        array = fusing.scaled(before).constants["w"]
        assert array.dtype == np.float64
        exact = numbers(4, 3).astype(np.float64) * ((numbers(4) + 2).astype(np.float64) ** 20)[:, None]
        np.testing.assert_allclose(array, exact, rtol=1e-13)


class TestPadding:
    @pytest.mark.parametrize(
        ("sides", "value", "goes"),
        [
            ((0, 0, 1, 2, 0, 3), 0.0, True),
            ((1, 0, 1, 2, 0, 3), 0.0, False),
            ((0, 0, 1, 2, 0, 3), 1.0, False),
        ],
    )
    def test_zeros_around_a_map_become_padding(self, sides: tuple[int, ...], value: float, goes: bool) -> None:
        weight = numbers(4, 3 + sides[0], 3, 3)
        ops = [("a", "pad", "x", {"padding": sides, "value": value}), ("z", "conv", "a", CONV, {"weight": "w"})]
        before = plan({"x": (3, 5, 5)}, ops, ["z"], {"w": weight})
        after = fusing.padded(before)
        assert (after.ops[-1].inputs == ("x",)) == goes
        step(lambda each: fusing.tidied(fusing.padded(each)), before, *(["conv"] if goes else ["pad", "conv"]))

    def test_others_may_read_the_padded_map(self) -> None:
        ops = [
            ("a", "pad", "x", {"padding": (0, 0, 1, 1, 1, 1), "value": 0.0}),
            ("y", "conv", "a", CONV, {"weight": "w"}),
            ("z", "unary", "a", unary("relu")),
        ]
        step(fusing.padded, plan({"x": (3, 5, 5)}, ops, ["y", "z"], {"w": FILTERS["w"]}), "pad", "conv", "relu")


class TestConstants:
    def test_sums_and_products_are_joined(self) -> None:
        ops = [
            ("a", "binary", "x", add(), {"other": "s"}),
            ("b", "binary", "a", add(), {"other": "t"}),
            ("c", "binary", "b", multiply(), {"other": "t"}),
            ("z", "binary", "c", multiply(activation="relu"), {"other": "s"}),
        ]
        before = plan({"x": (2, 4)}, ops, ["z"], {"s": numbers(4), "t": numbers(2, 1)})
        assert step(fusing.merged, before, "add", "multiply").ops[1].attributes["activation"] == "relu"

    def test_nothing_and_once_go(self) -> None:
        ops = [
            ("a", "binary", "x", add(), {"other": "no"}),
            ("b", "unary", "a", unary("exp")),
            ("c", "binary", "b", multiply(), {"other": "one"}),
            ("z", "unary", "c", unary("exp")),
        ]
        constants = {"no": np.zeros(4, np.float32), "one": np.ones((), np.float32)}
        step(fusing.merged, plan({"x": (4,)}, ops, ["z"], constants), "exp", "exp")

    def test_what_widens_stays(self) -> None:
        ops = [("a", "binary", "x", add(), {"other": "no"}), ("z", "unary", "a", unary("exp"))]
        before = plan({"x": (4,)}, ops, ["z"], {"no": np.zeros((2, 4), np.float32)})
        step(fusing.merged, before, "add", "exp")
