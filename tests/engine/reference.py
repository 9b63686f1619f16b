"""What a plan means: an interpreter in NumPy, in float64, written for clarity alone and without torch.

Values here are arrays [batch, *shape]. Constants are float32 in a plan and are cast up. Every kind of operator is one
function of the operator, the arrays it reads and the constants by role; ``run`` looks them up by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from secateur.engine.plan import Op, Plan

Array = NDArray[Any]
Arrays = Mapping[str, Array]


def run(plan: Plan, inputs: Arrays) -> dict[str, Array]:
    """Return the outputs of a plan by name.

    Args:
        plan: one that passes ``check``.
        inputs: an array [batch, *shape] for each of its inputs, all of the same batch.
    """
    values = {name: np.asarray(inputs[name]) for name in plan.inputs}
    for name, array in values.items():
        whole = plan.values[name].dtype == "I64"
        values[name] = array.astype(np.int64 if whole else np.float64)
    batch = next((len(array) for array in values.values()), 1)
    for op in plan.ops:
        constants = {role: np.asarray(plan.constants[name], np.float64) for role, name in op.constants.items()}
        with np.errstate(all="ignore"):
            result = OPERATORS[op.kind](op, [values[name] for name in op.inputs], constants)
        values[op.output] = np.broadcast_to(result, (batch, *result.shape[1:])) if op.kind == "constant" else result
        assert values[op.output].shape == (batch, *plan.values[op.output].shape), f"{op}: {result.shape}"
    return {name: values[name] for name in plan.outputs}


# -- layers with weights -----------------------------------------------------------------------------------------------


def conv(op: Op, x: list[Array], c: Arrays) -> Array:
    """Every output channel reads the channels of its group through windows padded with zeros."""
    a, weight = op.attributes, c["weight"]
    windows = _windows(x[0], weight.shape[2:], a, 0.0)  # [batch, C, H', W', h, w]
    groups, outputs = a["groups"], weight.shape[0]
    split = windows.reshape(len(x[0]), groups, -1, *windows.shape[2:])
    kernels = weight.reshape(groups, outputs // groups, *weight.shape[1:])
    y = np.einsum("bgcyxhw,gochw->bgoyx", split, kernels, optimize=True)
    y = y.reshape(len(x[0]), outputs, *y.shape[3:])
    if "bias" in c:
        y = y + c["bias"][:, None, None]
    return _activated(op, y + x[1] if len(x) > 1 else y)


def linear(op: Op, x: list[Array], c: Arrays) -> Array:
    """The last axis times the rows of the weight."""
    y = x[0] @ c["weight"].T
    if "bias" in c:
        y = y + c["bias"]
    return _activated(op, y + x[1] if len(x) > 1 else y)


def embedding(_: Op, x: list[Array], c: Arrays) -> Array:
    """Rows of the weight."""
    return c["weight"][x[0]]


def _windows(x: Array, kernel: Any, a: Mapping[str, Any], fill: float) -> Array:
    """Return what lies under every place of a window: [batch, C, H, W] gives [batch, C, H', W', h, w]."""
    top, bottom, left, right = a["padding"]
    (down, across), (gap_h, gap_w) = a["stride"], a.get("dilation", (1, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = (gap_h * (kernel[0] - 1) + 1, gap_w * (kernel[1] - 1) + 1)
    return sliding_window_view(padded, reach, axis=(2, 3))[:, :, ::down, ::across, ::gap_h, ::gap_w]


# -- windows of a map --------------------------------------------------------------------------------------------------


def max_pool(op: Op, x: list[Array], _: Arrays) -> Array:
    """The largest of each window; padding is smaller than everything."""
    return _windows(x[0], op.attributes["kernel"], op.attributes, -np.inf).max((-2, -1))


def average_pool(op: Op, x: list[Array], _: Arrays) -> Array:
    """The mean of each window; padding is zero, and counts only if it says so."""
    a = op.attributes
    total = _windows(x[0], a["kernel"], a, 0.0).sum((-2, -1))
    if a["count_padding"]:
        return total / math.prod(a["kernel"])
    return total / _windows(np.ones_like(x[0]), a["kernel"], a, 0.0).sum((-2, -1))


def adaptive_pool(op: Op, x: list[Array], _: Arrays) -> Array:
    """Window i of n along an axis of size s goes from floor(i s / n) to ceil((i + 1) s / n)."""
    combine = np.mean if op.attributes["how"] == "average" else np.max
    (rows, columns), (height, width) = op.attributes["size"], x[0].shape[2:]
    y = np.empty((*x[0].shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            part = x[0][:, :, i * height // rows : -(-(i + 1) * height // rows)]
            y[:, :, i, j] = combine(part[..., j * width // columns : -(-(j + 1) * width // columns)], axis=(2, 3))
    return y


def upsample_nearest(op: Op, x: list[Array], _: Arrays) -> Array:
    """Every number becomes a rectangle."""
    return x[0].repeat(op.attributes["factors"][0], 2).repeat(op.attributes["factors"][1], 3)


# -- number by number --------------------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[np.float64])

FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "none": lambda x, *_: x,
    "relu": lambda x, *_: np.maximum(x, 0),
    "relu6": lambda x, *_: np.clip(x, 0, 6),
    "gelu": lambda x, *_: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x, *_: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x, *_: x / (1 + np.exp(-x)),
    "hardswish": lambda x, *_: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": lambda x, *_: np.clip(x + 3, 0, 6) / 6,
    "sigmoid": lambda x, *_: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, *_: np.tanh(x),
    "leaky_relu": lambda x, alpha, _: np.where(x > 0, x, alpha * x),
    "elu": lambda x, alpha, _: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "clamp": np.clip,
    # Beyond beta it is x itself, as if it were exact there.
    "softplus": lambda x, alpha, beta: np.where(
        x * alpha > beta, x, np.log1p(np.exp(np.minimum(x * alpha, beta))) / alpha
    ),
    "exp": lambda x, *_: np.exp(x),
    "log": lambda x, *_: np.log(x),
    "sqrt": lambda x, *_: np.sqrt(x),
    "rsqrt": lambda x, *_: 1 / np.sqrt(x),
    "abs": lambda x, *_: np.abs(x),
    "negative": lambda x, *_: -x,
    "reciprocal": lambda x, *_: 1 / x,
    "sin": lambda x, *_: np.sin(x),
    "cos": lambda x, *_: np.cos(x),
    "erf": lambda x, *_: _erf(x),
    "floor": lambda x, *_: np.floor(x),
    "power": lambda x, alpha, _: np.power(x, alpha),
}

PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}


def unary(op: Op, x: list[Array], _: Arrays) -> Array:
    """One of ``FUNCTIONS``."""
    return FUNCTIONS[op.attributes["how"]](x[0], op.attributes["alpha"], op.attributes["beta"])


def binary(op: Op, x: list[Array], c: Arrays) -> Array:
    """One of ``PAIRS``, broadcast for each sample, and an activation."""
    one, two = _operands(op, x, c)
    rank = max(one.ndim, two.ndim)
    one, two = _ranked(one, rank), _ranked(two, rank)
    return _activated(op, PAIRS[op.attributes["how"]](one, two).astype(np.float64))


def cast(_: Op, x: list[Array], __: Arrays) -> Array:
    """Whole numbers as floats."""
    return x[0].astype(np.float64)


def _activated(op: Op, y: Array) -> Array:
    return FUNCTIONS[op.attributes["activation"]](y, op.attributes["alpha"], op.attributes["beta"])


def _operands(op: Op, x: list[Array], c: Arrays) -> tuple[Array, Array]:
    """Return both operands with a batch axis, which is 1 for a constant."""
    second = c["other"][None] if c else x[1]
    return (second, x[0]) if op.attributes["swapped"] else (x[0], second)


def _ranked(x: Array, rank: int) -> Array:
    """Return an array with axes of 1 after the batch axis, to ``rank`` axes in all."""
    return x.reshape(x.shape[0], *[1] * (rank - x.ndim), *x.shape[1:])


# -- over axes ---------------------------------------------------------------------------------------------------------


def reduce(op: Op, x: list[Array], _: Arrays) -> Array:
    """Mean, sum, largest or smallest over some axes."""
    function = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}[op.attributes["how"]]
    axes = tuple(axis + 1 for axis in op.attributes["axes"])
    return function(x[0], axis=axes, keepdims=op.attributes["keep"])


def softmax(op: Op, x: list[Array], _: Arrays) -> Array:
    """Exponentials that sum to 1 along an axis."""
    axis = op.attributes["axis"] + 1
    y = np.exp(x[0] - x[0].max(axis, keepdims=True))
    return y / y.sum(axis, keepdims=True)


def layer_norm(op: Op, x: list[Array], c: Arrays) -> Array:
    """Mean 0 and variance 1 over the last axes, then weight and bias."""
    axes = tuple(range(-op.attributes["axes"], 0))
    y = _standardized(x[0], axes, op.attributes["eps"])
    return y * c.get("weight", 1.0) + c.get("bias", 0.0)


def rms_norm(op: Op, x: list[Array], c: Arrays) -> Array:
    """Mean of squares 1 over the last axes, then the weight."""
    axes = tuple(range(-op.attributes["axes"], 0))
    y = x[0] / np.sqrt((x[0] ** 2).mean(axes, keepdims=True) + op.attributes["eps"])
    return y * c.get("weight", 1.0)


def group_norm(op: Op, x: list[Array], c: Arrays) -> Array:
    """Mean 0 and variance 1 over each group of channels, then a weight and bias for each channel."""
    split = x[0].reshape(len(x[0]), op.attributes["groups"], -1)
    y = _standardized(split, (-1,), op.attributes["eps"]).reshape(x[0].shape)
    after = [1] * (x[0].ndim - 2)
    if "weight" in c:
        y = y * c["weight"].reshape(-1, *after)
    return y + c["bias"].reshape(-1, *after) if "bias" in c else y


def _standardized(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


# -- products of values ------------------------------------------------------------------------------------------------


def matmul(op: Op, x: list[Array], c: Arrays) -> Array:
    """Matrices in the last two axes; the axes ahead are broadcast."""
    one, two = _operands(op, x, c)
    rank = max(one.ndim, two.ndim)
    return _ranked(one, rank) @ _ranked(two, rank)


def attention(op: Op, x: list[Array], c: Arrays) -> Array:
    """softmax(scale q k' + mask) v; causal: key s is hidden from query t < s; who sees no key gets zeros."""
    q, k, v = x[:3]
    scores = op.attributes["scale"] * (q @ np.swapaxes(k, -1, -2))
    mask = c["mask"][None] if "mask" in c else x[3] if len(x) > 3 else None
    if mask is not None:
        scores = scores + _ranked(mask, scores.ndim)
    if op.attributes["causal"]:
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        scores = np.where(seen, scores, -np.inf)
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isneginf(highest), 0, highest))
    total = weights.sum(-1, keepdims=True)
    return (weights / np.where(total == 0, 1, total)) @ v


