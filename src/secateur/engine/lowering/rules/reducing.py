"""Operations over axes: sums, means, extremes, softmax and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import torch

from secateur.engine.lowering.batch import Live, Refused
from secateur.engine.lowering.rules.arithmetic import truth
from secateur.engine.lowering.rules.elements import binary, clamped, operand, unary
from secateur.engine.lowering.walk import Call, Rule, Walk

__all__ = ["RULES", "dims", "reduced"]


def dims(x: Live, given: Any) -> list[int]:
    """Return axes of a tensor as numbers from 0 on; None and an empty list are all."""
    if given is None or given == []:
        return list(range(len(x.shape)))
    return sorted({x.dim(dim) for dim in (given if isinstance(given, list | tuple) else [given])})


def reduced(walk: Walk, call: Call, x: Live, how: str, over: list[int], keep: bool) -> Live:
    """Reduce a tensor over some axes."""
    x = walk.floats(call, x)
    name, batch = x.name, x.batch
    shape = [1 if dim in over else size for dim, size in enumerate(x.shape)]
    if over:
        axes = tuple(x.axis(dim) for dim in over)
        name = walk.emit(call, "reduce", [x], {"how": how, "axes": axes, "keep": keep})
    if not keep:
        shape = [size for dim, size in enumerate(x.shape) if dim not in over]
        batch = batch.moved(batch.dim - sum(dim < batch.dim for dim in over))
    return walk.live(name, shape, batch)


def _reduce(how: str) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        x = operand(call)
        over = dims(x, call.get("dim", call.get("dims")))
        return reduced(walk, call, x, how, over, bool(call.get("keepdim", False)))

    return rule


def _all_any(how: str) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        x = truth(walk, call, operand(call))
        y = reduced(walk, call, x, how, dims(x, call.get("dim")), bool(call.get("keepdim", False)))
        return walk.live(y.name, y.shape, y.batch, torch.bool)

    return rule


def _extreme(how: str, pair: str) -> Rule:
    """Max, min: of all, over an axis (then with the places, which are refused where they are read), or of two."""

    def rule(walk: Walk, call: Call) -> Any:
        if call.get("other") is not None:
            return binary(walk, call, pair, call["self"], call["other"])
        x, dim = operand(call), call.get("dim")
        y = reduced(walk, call, x, how, dims(x, dim), bool(call.get("keepdim", False)))
        return y if dim is None else [y, None]

    return rule


def _softmax(walk: Walk, call: Call) -> Live:
    x = walk.floats(call, operand(call))
    name = walk.emit(call, "softmax", [x], {"axis": x.axis(call["dim"])})
    return walk.live(name, x.shape, x.batch)


def _log_softmax(walk: Walk, call: Call) -> Live:
    x = operand(call)
    return binary(walk, call, "subtract", x, _log_sum(walk, call, x, [x.dim(call["dim"])], True))


def _logsumexp(walk: Walk, call: Call) -> Live:
    x = operand(call)
    return _log_sum(walk, call, x, dims(x, call["dim"]), bool(call["keepdim"]))


def _log_sum(walk: Walk, call: Call, x: Live, over: list[int], keep: bool) -> Live:
    """log sum exp x, with the largest taken out so that nothing overflows."""
    top = reduced(walk, call, x, "max", over, True)
    powers = unary(walk, call, binary(walk, call, "subtract", x, top), "exp")
    total = unary(walk, call, reduced(walk, call, powers, "sum", over, True), "log")
    found = binary(walk, call, "add", total, top)
    return found if keep else walk.reshaped(call, found, [n for d, n in enumerate(found.shape) if d not in over])


def _variance(root: bool) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        x = walk.floats(call, operand(call))
        over, keep = dims(x, call.get("dim")), bool(call.get("keepdim", False))
        correction = call.get("correction", 1 if call.get("unbiased", True) else 0)
        count = math.prod(x.shape[dim] for dim in over)
        if (correction := 1 if correction is None else correction) >= count:
            raise Refused("a variance of too few numbers")
        apart = binary(walk, call, "subtract", x, reduced(walk, call, x, "mean", over, True))
        squares = reduced(walk, call, unary(walk, call, apart, "power", 2.0), "sum", over, keep)
        found = binary(walk, call, "divide", squares, float(count - correction))
        return unary(walk, call, found, "sqrt") if root else found

    return rule


def _vector_norm(walk: Walk, call: Call) -> Live:
    x, order = operand(call), call.get("ord", call.get("p", 2))
    order = 2 if order is None else order
    over, keep = dims(x, call.get("dim")), bool(call.get("keepdim", False))
    if order in (math.inf, -math.inf):
        return reduced(walk, call, unary(walk, call, x, "abs"), "max" if order > 0 else "min", over, keep)
    if order == 0:
        raise Refused("a norm of order 0")
    sizes = x if order == 2 else unary(walk, call, x, "abs")
    powers = sizes if order == 1 else unary(walk, call, sizes, "power", float(order))
    total = reduced(walk, call, powers, "sum", over, keep)
    if order == 1:
        return total
    return unary(walk, call, total, "sqrt") if order == 2 else unary(walk, call, total, "power", 1 / order)


def _similarity(walk: Walk, call: Call) -> Live:
    """cosine_similarity: products of vectors divided by their lengths."""
    parts = []
    for each in (call["x1"], call["x2"]):
        if not isinstance(each, Live):
            raise Refused("a similarity to a constant")
        length = reduced(walk, call, unary(walk, call, each, "power", 2.0), "sum", [each.dim(call["dim"])], True)
        length = clamped(walk, call, unary(walk, call, length, "sqrt"), call["eps"], None)
        parts.append(binary(walk, call, "divide", each, length))
    product = binary(walk, call, "multiply", *parts)
    return reduced(walk, call, product, "sum", [product.dim(call["dim"])], False)


RULES: dict[str, Rule] = {
    "mean": _reduce("mean"),
    "sum": _reduce("sum"),
    "amax": _reduce("max"),
    "amin": _reduce("min"),
    "max": _extreme("max", "maximum"),
    "min": _extreme("min", "minimum"),
    "all": _all_any("min"),
    "any": _all_any("max"),
    "softmax": _softmax,
    "_softmax": _softmax,
    "log_softmax": _log_softmax,
    "_log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "var": _variance(root=False),
    "std": _variance(root=True),
    "norm": _vector_norm,
    "linalg_vector_norm": _vector_norm,
    "cosine_similarity": _similarity,
}
