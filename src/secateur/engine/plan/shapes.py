"""The shape that each kind of operator gives, for one sample; what does not go together is refused.

Every function here takes attributes (of the right types), the shapes of the inputs and those of the constants by role,
and raises ``ValueError`` with what is wrong. Letters: C channels, H and W height and width, T and S places of a
sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from secateur.engine.plan.attributes import check_parameters
from secateur.engine.plan.values import Shape

__all__ = [
    "adaptive_pool",
    "attention",
    "binary",
    "broadcast",
    "concat",
    "constant",
    "conv",
    "embedding",
    "expand",
    "group_norm",
    "linear",
    "matmul",
    "norm",
    "pad",
    "permute",
    "pool",
    "reduce",
    "reshape",
    "same",
    "slice",
    "softmax",
    "upsample",
]

MAX_RANK = 8


def conv(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """[C, H, W] and a weight [O, C / groups, h, w] give [O, H', W']."""
    _need(len(x[0]) == 3, f"it reads {x[0]}, not [channels, height, width]")
    _need(len(c["weight"]) == 4, f"its weight has the shape {c['weight']}, not 4 axes")
    channels, *size = x[0]
    outputs, each, *kernel = c["weight"]
    groups = a["groups"]
    _need(outputs % groups == 0 and each * groups == channels, f"{groups} groups do not fit {c['weight']} and {x[0]}")
    return _fused(a, x, c, (outputs, *_windows(size, kernel, a)))


def linear(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """[..., K] and a weight [O, K] give [..., O]."""
    _need(len(x[0]) >= 1 and len(c["weight"]) == 2, f"it reads {x[0]} with a weight of the shape {c['weight']}")
    _need(x[0][-1] == c["weight"][1], f"its weight {c['weight']} does not fit {x[0]}")
    return _fused(a, x, c, (*x[0][:-1], c["weight"][0]))


def _fused(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape], out: Shape) -> Shape:
    check_parameters(a["activation"], a["alpha"], a["beta"])
    outputs = c["weight"][0]
    _need(c.get("bias", (outputs,)) == (outputs,), f"its bias has the shape {c.get('bias')}, not ({outputs},)")
    _need(len(x) < 2 or x[1] == out, f"what it adds has the shape {x[-1]}, what it writes {out}")
    return out


def embedding(_: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """Indices [...] of the rows of a weight [N, D] give [..., D]."""
    _need(len(c["weight"]) == 2, f"its weight has the shape {c['weight']}, not 2 axes")
    return (*x[0], c["weight"][1])


def pool(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """[C, H, W] gives [C, H', W']; every window sees something that is no padding."""
    _need(len(x[0]) == 3, f"it reads {x[0]}, not [channels, height, width]")
    dilation = a.get("dilation", (1, 1))
    for axis, size in enumerate(x[0][1:]):
        reach = dilation[axis] * (a["kernel"][axis] - 1)
        sides = a["padding"][2 * axis : 2 * axis + 2]
        _need(max(sides) <= reach, f"its padding {a['padding']} is wider than its windows")
        _need(dilation[axis] <= size, f"the gaps of its windows are wider than what it reads ({size})")
    return (x[0][0], *_windows(x[0][1:], a["kernel"], a))


def _windows(size: Any, kernel: Any, a: Mapping[str, Any]) -> Shape:
    """Return how many windows fit along the two axes."""
    dilation, counts = a.get("dilation", (1, 1)), []
    for axis in range(2):
        length = size[axis] + sum(a["padding"][2 * axis : 2 * axis + 2])
        rest = length - dilation[axis] * (kernel[axis] - 1) - 1
        _need(rest >= 0, f"a kernel of {kernel[axis]} is larger than the padded input ({length})")
        counts.append(rest // a["stride"][axis] + 1)
    return tuple(counts)


def adaptive_pool(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """[C, H, W] gives [C, *size]."""
    _need(len(x[0]) == 3, f"it reads {x[0]}, not [channels, height, width]")
    return (x[0][0], *a["size"])


def upsample(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """[C, H, W] gives [C, H * factor, W * factor]."""
    _need(len(x[0]) == 3, f"it reads {x[0]}, not [channels, height, width]")
    return (x[0][0], x[0][1] * a["factors"][0], x[0][2] * a["factors"][1])


def same(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """What it reads."""
    if "how" in a:
        check_parameters(a["how"], a["alpha"], a["beta"])
    return x[0]


def binary(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """Two shapes, broadcast as numpy does."""
    check_parameters(a["activation"], a["alpha"], a["beta"])
    return broadcast(*_operands(a, x, c))


def _operands(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> tuple[Shape, Shape]:
    _need(len(x) + len(c) == 2, "it needs two values, or one and a constant")
    _need(bool(c) or not a["swapped"], "two values are swapped")
    second = c["other"] if c else x[1]
    return (second, x[0]) if a["swapped"] else (x[0], second)


def broadcast(one: Shape, two: Shape) -> Shape:
    """Return the shape of two values together.

    Raises:
        ValueError: they do not go together.

    Example:
        >>> broadcast((3, 1, 5), (4, 1))
        (3, 4, 5)
    """
    out = []
    for first, second in zip_longest(reversed(one), reversed(two), fillvalue=1):
        _need(first == second or 1 in (first, second), f"{one} and {two} cannot be broadcast together")
        out.append(max(first, second))
    return tuple(reversed(out))


def reduce(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """Without its axes, or with 1 in their place."""
    axes = a["axes"]
    _need(list(axes) == sorted(set(axes)), f"its axes {axes} are not in order, each once")
    _need(all(axis < len(x[0]) for axis in axes), f"it reads {x[0]}, which has not all of the axes {axes}")
    if a["keep"]:
        return tuple(1 if axis in axes else size for axis, size in enumerate(x[0]))
    return tuple(size for axis, size in enumerate(x[0]) if axis not in axes)


def softmax(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """What it reads."""
    _need(a["axis"] < len(x[0]), f"it reads {x[0]}, which has no axis {a['axis']}")
    return x[0]


def norm(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """What it reads; weight and bias are shaped like the last axes."""
    _need(a["axes"] <= len(x[0]), f"it reads {x[0]}, which has fewer than {a['axes']} axes")
    _each(c, x[0][len(x[0]) - a["axes"] :])
    return x[0]


def group_norm(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """What it reads; weight and bias have a number for each channel."""
    _need(len(x[0]) >= 1 and x[0][0] % a["groups"] == 0, f"{a['groups']} groups do not fit {x[0]}")
    _each(c, x[0][:1])
    return x[0]


def _each(constants: Mapping[str, Shape], shape: Shape) -> None:
    for role, found in constants.items():
        _need(found == shape, f"its {role} has the shape {found}, not {shape}")


def matmul(a: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """[..., M, K] and [..., K, N] give [..., M, N]."""
    one, two = _operands(a, x, c)
    _need(min(len(one), len(two)) >= 2 and one[-1] == two[-2], f"{one} and {two} cannot be multiplied")
    return (*broadcast(one[:-2], two[:-2]), one[-2], two[-1])


def attention(_: Mapping[str, Any], x: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """[..., T, D], [..., S, D] and [..., S, E] give [..., T, E]; a mask is broadcast to [..., T, S]."""
    q, k, v = x[:3]
    _need(len(q) == len(k) == len(v) >= 2, f"queries {q}, keys {k} and values {v} do not go together")
    _need(q[:-2] == k[:-2] == v[:-2], f"queries {q}, keys {k} and values {v} differ along the axes ahead")
    _need(q[-1] == k[-1] and k[-2] == v[-2], f"queries {q}, keys {k} and values {v} do not go together")
    _need(len(x) + len(c) <= 4, "it has two masks")
    scores = (*q[:-1], k[-2])
    for mask in (*x[3:], *c.values()):
        _need(broadcast(mask, scores) == scores, f"its mask {mask} does not fit scores of {scores}")
    return (*q[:-1], v[-1])


def reshape(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """The shape it names."""
    _bounded(a["shape"])
    _need(math.prod(a["shape"]) == math.prod(x[0]), f"{x[0]} cannot be laid out as {a['shape']}")
    return tuple(a["shape"])


def permute(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """The axes in another order."""
    _need(sorted(a["order"]) == list(range(len(x[0]))), f"{a['order']} is no order of the axes of {x[0]}")
    return tuple(x[0][axis] for axis in a["order"])


def expand(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """The shape it names: what is 1 along an axis may be repeated."""
    _bounded(a["shape"])
    fits = len(a["shape"]) == len(x[0]) and all(n in (1, m) for n, m in zip(x[0], a["shape"], strict=True))
    _need(fits, f"{x[0]} cannot be expanded to {a['shape']}")
    return tuple(a["shape"])


def slice(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:  # noqa: A001
    """Every ``step``-th from ``start`` on, ahead of ``stop``."""
    _need(a["axis"] < len(x[0]), f"it reads {x[0]}, which has no axis {a['axis']}")
    start, stop, step = a["start"], a["stop"], a["step"]
    _need(start < stop <= x[0][a["axis"]], f"{start} to {stop} is not a part of axis {a['axis']} of {x[0]}")
    return _with(x[0], a["axis"], -((start - stop) // step))


def concat(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """One after the other along an axis."""
    axis = a["axis"]
    _need(axis < len(x[0]), f"it reads {x[0]}, which has no axis {axis}")
    total = 0
    for shape in x:
        fits = len(shape) == len(x[0]) and _with(shape, axis, 1) == _with(x[0], axis, 1)
        _need(fits, f"{x[0]} and {shape} cannot be put together along axis {axis}")
        total += shape[axis]
    return _with(x[0], axis, total)


def pad(a: Mapping[str, Any], x: list[Shape], _: Mapping[str, Shape]) -> Shape:
    """More at the beginning and end of each axis."""
    sides = a["padding"]
    _need(len(sides) == 2 * len(x[0]), f"its padding {sides} is not two numbers for each axis of {x[0]}")
    return tuple(size + sides[2 * axis] + sides[2 * axis + 1] for axis, size in enumerate(x[0]))


def constant(_: Mapping[str, Any], __: list[Shape], c: Mapping[str, Shape]) -> Shape:
    """The shape of the constant."""
    return c["value"]


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _bounded(shape: Shape) -> None:
    # Before a product is taken of it.
    _need(len(shape) <= MAX_RANK, f"a shape of {len(shape)} axes; {MAX_RANK} are allowed")


def _need(fine: bool, text: str) -> None:
    if not fine:
        raise ValueError(text)
