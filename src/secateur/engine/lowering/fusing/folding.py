"""Constants that meet what a layer writes become part of its weights; padding becomes part of its windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from secateur.engine.lowering.fusing.drafts import Draft, changed
from secateur.engine.plan import Op, Plan
from secateur.engine.plan.values import Array

__all__ = ["merged", "padded", "scaled"]


def padded(plan: Plan) -> Plan:
    """Take zeros around a map into the convolution that reads it."""
    draft = Draft(plan)
    for place, op in draft:
        found = draft.writer(op.inputs[0], "pad") if op.kind == "conv" else None
        if found is None:
            continue
        pad = found[1].attributes
        sides: Any = pad["padding"]
        if pad["value"] == 0 and not any(sides[:2]):
            padding = tuple(own + more for own, more in zip(op.attributes["padding"], sides[2:], strict=True))  # type: ignore[arg-type]
            draft.put(place, replace(changed(op, padding=padding), inputs=(found[1].inputs[0], *op.inputs[1:])))
    return draft.plan()


def scaled(plan: Plan) -> Plan:
    """Take a factor or a shift of each channel, as BatchNorm has them, into the layer that writes the channels.

    A weight that is zero stays zero: only whole rows are scaled. What is folded is computed in float64.
    """
    draft = Draft(plan)
    for place, op in draft:
        if op.kind != "binary" or not op.constants or op.attributes["activation"] != "none":
            continue
        found = draft.writer(op.inputs[0], "conv", "linear")
        if found is None or not draft.sole(op.inputs[0]) or not _bare(found[1]):
            continue
        at, layer = found
        other = _by_channel(draft, layer, draft.constant(op, "other"))
        rule = None if other is None else _linear(str(op.attributes["how"]), bool(op.attributes["swapped"]), other)
        if rule is not None and all(np.isfinite(each).all() for each in rule):
            draft.drop(place)
            draft.put(at, replace(_rescaled(draft, layer, *rule), output=op.output))
    return draft.plan()


def _bare(layer: Op) -> bool:
    """Say if a layer ends with its bias."""
    return len(layer.inputs) == 1 and layer.attributes["activation"] == "none"


def _by_channel(draft: Draft, layer: Op, other: Array) -> Array | None:
    """Return a constant as one number for each channel that a layer writes; None if it differs otherwise."""
    outputs = draft.constant(layer, "weight").shape[0]
    rank, axis = len(draft.shape(layer.output)), 0 if layer.kind == "conv" else -1
    if other.ndim > rank:
        return None
    wide = other.reshape([1] * (rank - other.ndim) + list(other.shape))
    if wide.size not in (1, outputs) or wide.shape[axis] != wide.size:
        return None
    return np.broadcast_to(wide.reshape(-1).astype(np.float64), (outputs,))


def _linear(how: str, swapped: bool, other: Array) -> tuple[Array, Array] | None:
    """Return the factor and the shift that arithmetic with a constant is; None if it is no such thing."""
    one, nothing = np.ones_like(other), np.zeros_like(other)
    if how == "multiply":
        return other, nothing
    if how == "add":
        return one, other
    if how == "subtract":
        return (-one, other) if swapped else (one, -other)
    if how == "divide" and not swapped and other.all():
        return 1 / other, nothing
    return None


def _rescaled(draft: Draft, layer: Op, scale: Array, shift: Array) -> Op:
    """Return a layer that also multiplies and adds."""
    constants = dict(layer.constants)
    if (scale != 1).any():
        weight = draft.constant(layer, "weight")
        wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
        # 0 times a negative number would be -0.
        folded = np.where(weight == 0, 0.0, weight.astype(np.float64) * wide)
        constants["weight"] = draft.store(folded, "", layer, "weight")
    bias = draft.constant(layer, "bias").astype(np.float64) if "bias" in layer.constants else np.zeros_like(scale)
    constants["bias"] = draft.store(bias * scale + shift, f"{layer.where}.bias".lstrip("."), layer, "bias")
    return replace(layer, constants=constants)


def merged(plan: Plan) -> Plan:
    """Join arithmetic with one constant after another of the same kind, and remove what adds 0 or multiplies by 1."""
    draft = Draft(plan)
    for place, op in draft:
        if op.kind != "binary" or not op.constants or op.attributes["how"] not in ("add", "multiply"):
            continue
        found = draft.writer(op.inputs[0], "binary")
        if found is not None and _joins(draft, found[1], op):
            draft.drop(found[0])
            _join(draft, place, op, found[1])
        else:
            _remove_idle(draft, place, op)
    return draft.plan()


def _join(draft: Draft, place: int, op: Op, before: Op) -> None:
    first, other = draft.constant(before, "other").astype(np.float64), draft.constant(op, "other")
    both = first + other if op.attributes["how"] == "add" else first * other
    name = draft.store(both, "", op, "other")
    draft.put(place, replace(op, inputs=before.inputs, constants={"other": name}))


def _remove_idle(draft: Draft, place: int, op: Op) -> None:
    nothing = 0 if op.attributes["how"] == "add" else 1
    idle = (draft.constant(op, "other") == nothing).all() and draft.shape(op.inputs[0]) == draft.shape(op.output)
    if idle and op.attributes["activation"] == "none" and not draft.is_output(op.output):
        draft.rewire(op.output, op.inputs[0])
        draft.drop(place)


def _joins(draft: Draft, before: Op, op: Op) -> bool:
    same = before.attributes["how"] == op.attributes["how"] and before.attributes["activation"] == "none"
    return same and bool(before.constants) and draft.sole(before.output)
