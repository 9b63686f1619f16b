"""What does nothing, and what nobody reads, goes."""

from __future__ import annotations

from fusions import step
from plans import multiply, plan, unary

from secateur.engine.lowering import fusing


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
