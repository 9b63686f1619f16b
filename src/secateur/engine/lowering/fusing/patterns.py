"""Formulas that are written out in models: activations, RMS norm, attention."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from secateur.engine.lowering.fusing.drafts import Draft, changed
from secateur.engine.plan import Op, Plan
from secateur.engine.plan.values import Array

__all__ = ["recognized"]


def recognized(plan: Plan) -> Plan:
    """Put one operator in place of a formula; what it was made of goes when nobody else reads it."""
    draft = Draft(plan)
    for place, op in draft:
        found = None
        if op.kind == "binary" and op.attributes["how"] in ("multiply", "divide") and _bare(op):
            found = _activation(draft, op) or _rms_norm(draft, op) or _weighted(draft, op)
        elif op.kind == "matmul" and len(op.inputs) == 2:
            found = _attention(draft, place, op)
        elif op.kind == "attention" and op.constants and _causal(draft.constant(op, "mask")):
            found = replace(changed(op, causal=True), constants={})
        if found is not None:
            draft.put(place, found)
    return draft.plan()


def _bare(op: Op) -> bool:
    return op.attributes["activation"] == "none"


def _near(one: float, two: float) -> bool:
    """Say if two numbers are the same up to how many digits somebody typed."""
    return math.isclose(one, two, rel_tol=1e-6)


# -- products ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Product:
    """A number times values."""

    factor: float
    values: tuple[str, ...]


def _product(draft: Draft, op: Op) -> _Product:
    """Return the factors of a product, of products."""
    how, other = op.attributes["how"], _number(draft, op)
    if other is not None and (how == "multiply" or not op.attributes["swapped"]):
        inner = _factors(draft, op.inputs[0])
        return _Product(inner.factor * (other if how == "multiply" else 1 / other), inner.values)
    if how == "multiply" and len(op.inputs) == 2:
        one, two = (_factors(draft, name) for name in op.inputs)
        return _Product(one.factor * two.factor, one.values + two.values)
    return _Product(1.0, (op.output,))


def _factors(draft: Draft, name: str) -> _Product:
    found = draft.writer(name, "binary")
    if found is None or found[1].attributes["how"] not in ("multiply", "divide") or not _bare(found[1]):
        return _Product(1.0, (name,))
    return _product(draft, found[1])


def _number(draft: Draft, op: Op) -> float | None:
    """Return the constant of an operator if it is one number, and not 0."""
    if not op.constants:
        return None
    other = draft.constant(op, "other")
    return float(other.reshape(())) if other.size == 1 and other.all() else None


def _unary(draft: Draft, name: str, how: str) -> str | None:
    """Return what a value is a function of."""
    found = draft.writer(name, "unary")
    return found[1].inputs[0] if found is not None and found[1].attributes["how"] == how else None


def _unary_op(how: str, source: str, op: Op) -> Op:
    return Op("unary", (source,), op.output, {"how": how, "alpha": 0.0, "beta": 0.0}, where=op.where)


def _activation(draft: Draft, op: Op) -> Op | None:
    """x / 2 (1 + erf(x / sqrt 2)) and its like with tanh; x sigmoid(x); x relu6(x + 3) / 6 and that without x."""
    product = _product(draft, op)
    if len(product.values) == 1 and _near(product.factor, 1 / 6):
        source = _shifted_relu6(draft, product.values[0])
        return None if source is None else _unary_op("hardsigmoid", source, op)
    if len(product.values) != 2:
        return None
    for x, gate in (product.values, product.values[::-1]):
        for how, factor, source in (
            ("silu", 1.0, _unary(draft, gate, "sigmoid")),
            ("hardswish", 1.0, _unary(draft, gate, "hardsigmoid")),
            ("hardswish", 1 / 6, _shifted_relu6(draft, gate)),
            ("gelu", 0.5, _one_and(draft, gate, "erf")),
            ("gelu_tanh", 0.5, _one_and(draft, gate, "tanh")),
        ):
            if source is not None and _near(product.factor, factor) and _inner(draft, how, source) == x:
                return _unary_op(how, x, op)
    return None


def _shifted_relu6(draft: Draft, name: str) -> str | None:
    inner = _unary(draft, name, "relu6")
    found = None if inner is None else draft.scalar(inner, "add")
    return found[0] if found and found[1] == 3 else None


def _one_and(draft: Draft, name: str, how: str) -> str | None:
    """Return x of 1 + how(x)."""
    found = draft.scalar(name, "add")
    return _unary(draft, found[0], how) if found and found[1] == 1 else None


def _inner(draft: Draft, how: str, source: str) -> str | None:
    """Return what an activation is of, given what the function in it is of."""
    if how not in ("gelu", "gelu_tanh"):
        return source
    product = _factors(draft, source)
    if len(product.values) != 1 or not _near(
        product.factor, math.sqrt(0.5) if how == "gelu" else math.sqrt(2 / math.pi)
    ):
        return None
    return product.values[0] if how == "gelu" else _cubed(draft, product.values[0])


def _cubed(draft: Draft, name: str) -> str | None:
    """Return x of x + 0.044715 x^3."""
    found = draft.writer(name, "binary")
    if found is None or found[1].attributes["how"] != "add" or len(found[1].inputs) != 2:
        return None
    for x, cube in (found[1].inputs, found[1].inputs[::-1]):
        product = _factors(draft, cube)
        power = draft.writer(product.values[0], "unary") if len(product.values) == 1 else None
        by_power = power is not None and power[1].attributes["how"] == "power" and power[1].attributes["alpha"] == 3
        is_cube = (by_power and power is not None and power[1].inputs[0] == x) or product.values == (x, x, x)
        if is_cube and _near(product.factor, 0.044715):
            return x
    return None


# -- norms -------------------------------------------------------------------------------------------------------------


def _rms_norm(draft: Draft, op: Op) -> Op | None:
    """x / sqrt(mean(x^2) + eps), over the last axes."""
    if len(op.inputs) != 2:
        return None
    x, root = op.inputs
    if op.attributes["how"] == "multiply":
        x, root = (x, root) if _unary(draft, root, "rsqrt") else (root, x)
    inside = _unary(draft, root, "rsqrt" if op.attributes["how"] == "multiply" else "sqrt")
    shifted = None if inside is None else draft.scalar(inside, "add")
    found = None if shifted is None else draft.writer(shifted[0], "reduce")
    if found is None or shifted is None or shifted[1] < 0:
        return None
    reduce = found[1].attributes
    rank, axes = len(draft.shape(x)), reduce["axes"]
    last = tuple(range(rank - len(axes), rank))  # type: ignore[arg-type]
    if reduce["how"] != "mean" or not reduce["keep"] or axes != last or not _square_of(draft, found[1].inputs[0], x):
        return None
    return Op("rms_norm", (x,), op.output, {"axes": len(last), "eps": shifted[1]}, where=op.where)


def _square_of(draft: Draft, name: str, x: str) -> bool:
    found = draft.writer(name, "unary", "binary")
    if found is None or set(found[1].inputs) != {x} or found[1].constants:
        return False
    attributes = found[1].attributes
    return (attributes["how"], attributes["alpha"]) == ("power", 2.0) or (
        (attributes["how"], attributes.get("activation")) == ("multiply", "none")
    )


def _weighted(draft: Draft, op: Op) -> Op | None:
    """Take the factor behind an RMS norm into it."""
    found = draft.writer(op.inputs[0], "rms_norm")
    if found is None or not op.constants or not draft.sole(op.inputs[0]) or op.attributes["how"] != "multiply":
        return None
    norm, other = found[1], draft.constant(op, "other")
    shape = draft.shape(norm.output)
    last = shape[len(shape) - int(norm.attributes["axes"]) :]  # type: ignore[arg-type]
    if norm.constants or other.ndim > len(last):
        return None
    weight = other if other.shape == last else np.ascontiguousarray(np.broadcast_to(other, last))
    name = op.constants["other"] if weight is other else draft.store(weight, f"{op.where}.weight".lstrip("."))
    return replace(norm, output=op.output, constants={"weight": name}, where=op.where)


# -- attention ---------------------------------------------------------------------------------------------------------


def _attention(draft: Draft, place: int, op: Op) -> Op | None:
    """softmax(scale q k' + mask) v, written out; mask and scale may be missing."""
    weights, v = op.inputs
    found = draft.writer(weights, "softmax")
    if found is None or not draft.sole(weights) or found[1].attributes["axis"] != len(draft.shape(weights)) - 1:
        return None
    inputs: list[str] = []
    constants: dict[str, str] = {}
    scores = _unmasked(draft, found[1].inputs[0], inputs, constants)
    product = _factors(draft, scores)
    made = draft.writer(product.values[0], "matmul") if len(product.values) == 1 else None
    if made is None or len(made[1].inputs) != 2:
        return None
    q, turned = made[1].inputs
    shapes = [draft.shape(name)[:-2] for name in (q, turned, v)]
    if len(set(shapes)) > 1 or draft.shape(made[1].output) != draft.shape(weights):
        return None
    rank = len(draft.shape(q))
    order = (*range(rank - 2), rank - 1, rank - 2)
    k = draft.add_before(place, Op("permute", (turned,), turned, {"order": order}, where=op.where))
    attributes = {"scale": product.factor, "causal": False}
    return Op("attention", (q, k, v, *inputs), op.output, attributes, constants, op.where)


def _causal(mask: Array) -> bool:
    """Say if a mask hides what comes later, and nothing else."""
    if mask.ndim < 2 or mask.size != mask.shape[-1] * mask.shape[-2] or mask.size == 1:
        return False
    rows = mask.reshape(mask.shape[-2:])
    seen = np.tril(np.ones(rows.shape, bool))
    # What is as low as this becomes exactly 0 in the softmax, as each row sees something.
    return not rows[seen].any() and bool((rows[~seen] < -1e30).all())


def _unmasked(draft: Draft, name: str, inputs: list[str], constants: dict[str, str]) -> str:
    """Return scores as they were before a mask was added, which becomes an input or a constant."""
    found = draft.writer(name, "binary")
    if found is None or found[1].attributes["how"] != "add" or not _bare(found[1]):
        return name
    op, shape = found[1], draft.shape(name)
    if op.constants:
        if draft.constant(op, "other").ndim <= len(shape) and draft.shape(op.inputs[0]) == shape:
            constants["mask"] = op.constants["other"]
            return op.inputs[0]
        return name
    for scores, mask in (op.inputs, op.inputs[::-1]):
        product = _factors(draft, scores)
        if draft.shape(scores) == shape and len(product.values) == 1 and draft.writer(product.values[0], "matmul"):
            inputs.append(mask)
            return scores
    return name
