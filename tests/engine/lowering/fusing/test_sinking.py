"""Reshapes and transpositions go behind arithmetic."""

from __future__ import annotations

from agreement import kinds
from fusions import same
from plans import NONE, WINDOW, add, multiply, numbers, plan, unary

from secateur.engine.lowering import fusing
from secateur.engine.plan import Plan


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
