"""Operations number by number: activations, arithmetic, comparisons, types."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch

from secateur.engine.lowering.batch import Fixed, Live, Refused
from secateur.engine.lowering.building import with_activation
from secateur.engine.lowering.rules.moving import expanded
from secateur.engine.lowering.walk import Call, Rule, Walk, under
from secateur.engine.plan.values import Shape

__all__ = ["RULES", "binary", "number", "unary"]

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


def _shape(operand: Operand) -> Shape:
    return operand.shape if isinstance(operand, Live | Fixed) else ()


def _trimmed(array: Any, rank: int) -> Any:
    """Return an array without axes of 1 ahead that broadcasting with ``rank`` axes brings back."""
    while array.shape[:1] == (1,) and array.ndim <= rank:
        array = array[0]
    return array


def _plain(walk: Walk, call: Call) -> Live:
    return unary(walk, call, _x(call), _PLAIN[call.name.removesuffix("_")])


def _gelu(walk: Walk, call: Call) -> Live:
    return unary(walk, call, _x(call), "gelu_tanh" if call["approximate"] == "tanh" else "gelu")


def _leaky_relu(walk: Walk, call: Call) -> Live:
    return unary(walk, call, _x(call), "leaky_relu", call["negative_slope"])


def _elu(walk: Walk, call: Call) -> Live:
    """Elu, selu, celu: one formula, scaled."""
    x, name = _x(call), call.name.removesuffix("_")
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
    return clamped(walk, call, _x(call), low, high)


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
    return unary(walk, call, _x(call), "softplus", call["beta"], call["threshold"])


def _mish(walk: Walk, call: Call) -> Live:
    x = _x(call)
    y = unary(walk, call, unary(walk, call, x, "softplus", 1.0, 20.0), "tanh")
    return binary(walk, call, "multiply", x, y)


def _prelu(walk: Walk, call: Call) -> Live:
    """max(x, 0) + slope min(x, 0), with a slope for each channel."""
    x, slope = _x(call), call["weight"]
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
    return unary(walk, call, _x(call), "power", 2.0)


def _shifted(shift: float, how: str, first: bool) -> Rule:
    """expm1, log1p: a function with a constant added before or after."""

    def rule(walk: Walk, call: Call) -> Live:
        if first:
            return unary(walk, call, binary(walk, call, "add", _x(call), shift), how)
        return binary(walk, call, "add", unary(walk, call, _x(call), how), shift)

    return rule


# -- two tensors -------------------------------------------------------------------------------------------------------


def _arithmetic(how: str, reverse: bool = False) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        one, two = call["self"], call["other"]
        scale = call.get("alpha", 1)
        _check_whole(call, how)
        if call.get("rounding_mode") is not None:
            raise Refused("division that is rounded")
        if reverse:
            one, two = two, one
        if scale != 1:
            two = _scaled(walk, call, two, scale)
        return _typed(binary(walk, call, how, one, two), call.dtype)

    return rule


def _check_whole(call: Call, how: str) -> None:
    """Refuse arithmetic on whole numbers that differs from that on floats."""
    operands = [each for each in (call["self"], call["other"]) if isinstance(each, Live)]
    whole = not call.dtype.is_floating_point and call.dtype != torch.bool
    if (
        whole
        and (how in ("divide", "power") or any(not each.dtype.is_floating_point for each in operands))
        and (how not in ("add", "subtract", "multiply", "maximum", "minimum"))
    ):
        raise Refused("arithmetic on whole numbers")


def _typed(x: Live, dtype: torch.dtype) -> Live:
    return Live(x.name, x.shape, x.batch, dtype, x.value)


def _scaled(walk: Walk, call: Call, operand: Operand, scale: float) -> Operand:
    if isinstance(operand, Live):
        return binary(walk, call, "multiply", operand, scale)
    return Fixed(operand.tensor * scale) if isinstance(operand, Fixed) else operand * scale


def _addcmul(walk: Walk, call: Call) -> Live:
    how = "divide" if "div" in call.name else "multiply"
    one, two = call["tensor1"], call["tensor2"]
    if isinstance(one, Live) or isinstance(two, Live):
        product: Operand = binary(walk, call, how, one, two)
    else:
        product = Fixed(one.tensor / two.tensor if how == "divide" else one.tensor * two.tensor)
    return binary(walk, call, "add", call["self"], _scaled(walk, call, product, call["value"]))


def _compare(how: str) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        return _typed(binary(walk, call, how, call["self"], call["other"]), torch.bool)

    return rule


def _logical(how: str) -> Rule:
    """And, or of truths, which are 0 and 1."""

    def rule(walk: Walk, call: Call) -> Live:
        operands = [truth(walk, call, each) for each in (call["self"], call["other"])]
        if call.dtype != torch.bool:
            raise Refused("bits of whole numbers")
        return _typed(binary(walk, call, how, *operands), torch.bool)

    return rule


def truth(walk: Walk, call: Call, x: Any) -> Any:
    """Return 0 or 1 for every number."""
    if isinstance(x, Fixed):
        return Fixed(x.tensor.bool())
    if not isinstance(x, Live):
        return bool(x)
    return x if x.dtype == torch.bool else _typed(binary(walk, call, "not_equal", x, 0.0), torch.bool)


def opposite(walk: Walk, call: Call, x: Any) -> Any:
    """Return 1 where it is 0 and 0 where it is 1."""
    if isinstance(x, Fixed):
        return Fixed(~x.tensor.bool())
    return _typed(binary(walk, call, "subtract", 1.0, truth(walk, call, x)), torch.bool)


def _not(walk: Walk, call: Call) -> Live:
    if call.dtype != torch.bool:
        raise Refused("bits of whole numbers")
    return opposite(walk, call, _x(call))  # type: ignore[no-any-return]


# -- choices -----------------------------------------------------------------------------------------------------------


def _masked_fill(walk: Walk, call: Call) -> Live:
    return chosen(walk, call, call["mask"], call["value"], call["self"])


def _where(walk: Walk, call: Call) -> Live:
    return chosen(walk, call, call["condition"], call["self"], call["other"])


def chosen(walk: Walk, call: Call, condition: Any, yes: Any, no: Any) -> Live:
    """Return ``yes`` where the condition is 1 and ``no`` where it is 0.

    There is no operator for it: what is not chosen is multiplied by 0, or by adding minus infinity hidden, so a number
    that is not finite must not be on the side that is not chosen.
    """
    if number(no) == -math.inf:
        condition, yes, no = opposite(walk, call, condition), no, yes
    if number(yes) == -math.inf:
        # log(0) is minus infinity, log(1) is 0.
        hidden = opposite(walk, call, condition)
        mask = Fixed(hidden.tensor.float().log()) if isinstance(hidden, Fixed) else unary(walk, call, hidden, "log")
        if number(no) == 0 and isinstance(mask, Live):
            return _wide(walk, call, mask)
        return _wide(walk, call, binary(walk, call, "add", no, mask))
    if not all(math.isfinite(number(each)) for each in (yes, no) if number(each) is not None):
        raise Refused("a choice between numbers that are not finite")
    parts = _part(walk, call, yes, condition), _part(walk, call, no, opposite(walk, call, condition))
    lives = [part for part in parts if part is not None]
    total = lives[0] if len(lives) == 1 else binary(walk, call, "add", *lives)
    return _typed(_wide(walk, call, total), call.dtype)


def _part(walk: Walk, call: Call, value: Any, condition: Any) -> Any:
    """Return the value where the condition holds, and 0 elsewhere; None if it is 0 everywhere."""
    if number(value) == 0:
        return None
    if isinstance(value, Live) or isinstance(condition, Live):
        return binary(walk, call, "multiply", value, condition)
    return Fixed(torch.where(condition.tensor, value.tensor if isinstance(value, Fixed) else value, 0.0))


def number(value: Any) -> Any:
    """Return what a number, or a tensor of one, is; None for anything else."""
    if isinstance(value, Fixed) and value.tensor.numel() == 1:
        return value.tensor.item()
    return value if isinstance(value, int | float) else None


def _wide(walk: Walk, call: Call, x: Any) -> Live:
    if not isinstance(x, Live):
        raise Refused("a choice between constants")
    return x if x.shape == call.shape else expanded(walk, call, x, call.shape)


# -- types -------------------------------------------------------------------------------------------------------------


def _to(walk: Walk, call: Call) -> Live:
    """Floats stay floats; truths become 0 and 1, and whole numbers the same numbers."""
    x, dtype = _x(call), call.dtype
    if dtype == torch.bool:
        return truth(walk, call, x)  # type: ignore[no-any-return]
    if dtype.is_floating_point:
        return _typed(walk.floats(call, x), dtype)
    if dtype.is_complex or x.dtype.is_floating_point:
        raise Refused(f"{x.dtype} made {dtype}")
    return _typed(x, dtype)


def _x(call: Call) -> Live:
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
    **under(_arithmetic("add"), "add"),
    **under(_arithmetic("subtract"), "sub", "subtract"),
    **under(_arithmetic("subtract", reverse=True), "rsub"),
    **under(_arithmetic("multiply"), "mul", "multiply"),
    **under(_arithmetic("divide"), "div", "divide", "true_divide"),
    **under(_arithmetic("maximum"), "maximum"),
    **under(_arithmetic("minimum"), "minimum"),
    **under(_addcmul, "addcmul", "addcdiv"),
    **under(_compare("equal"), "eq"),
    **under(_compare("not_equal"), "ne"),
    **under(_compare("less"), "lt"),
    **under(_compare("less_equal"), "le"),
    **under(_compare("greater"), "gt"),
    **under(_compare("greater_equal"), "ge"),
    **under(_logical("multiply"), "logical_and", "bitwise_and", "__and__"),
    **under(_logical("maximum"), "logical_or", "bitwise_or", "__or__"),
    **under(_not, "logical_not", "bitwise_not"),
    **under(_masked_fill, "masked_fill"),
    **under(_where, "where"),
    **under(_to, "to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "bool", "long", "int"),
}
