"""Operations number by number: activations and other functions, and the two that all others are made of."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch

from secateur.engine.lowering.batch import Fixed, Live, Refused
from secateur.engine.lowering.building import with_activation
from secateur.engine.lowering.walk import Call, Rule, Walk, under
from secateur.engine.plan.values import Shape

__all__ = ["RULES", "Operand", "binary", "clamped", "operand", "typed", "unary"]

# What arithmetic is done on: tensors and numbers.
Operand: TypeAlias = "Live | Fixed | float"

_PLAIN = {
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "abs": "abs",
    "absolute": "abs",
    "neg": "negative",
    "negative": "negative",
    "reciprocal": "reciprocal",
    "sin": "sin",
    "cos": "cos",
    "erf": "erf",
    "special_erf": "erf",
    "floor": "floor",
}
_EITHER_WAY = ("add", "multiply", "maximum", "minimum", "equal", "not_equal")
_SELU = (1.0507009873554805, 1.6732632423543772)


def unary(walk: Walk, call: Call, x: Live, how: str, *parameters: float) -> Live:
    """Add one function of one tensor."""
    x = walk.floats(call, x)
    alpha, beta = (*map(float, parameters), 0.0, 0.0)[:2]
    name = walk.emit(call, "unary", [x], {"how": how, "alpha": alpha, "beta": beta})
    return walk.live(name, x.shape, x.batch)


def binary(walk: Walk, call: Call, how: str, one: Operand, two: Operand) -> Live:
    """Add one function of two tensors, broadcast together; a number or constant tensor becomes a constant.

    Raises:
        Refused: samples would meet others than themselves.
    """
    shape = torch.broadcast_shapes(_shape(one), _shape(two))
    lives = [walk.floats(call, each) for each in (one, two) if isinstance(each, Live)]
    if len({each.place() for each in lives}) > 1:
        raise Refused("it mixes samples of a batch")
    like = lives[0]
    batch = like.batch.moved(len(shape) - len(like.shape) + like.batch.dim)
    swapped = not isinstance(one, Live) and how not in _EITHER_WAY
    attributes = {"how": how, "swapped": swapped, **with_activation()}
    if len(lives) == 2:
        return walk.live(walk.emit(call, "binary", lives, attributes), shape, batch)
    other = two if isinstance(one, Live) else one
    if isinstance(other, Fixed):
        constant = (_trimmed(other.sampled(batch, len(shape)), len(like.sample)), other.name)
    else:
        constant = (np.asarray(other, np.float64), "")
    return walk.live(walk.emit(call, "binary", lives, attributes, {"other": constant}), shape, batch)


def _shape(each: Operand) -> Shape:
    return each.shape if isinstance(each, Live | Fixed) else ()


def _trimmed(array: Any, rank: int) -> Any:
    """Return an array without axes of 1 ahead that broadcasting with ``rank`` axes brings back."""
    while array.shape[:1] == (1,) and array.ndim <= rank:
        array = array[0]
    return array


def _plain(walk: Walk, call: Call) -> Live:
    return unary(walk, call, operand(call), _PLAIN[call.name.removesuffix("_")])


def _gelu(walk: Walk, call: Call) -> Live:
    return unary(walk, call, operand(call), "gelu_tanh" if call["approximate"] == "tanh" else "gelu")


def _leaky_relu(walk: Walk, call: Call) -> Live:
    return unary(walk, call, operand(call), "leaky_relu", call["negative_slope"])


def _elu(walk: Walk, call: Call) -> Live:
    """Elu, selu, celu: one formula, scaled."""
    x, name = operand(call), call.name.removesuffix("_")
    if name == "celu":  # alpha elu(x / alpha)
        y = unary(walk, call, binary(walk, call, "divide", x, call["alpha"]), "elu", 1.0)
        return binary(walk, call, "multiply", y, call["alpha"])
    scale, alpha = _SELU if name == "selu" else (float(call["scale"]), float(call["alpha"]))
    if name == "elu" and call["input_scale"] != 1:
        raise Refused("an input_scale other than 1")
    y = unary(walk, call, x, "elu", alpha)
    return y if scale == 1 else binary(walk, call, "multiply", y, scale)


def _clamp(walk: Walk, call: Call) -> Live:
    """Clamp, hardtanh: to both sides at once, or by what is larger or smaller."""
    low, high = call.get("min", call.get("min_val")), call.get("max", call.get("max_val"))
    return clamped(walk, call, operand(call), low, high)


def clamped(walk: Walk, call: Call, x: Live, low: Any, high: Any) -> Live:
    """Keep a tensor between two bounds; each may be a number, a tensor or None."""
    if low == 0 and high == 6:
        return unary(walk, call, x, "relu6")
    if low == 0 and high is None:
        return unary(walk, call, x, "relu")
    if all(isinstance(each, int | float) and math.isfinite(each) for each in (low, high)) and low <= high:
        return unary(walk, call, x, "clamp", low, high)
    if low is not None:
        x = binary(walk, call, "maximum", x, low)
    return x if high is None else binary(walk, call, "minimum", x, high)


def _softplus(walk: Walk, call: Call) -> Live:
    return unary(walk, call, operand(call), "softplus", call["beta"], call["threshold"])


def _mish(walk: Walk, call: Call) -> Live:
    x = operand(call)
    y = unary(walk, call, unary(walk, call, x, "softplus", 1.0, 20.0), "tanh")
    return binary(walk, call, "multiply", x, y)


def _prelu(walk: Walk, call: Call) -> Live:
    """max(x, 0) + slope min(x, 0), with a slope for each channel."""
    x, slope = operand(call), call["weight"]
    if not isinstance(slope, Fixed):
        raise Refused("a slope that depends on the input")
    wide = slope.tensor.reshape(-1, *[1] * (len(x.shape) - 2)) if len(x.shape) > 1 else slope.tensor
    below = binary(walk, call, "multiply", binary(walk, call, "minimum", x, 0.0), Fixed(wide, slope.name))
    return binary(walk, call, "add", unary(walk, call, x, "relu"), below)


def _power(walk: Walk, call: Call) -> Live:
    x, exponent = call["self"], call["exponent"]
    if isinstance(x, Live) and isinstance(exponent, int | float):
        if exponent == 0.5:
            return unary(walk, call, x, "sqrt")
        return x if exponent == 1 and x.value.dtype == "F32" else unary(walk, call, x, "power", exponent)
    return binary(walk, call, "power", x, exponent)


def _square(walk: Walk, call: Call) -> Live:
    return unary(walk, call, operand(call), "power", 2.0)


def _shifted(shift: float, how: str, first: bool) -> Rule:
    """expm1, log1p: a function with a constant added before or after."""

    def rule(walk: Walk, call: Call) -> Live:
        if first:
            return unary(walk, call, binary(walk, call, "add", operand(call), shift), how)
        return binary(walk, call, "add", unary(walk, call, operand(call), how), shift)

    return rule


def typed(x: Live, dtype: torch.dtype) -> Live:
    """Return a tensor of another type; the value is the same."""
    return Live(x.name, x.shape, x.batch, dtype, x.value)


def operand(call: Call) -> Live:
    """Return what an operation of one tensor reads."""
    x = call.get("self", call.get("input"))
    if not isinstance(x, Live):
        raise Refused("an operand that depends on the input in an unusual place")
    return x


RULES: dict[str, Rule] = {
    **under(_plain, *_PLAIN),
    **under(_gelu, "gelu"),
    **under(_leaky_relu, "leaky_relu"),
    **under(_elu, "elu", "selu", "celu"),
    **under(_clamp, "clamp", "clip", "hardtanh", "clamp_min", "clamp_max"),
    **under(_softplus, "softplus"),
    **under(_mish, "mish"),
    **under(_prelu, "prelu", "_prelu_kernel"),
    **under(_power, "pow"),
    **under(_square, "square"),
    **under(_shifted(-1.0, "exp", False), "expm1"),
    **under(_shifted(1.0, "log", True), "log1p"),
}
