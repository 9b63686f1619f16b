"""Each fusion alone: what it leaves, what it leaves alone, and that the results are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plans
import pytest
from agreement import kinds
from plans import NONE, RELU, WINDOW, add, multiply, numbers, plan, unary

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


class TestTidying:
    def test_moves_of_moves_are_one(self) -> None:
        ops = [
            ("a", "reshape", "x", {"shape": (4, 3, 2)}),
            ("b", "reshape", "a", {"shape": (2, 12)}),
            ("c", "permute", "b", {"order": (1, 0)}),
            ("d", "reshape", "c", {"shape": (2, 3, 4)}),
            ("e", "permute", "d", {"order": (1, 2, 0)}),
            ("f", "permute", "e", {"order": (1, 0, 2)}),
            ("z", "unary", "f", unary("exp")),
        ]
        step(fusing.tidied, plan({"x": (24,)}, ops, ["z"]), "reshape", "permute", "reshape", "permute", "exp")

    def test_what_moves_nothing_goes(self) -> None:
        ops = [
            ("a", "reshape", "x", {"shape": (6,)}),
            ("b", "reshape", "a", {"shape": (2, 3)}),
            ("c", "permute", "b", {"order": (1, 0)}),
            ("d", "permute", "c", {"order": (1, 0)}),
            ("e", "slice", "d", {"axis": 1, "start": 0, "stop": 3, "step": 1}),
            ("f", "expand", "e", {"shape": (2, 3)}),
            ("z", "unary", "f", unary("exp")),
        ]
        assert step(fusing.tidied, plan({"x": (2, 3)}, ops, ["z"]), "exp").ops[0].inputs == ("x",)

    def test_an_output_keeps_its_operator(self) -> None:
        ops = [("a", "reshape", "x", {"shape": (6,)}), ("z", "reshape", "a", {"shape": (2, 3)})]
        step(fusing.tidied, plan({"x": (2, 3)}, ops, ["z"]), "reshape")

    def test_the_same_is_computed_once(self) -> None:
        ops = [
            ("a", "unary", "x", unary("exp")),
            ("b", "unary", "x", unary("exp")),
            ("c", "unary", "x", unary("tanh")),
            ("d", "unary", "b", unary("tanh")),
            ("e", "unary", "a", unary("tanh")),
            ("f", "binary", "d e", multiply()),
            ("z", "binary", "f c", multiply()),
        ]
        step(fusing.tidied, plan({"x": (3,)}, ops, ["z"]), "exp", "tanh", "tanh", "multiply", "multiply")

    def test_the_same_output_twice_stays_two(self) -> None:
        ops = [("a", "unary", "x", unary("exp")), ("z", "unary", "x", unary("exp"))]
        step(fusing.tidied, plan({"x": (3,)}, ops, ["a", "z"]), "exp", "exp")

    def test_what_nobody_reads_goes(self) -> None:
        ops = [("a", "unary", "x", unary("exp")), ("b", "unary", "a", unary("exp")), ("z", "unary", "x", unary("tanh"))]
        step(fusing.tidied, plan({"x": (3,)}, ops, ["z"]), "tanh")


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


class TestSinking:
    """A layer over a line: [C, L], [C, 1, L], conv, [O, 1, L'], [O, L']."""

    def line(self, *more: tuple[object, ...]) -> Plan:
        ops = [
            ("a", "reshape", "x", {"shape": (3, 1, 6)}),
            ("b", "conv", "a", {**WINDOW, "padding": (0, 0, 1, 1), **NONE}, {"weight": "w"}),
            ("c", "reshape", "b", {"shape": (3, 6)}),
            *more,
        ]
        used = {name for op in more for name in (op[4] if len(op) > 4 else {}).values()}  # type: ignore[attr-defined]
        constants = {"s": numbers(3, 1), "t": numbers(6), "h": numbers(2, 1, 1)}
        kept = {"w": numbers(3, 3, 1, 3)} | {name: array for name, array in constants.items() if name in used}
        return plan({"x": (3, 6)}, ops, [str(more[-1][0])], kept)

    def test_norm_and_activation_reach_the_layer(self) -> None:
        before = self.line(
            ("d", "binary", "c", multiply(), {"other": "s"}),
            ("e", "binary", "d", add(), {"other": "s"}),
            ("z", "unary", "e", unary("relu")),
        )
        assert kinds(fusing.sunk(before)) == ["reshape", "conv", "multiply", "add", "relu", "reshape"]
        assert kinds(fusing.fused(before)) == ["reshape", "conv", "reshape"]
        same(before, fusing.sunk(before))
        same(before, fusing.fused(before))

    def test_the_way_round_reaches_the_layer(self) -> None:
        for reads in ("c x", "x c"):
            before = self.line(("d", "binary", reads, add()), ("z", "unary", "d", unary("relu")))
            same(before, fusing.sunk(before))
            after = fusing.fused(before)
            same(before, after)
            assert kinds(after) == ["reshape", "conv", "reshape"]
            assert len(after.ops[1].inputs) == 2

    def test_what_does_not_fit_stays(self) -> None:
        before = self.line(("z", "binary", "c", add(), {"other": "h"}))
        same(before, fusing.fused(before))
        assert kinds(fusing.sunk(before)) == kinds(before)

    def test_a_constant_along_the_line_is_laid_out(self) -> None:
        before = self.line(("z", "binary", "c", add(), {"other": "t"}))
        assert kinds(fusing.sunk(before)) == ["reshape", "conv", "add", "reshape"]
        same(before, fusing.sunk(before))


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


def test_fusing_what_was_fused_changes_nothing() -> None:
    for before in (plans.whole(), *FORMULAS.values()):
        once = fusing.fused(before)
        assert fusing.fused(once).ops == once.ops
        same(before, once)
