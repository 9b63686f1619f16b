"""Products of matrices: of an activation and a weight, of two activations, and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from secateur.engine.lowering.batch import Fixed, Live, Refused
from secateur.engine.lowering.building import Constant, with_activation
from secateur.engine.lowering.rules.elements import binary, unary
from secateur.engine.lowering.rules.moving import expanded
from secateur.engine.lowering.walk import Call, Rule, Walk, under
from secateur.engine.plan.values import Array

__all__ = ["RULES", "contracted", "linear"]


def linear(walk: Walk, call: Call, x: Live, weight: Constant, bias: Any) -> Live:
    """Multiply the last axis with the rows of a matrix [O, K]."""
    x = walk.floats(call, x)
    x.axis(-1)
    constants = {"weight": weight}
    one = isinstance(bias, Fixed) and bias.shape == weight[0].shape[:1]
    if one:
        constants["bias"] = (bias.array(), bias.name)
    name = walk.emit(call, "linear", [x], with_activation(), constants)
    y = walk.live(name, [*x.shape[:-1], weight[0].shape[0]], x.batch)
    return y if bias is None or one else binary(walk, call, "add", y, bias)


def contracted(walk: Walk, call: Call, x: Live, dim: int, matrix: Array) -> Live:
    """Multiply one axis of a tensor with the rows of a matrix [O, K]."""
    x = walk.floats(call, x)
    axis, rank = x.axis(dim), len(x.sample)
    shape = [*x.shape]
    shape[x.dim(dim)] = len(matrix)
    if axis == rank - 1:
        return linear(walk, call, x, (matrix, f"{call.where}.matrix"), None)
    if axis == rank - 2:
        name = walk.emit(call, "matmul", [x], {"swapped": True}, {"other": (matrix, f"{call.where}.matrix")})
        return walk.live(name, shape, x.batch)
    raise Refused("a product along an axis far ahead")


def _matmul(walk: Walk, call: Call) -> Live:
    """Matrices in the last two axes; a vector is a matrix of one row or column."""
    one, two = call["self"], call.get("other", call.get("mat2", call.get("vec")))
    if len(one.shape) == 1:
        one = _laid(walk, call, one, [1, *one.shape])
    if len(two.shape) == 1:
        two = _laid(walk, call, two, [*two.shape, 1])
    product = _product(walk, call, one, two)
    return walk.reshaped(call, product, call.shape)


def _laid(walk: Walk, call: Call, x: Live | Fixed, shape: list[int]) -> Live | Fixed:
    return walk.reshaped(call, x, shape) if isinstance(x, Live) else Fixed(x.tensor.reshape(shape), x.name)


def _product(walk: Walk, call: Call, one: Any, two: Any) -> Live:
    if isinstance(two, Fixed) and not any(size > 1 for size in two.shape[:-2]):
        # Rows are multiplied one by one, whatever they count.
        weight = (two.array().reshape(two.shape[-2:]).T, two.name)
        y = linear(walk, call, one, weight, None)
        return walk.reshaped(call, y, [*[1] * (len(two.shape) - len(y.shape)), *y.shape])
    if isinstance(one, Fixed) and two.place()[0] == 1 and not any(size > 1 for size in one.shape[:-2]):
        return _columns(walk, call, one, two)
    lives = [walk.floats(call, each) for each in (one, two) if isinstance(each, Live)]
    if len({each.place() for each in lives}) > 1 or any(each.place()[0] <= 2 for each in lives):
        raise Refused("it mixes samples of a batch")
    shape = [*torch.broadcast_shapes(one.shape[:-2], two.shape[:-2]), one.shape[-2], two.shape[-1]]
    like = lives[0]
    batch = like.batch.moved(len(shape) - len(like.shape) + like.batch.dim)
    swapped = not isinstance(one, Live)
    if len(lives) == 2:
        return walk.live(walk.emit(call, "matmul", lives, {"swapped": False}), shape, batch)
    other = one if swapped else two
    constant = (other.sampled(batch, len(shape)), other.name)
    return walk.live(walk.emit(call, "matmul", lives, {"swapped": swapped}, {"other": constant}), shape, batch)


def _columns(walk: Walk, call: Call, one: Fixed, two: Live) -> Live:
    """Multiply a matrix with columns that count samples: each is multiplied by itself."""
    two = walk.floats(call, two)
    weight = (one.array().reshape(one.shape[-2:]), one.name)
    if two.batch.merged > 1:
        name = walk.emit(call, "matmul", [two], {"swapped": True}, {"other": weight})
    else:
        name = walk.emit(call, "linear", [two], with_activation(), {"weight": weight})
    y = walk.live(name, [*two.shape[:-2], one.shape[-2], two.shape[-1]], two.batch)
    return walk.reshaped(call, y, [*[1] * (len(one.shape) - len(y.shape)), *y.shape])


def _addmm(walk: Walk, call: Call) -> Live:
    """beta * self + alpha * (mat1 @ mat2)"""
    bias = call["self"]
    one, two = (call.get("mat1", call.get("batch1")), call.get("mat2", call.get("batch2")))
    if call["beta"] == 1 == call["alpha"] and isinstance(one, Live) and isinstance(two, Fixed) and len(two.shape) == 2:
        return linear(walk, call, one, (two.array().T, two.name), bias)
    if not isinstance(one, Live) and not isinstance(two, Live):
        raise Refused("a product of constants")
    product = _product(walk, call, one, two)
    if call["alpha"] != 1:
        product = binary(walk, call, "multiply", product, call["alpha"])
    if call["beta"] != 1:
        bias = (
            Fixed(bias.tensor * call["beta"])
            if isinstance(bias, Fixed)
            else binary(walk, call, "multiply", bias, call["beta"])
        )
    return binary(walk, call, "add", product, bias) if call["beta"] else product


# -- attention ---------------------------------------------------------------------------------------------------------


def _attention(walk: Walk, call: Call) -> Any:
    """softmax(scale q k' + mask) v, of heads that share keys and values or do not."""
    q, k, v = (_whole(walk, call, call[name]) for name in ("query", "key", "value"))
    if call.get("dropout_p"):
        raise Refused("chance: dropout that does not end with training")
    q, k, v = (walk.floats(call, each) for each in (q, k, v))
    if len({each.place() for each in (q, k, v)}) > 1 or q.place()[0] <= 2:
        raise Refused("it mixes samples of a batch")
    if call.get("enable_gqa"):
        k, v = (_shared(walk, call, each, q.shape[-3]) for each in (k, v))
    ahead = torch.broadcast_shapes(*(each.shape[:-2] for each in (q, k, v)))
    q, k, v = (expanded(walk, call, each, [*ahead, *each.shape[-2:]]) for each in (q, k, v))
    scale = call.get("scale")
    attributes = {
        "scale": float(scale if scale is not None else 1 / math.sqrt(q.shape[-1])),
        "causal": bool(call.get("is_causal", False)),
    }
    inputs, constants = _mask(walk, call, q, k)
    name = walk.emit(call, "attention", [q, k, v, *inputs], attributes, constants)
    y = walk.live(name, [*q.shape[:-1], v.shape[-1]], q.batch)
    return y if call.name == "scaled_dot_product_attention" else [y, *[None] * 8]


def _whole(walk: Walk, call: Call, x: Any) -> Live:
    if isinstance(x, Live):
        return x
    raise Refused("queries, keys or values that do not depend on the input")


def _shared(walk: Walk, call: Call, x: Live, heads: int) -> Live:
    """Repeat each head for all queries that share it."""
    own = x.shape[-3]
    if own == heads:
        return x
    apart = walk.reshaped(call, x, [*x.shape[:-2], 1, *x.shape[-2:]])
    wide = expanded(walk, call, apart, [*x.shape[:-2], heads // own, *x.shape[-2:]])
    return walk.reshaped(call, wide, [*x.shape[:-3], heads, *x.shape[-2:]])


def _mask(walk: Walk, call: Call, q: Live, k: Live) -> tuple[list[Live], dict[str, Constant]]:
    """Return the mask as an input or as a constant; one of truths becomes 0 and minus infinity."""
    mask = call.get("attn_mask", call.get("attn_bias"))
    if mask is None:
        return [], {}
    rank = len(q.shape)
    if isinstance(mask, Fixed):
        tensor = mask.tensor.float().log() if mask.tensor.dtype == torch.bool else mask.tensor
        array = np.asarray(Fixed(tensor).sampled(q.batch, rank))
        return ([], {}) if not array.any() else ([], {"mask": (array, "")})
    live = unary(walk, call, mask, "log") if mask.dtype == torch.bool else walk.floats(call, mask)
    if live.place() != q.place():
        raise Refused("it mixes samples of a batch")
    return [live], {}


RULES: dict[str, Rule] = {
    **under(_matmul, "matmul", "mm", "bmm", "mv", "linalg_matmul"),
    **under(_addmm, "addmm", "baddbmm"),
    **under(_attention, "scaled_dot_product_attention", "_scaled_dot_product_attention_math"),
    **under(_attention, "_scaled_dot_product_flash_attention_for_cpu"),
}
