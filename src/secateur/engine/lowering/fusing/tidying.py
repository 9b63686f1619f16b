"""What changes nothing goes: twice the same, moves that cancel out, values that nobody reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from secateur.engine.lowering.fusing.drafts import Draft, changed
from secateur.engine.plan import Op, Plan

__all__ = ["tidied"]


def tidied(plan: Plan) -> Plan:
    """Remove reshapes of reshapes, permutations of permutations, moves that move nothing, copies and dead operators."""
    draft = Draft(plan)
    seen: dict[Any, str] = {}
    for place, first in draft:
        op = _joined(draft, place, first)
        key = (op.kind, op.inputs, tuple(op.attributes.items()), tuple(op.constants.items()))
        if draft.is_output(op.output):
            seen.setdefault(key, op.output)
        elif _idle(draft, op):
            draft.rewire(op.output, op.inputs[0])
        elif key in seen:
            draft.rewire(op.output, seen[key])
        else:
            seen[key] = op.output
    for place, op in reversed(list(draft)):
        if draft.unread(op.output):
            draft.drop(place)
    return draft.plan()


def _joined(draft: Draft, place: int, op: Op) -> Op:
    """Read past a move of the same kind ahead."""
    found = draft.writer(op.inputs[0], op.kind) if op.kind in ("reshape", "permute") else None
    if found is None:
        return op
    before = found[1]
    op = replace(op, inputs=before.inputs)
    if op.kind == "permute":
        op = changed(op, order=tuple(before.attributes["order"][axis] for axis in op.attributes["order"]))  # type: ignore[index,union-attr]
    draft.put(place, op)
    return op


def _idle(draft: Draft, op: Op) -> bool:
    """Say if an operator gives what it reads."""
    if op.kind in ("reshape", "expand", "slice"):
        return draft.shape(op.output) == draft.shape(op.inputs[0])
    return op.kind == "permute" and list(op.attributes["order"]) == sorted(op.attributes["order"])  # type: ignore[arg-type]
