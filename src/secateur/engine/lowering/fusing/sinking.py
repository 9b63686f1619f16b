"""Layers over one axis are lowered to layers over two, between reshapes; those are moved out of the way of fusions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secateur.engine.lowering.fusing.drafts import Draft
from secateur.engine.plan import Op, Plan
from secateur.engine.plan.values import Array, Shape

__all__ = ["sunk"]


def sunk(plan: Plan) -> Plan:
    """Move reshapes behind the operators that follow them number by number."""
    draft = Draft(plan)
    for place, op in draft:
        if op.kind == "unary":
            _behind_unary(draft, place, op)
        elif op.kind == "binary" and draft.shape(op.output) == draft.shape(op.inputs[0]):
            _behind_binary(draft, place, op)
    return draft.plan()


def _behind_unary(draft: Draft, place: int, op: Op) -> None:
    found = draft.writer(op.inputs[0], "reshape")
    if found is not None and draft.sole(op.inputs[0]):
        _exchange(draft, (place, op), found, replace(op, inputs=found[1].inputs))


def _behind_binary(draft: Draft, place: int, op: Op) -> None:
    """Move a reshape that adds or removes axes of 1 behind arithmetic; the other operand is laid out as well."""
    shape = draft.shape(op.output)
    for number, name in enumerate(op.inputs):
        found = draft.writer(name, "reshape")
        if found is None or not draft.sole(name) or not draft.writer(found[1].inputs[0], "conv", "binary"):
            continue
        (source,) = found[1].inputs
        before = draft.shape(source)
        if draft.shape(name) != shape or [n for n in before if n > 1] != [n for n in shape if n > 1]:
            continue
        if op.constants:
            other = _laid(draft.constant(op, "other"), shape, before)
            if other is not None:
                constants = {"other": draft.store(other, op.constants["other"])}
                _exchange(draft, (place, op), found, replace(op, inputs=(source,), constants=constants))
            return
        second = op.inputs[1 - number]
        if draft.shape(second) == shape:
            again = Op("reshape", (second,), second, {"shape": before}, where=op.where)
            inputs = [source, draft.add_before(place, again)]
            _exchange(draft, (place, op), found, replace(op, inputs=tuple(inputs if number == 0 else inputs[::-1])))
            return


def _exchange(draft: Draft, after: tuple[int, Op], before: tuple[int, Op], inner: Op) -> None:
    """Let ``inner`` take the place of an operator, and the reshape ahead of it come behind."""
    place, op = after
    at, reshape = before
    draft.drop(place)
    draft.drop(at)
    name = draft.add_before(place, inner)
    draft.put(place, replace(reshape, inputs=(name,), output=op.output))


def _laid(other: Array, shape: Shape, before: Shape) -> Array | None:
    """Return a constant that meets a value of one shape, laid out to meet it in another that differs by axes of 1."""
    if other.ndim > len(shape):
        return None
    sizes = [1] * (len(shape) - other.ndim) + list(other.shape)
    kept = iter([size for size, whole in zip(sizes, shape, strict=True) if whole > 1])
    return np.asarray(other).reshape([next(kept) if whole > 1 else 1 for whole in before])
