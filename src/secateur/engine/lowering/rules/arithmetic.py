"""Operations of two tensors number by number: arithmetic, comparisons, truths, choices; and changes of type."""

from __future__ import annotations

import math
from typing import Any

import torch

from secateur.engine.lowering.batch import Fixed, Live, Refused
from secateur.engine.lowering.rules.elements import Operand, binary, operand, typed, unary
from secateur.engine.lowering.rules.moving import expanded
from secateur.engine.lowering.walk import Call, Rule, Walk, under

__all__ = ["RULES", "truth"]


def _arithmetic(how: str, reverse: bool = False) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        one, two = call["self"], call["other"]
        scale = call.get("alpha", 1)
        if call.get("rounding_mode") is not None:
            raise Refused("division that is rounded")
        if reverse:
            one, two = two, one
        if scale != 1:
            two = _scaled(walk, call, two, scale)
        return typed(binary(walk, call, how, one, two), call.dtype)

    return rule


def _scaled(walk: Walk, call: Call, each: Operand, scale: float) -> Operand:
    if isinstance(each, Live):
        return binary(walk, call, "multiply", each, scale)
    return Fixed(each.tensor * scale) if isinstance(each, Fixed) else each * scale


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
        return typed(binary(walk, call, how, call["self"], call["other"]), torch.bool)

    return rule


def _logical(how: str) -> Rule:
    """And, or of truths, which are 0 and 1."""

    def rule(walk: Walk, call: Call) -> Live:
        operands = [truth(walk, call, each) for each in (call["self"], call["other"])]
        if call.dtype != torch.bool:
            raise Refused("bits of whole numbers")
        return typed(binary(walk, call, how, *operands), torch.bool)

    return rule


def truth(walk: Walk, call: Call, x: Any) -> Any:
    """Return 0 or 1 for every number."""
    if isinstance(x, Fixed):
        return Fixed(x.tensor.bool())
    if not isinstance(x, Live):
        return bool(x)
    return x if x.dtype == torch.bool else typed(binary(walk, call, "not_equal", x, 0.0), torch.bool)


def opposite(walk: Walk, call: Call, x: Any) -> Any:
    """Return 1 where it is 0 and 0 where it is 1."""
    if isinstance(x, Fixed):
        return Fixed(~x.tensor.bool())
    return typed(binary(walk, call, "subtract", 1.0, truth(walk, call, x)), torch.bool)


def _not(walk: Walk, call: Call) -> Live:
    if call.dtype != torch.bool:
        raise Refused("bits of whole numbers")
    return opposite(walk, call, operand(call))  # type: ignore[no-any-return]


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
    return typed(_wide(walk, call, total), call.dtype)


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
    x, dtype = operand(call), call.dtype
    if dtype == torch.bool:
        return truth(walk, call, x)  # type: ignore[no-any-return]
    if dtype.is_floating_point:
        return typed(walk.floats(call, x), dtype)
    if dtype.is_complex or x.dtype.is_floating_point:
        raise Refused(f"{x.dtype} made {dtype}")
    return typed(x, dtype)


RULES: dict[str, Rule] = {
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
