"""How much memory a plan will take, known before any of it is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator

from secateur.engine.placing.decisions import Layouts
from secateur.engine.plan.values import Op, Plan
from secateur.vocabulary import SecateurError

__all__ = ["LARGEST", "TooLargeError", "check_room"]

# Floats of a value: tables count them in 32 bits.
LARGEST = (1 << 31) - 1


class TooLargeError(SecateurError, ValueError):
    """A network needs more memory than an engine can take, or than is allowed."""


def check_room(layouts: Layouts, max_bytes: int | None = None) -> None:
    """Refuse a plan that is too large for its target.

    Args:
        layouts: of the plan.
        max_bytes: how much all values of one sample may take together, in memory; no limit if None.

    Raises:
        TooLargeError: one value is larger than 8 GiB, or all together are larger than allowed.
    """
    total, width = 0, layouts.target.lanes if layouts.target.batched else 1
    for where, floats in _sizes(layouts):
        if floats > LARGEST:
            raise TooLargeError(
                f"{where} needs {4 * floats // width:,} bytes for one sample, and {width} samples are computed at a "
                "time; an engine takes up to 8 GiB for that: compile the model for smaller inputs"
            )
        total += 4 * floats // width
    if max_bytes is not None and total > max_bytes:
        raise TooLargeError(
            f"its values take {total:,} bytes for one sample, more than the {max_bytes:,} allowed; if you trust it, "
            "allow them with max_bytes="
        )


def _sizes(layouts: Layouts) -> Iterator[tuple[str, int]]:
    """Yield the floats of everything that is kept, with the name of what it is for."""
    plan, target = layouts.plan, layouts.target
    for name in plan.inputs:
        yield f"the input {name!r}", layouts.home(name).floats(target)
    for op, decision in zip(plan.ops, layouts.decisions, strict=True):
        where = f"{op.kind} at {op.where!r}"
        yield where, decision.writes.floats(target)
        for name, layout in zip(op.inputs, decision.reads, strict=True):
            yield where, layouts.final(name, layout).floats(target)
        yield where, _beside(plan, op) * (target.lanes if target.batched else 1)


def _beside(plan: Plan, op: Op) -> int:
    """Return how many elements an operator needs beside what it reads and writes."""
    shapes, made = [plan.values[name].shape for name in op.inputs], plan.values[op.output].shape
    if op.kind == "attention":  # scores, and masks of their size
        return math.prod(made[:-1]) * shapes[1][-2] * 3
    if op.kind == "matmul":  # operands, repeated along the axes ahead
        shapes += [plan.constants[name].shape for name in op.constants.values()]
        return math.prod(made[:-2]) * sum(math.prod(shape[-2:]) for shape in shapes)
    if op.kind == "adaptive_pool":  # windows side by side; they overlap by a pixel at each end
        return made[0] * math.prod(min(size + 2 * n, n * size) for n, size in zip(made[1:], shapes[0][1:], strict=True))
    return 0