# -- moving numbers ----------------------------------------------------------------------------------------------------


def reshape(op: Op, x: list[Array], _: Arrays) -> Array:
    """The same numbers in the same order."""
    return x[0].reshape(len(x[0]), *op.attributes["shape"])


def permute(op: Op, x: list[Array], _: Arrays) -> Array:
    """Axis i of the result is axis order[i] of what is read."""
    return x[0].transpose(0, *(axis + 1 for axis in op.attributes["order"]))


def expand(op: Op, x: list[Array], _: Arrays) -> Array:
    """The same number all along an axis."""
    return np.broadcast_to(x[0], (len(x[0]), *op.attributes["shape"]))


def slice_(op: Op, x: list[Array], _: Arrays) -> Array:
    """Some places along an axis."""
    a = op.attributes
    chosen = [slice(None)] * x[0].ndim
    chosen[a["axis"] + 1] = slice(a["start"], a["stop"], a["step"])
    return x[0][tuple(chosen)]


def concat(op: Op, x: list[Array], _: Arrays) -> Array:
    """One after the other."""
    return np.concatenate(x, op.attributes["axis"] + 1)


def pad(op: Op, x: list[Array], _: Arrays) -> Array:
    """A number around."""
    sides = op.attributes["padding"]
    return np.pad(x[0], [(0, 0), *zip(sides[::2], sides[1::2], strict=True)], constant_values=op.attributes["value"])


def constant(_: Op, __: list[Array], c: Arrays) -> Array:
    """The same for every sample."""
    return c["value"][None]


OPERATORS: dict[str, Callable[[Op, list[Array], Arrays], Array]] = {
    "conv": conv,
    "linear": linear,
    "embedding": embedding,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "adaptive_pool": adaptive_pool,
    "upsample_nearest": upsample_nearest,
    "unary": unary,
    "binary": binary,
    "cast": cast,
    "reduce": reduce,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "matmul": matmul,
    "attention": attention,
    "reshape": reshape,
    "permute": permute,
    "expand": expand,
    "slice": slice_,
    "concat": concat,
    "pad": pad,
    "constant": constant,
}
