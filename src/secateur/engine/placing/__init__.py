"""From a plan to the steps of a program: layouts, buffers, kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from secateur.engine.layouts import Target
from secateur.engine.placing import axes, moving, numbers, products, windows
from secateur.engine.placing.building import Builder, Placed
from secateur.engine.placing.convolving import Tiling
from secateur.engine.placing.decisions import Decide, Decision, decide
from secateur.engine.placing.room import TooLargeError, check_room
from secateur.engine.plan.values import Op, Plan

__all__ = ["Placed", "TooLargeError", "place"]

Emit: TypeAlias = Callable[[Builder, Op, Decision], None]

# How each kind of operator is laid out: what it reads and writes, and the steps it becomes.
RULES: Mapping[str, tuple[Decide, Emit]] = {
    "conv": (windows.decide_conv, windows.emit_conv),
    "max_pool": (windows.decide_pool, windows.emit_pool),
    "average_pool": (windows.decide_pool, windows.emit_pool),
    "upsample_nearest": (moving.decide_upsample, moving.emit_upsample),
    "linear": (numbers.decide_linear, numbers.emit_linear),
    "unary": (numbers.decide_unary, numbers.emit_unary),
    "binary": (numbers.decide_binary, numbers.emit_binary),
    "reduce": (numbers.decide_reduce, numbers.emit_reduce),
    "reshape": (moving.decide_reshape, moving.emit_reshape),
    "permute": (moving.decide_permute, moving.emit_indexed),
    "expand": (moving.decide_plain, moving.emit_indexed),
    "slice": (moving.decide_plain, moving.emit_indexed),
    "pad": (moving.decide_plain, moving.emit_indexed),
    "cast": (moving.decide_reshape, moving.emit_reshape),
    "constant": (moving.decide_plain, moving.emit_constant),
    "adaptive_pool": (moving.decide_plain, axes.emit_adaptive_pool),
    "softmax": (axes.decide_along, axes.emit_softmax),
    "layer_norm": (axes.decide_along, axes.emit_norm),
    "rms_norm": (axes.decide_along, axes.emit_norm),
    "group_norm": (moving.decide_plain, axes.emit_group_norm),
    "matmul": (moving.decide_plain, products.emit_matmul),
    "attention": (moving.decide_plain, products.emit_attention),
    "embedding": (moving.decide_plain, products.emit_embedding),
    "concat": (moving.decide_concat, moving.emit_concat),
}


def place(
    plan: Plan,
    target: Target,
    kernels: Any,
    tilings: Mapping[int, Tiling] | None = None,
    max_bytes: int | None = None,
) -> Placed:
    """Lay a plan out for a target.

    Args:
        plan: the plan, checked.
        target: lanes, and whether each of them is a sample.
        kernels: the module of the kernels.
        tilings: how to carry convolutions out, by the number of the operator in the plan; may be changed until a
            program is made of the result.
        max_bytes: how much all values of one sample may take together; no limit if None.

    Raises:
        TooLargeError: they take more, or one is larger than 8 GiB.
    """
    layouts = decide(plan, target, {kind: rule[0] for kind, rule in RULES.items()})
    check_room(layouts, max_bytes)
    builder = Builder(layouts, kernels, {} if tilings is None else tilings)
    for number, (op, decision) in enumerate(zip(plan.ops, layouts.decisions, strict=True)):
        builder.number = number
        RULES[op.kind][1](builder, op, decision)
    return builder.placed()
