"""What follows an operator number by number is done by it as it writes: sums and activations."""

from __future__ import annotations

from dataclasses import replace

from secateur.engine.lowering.fusing.drafts import Draft, changed
from secateur.engine.plan import ACTIVATIONS, Op, Plan

__all__ = ["activated", "summed"]


def summed(plan: Plan) -> Plan:
    """Let the layer that writes one operand of a sum add the other: the way round of a residual block.

    Of two layers the later one does it; it then runs where the sum was.
    """
    draft = Draft(plan)
    for place, op in draft:
        if op.kind != "binary" or op.attributes["how"] != "add" or len(op.inputs) != 2:
            continue
        if any(draft.shape(name) != draft.shape(op.output) for name in op.inputs):
            continue
        layers = [(found, at) for at, name in enumerate(op.inputs) if (found := _layer(draft, name))]
        if layers:
            (at, layer), number = max(layers, key=lambda each: each[0][0])
            draft.drop(at)
            attributes = {**layer.attributes, **{name: op.attributes[name] for name in ("activation", "alpha", "beta")}}
            inputs = (layer.inputs[0], op.inputs[1 - number])
            draft.put(place, replace(layer, inputs=inputs, output=op.output, attributes=attributes))
    return draft.plan()


def _layer(draft: Draft, name: str) -> tuple[int, Op] | None:
    """Return the layer that ends with writing a value that only one operator reads."""
    found = draft.writer(name, "conv", "linear")
    if found is None or not draft.sole(name) or len(found[1].inputs) > 1:
        return None
    return found if found[1].attributes["activation"] == "none" else None


def activated(plan: Plan) -> Plan:
    """Let the operator that writes a value apply the activation that reads it."""
    draft = Draft(plan)
    for place, op in draft:
        if op.kind != "unary" or op.attributes["how"] not in ACTIVATIONS:
            continue
        found = draft.writer(op.inputs[0], "conv", "linear", "binary")
        if found is None or not draft.sole(op.inputs[0]) or found[1].attributes["activation"] != "none":
            continue
        how, alpha, beta = (op.attributes[name] for name in ("how", "alpha", "beta"))
        draft.drop(place)
        draft.put(found[0], replace(changed(found[1], activation=how, alpha=alpha, beta=beta), output=op.output))
    return draft.plan()
