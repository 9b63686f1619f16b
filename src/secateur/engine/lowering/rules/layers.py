"""Layers with weights: convolutions, linear layers, embeddings, BatchNorm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from secateur.engine.lowering.batch import Batch, Fixed, Live, Refused
from secateur.engine.lowering.building import Constant, with_activation
from secateur.engine.lowering.rules.products import linear
from secateur.engine.lowering.walk import Call, Rule, Walk, under
from secateur.engine.plan.values import Array

__all__ = ["RULES", "pair", "standardized"]


def _linear(walk: Walk, call: Call) -> Live:
    x, weight, bias = call["input"], call["weight"], call["bias"]
    if not isinstance(x, Live) or not isinstance(weight, Fixed) or isinstance(bias, Live):
        raise Refused("weights that depend on the input")
    return linear(walk, call, x, (weight.array(), weight.name), bias)


def _embedding(walk: Walk, call: Call) -> Live:
    weight, x = call["weight"], call["indices"]
    if not isinstance(weight, Fixed) or not isinstance(x, Live) or x.value.dtype != "I64":
        raise Refused("a table or places that are computed")
    name = walk.emit(call, "embedding", [x], {}, {"weight": (weight.array(), weight.name)})
    return walk.live(name, call.shape, x.batch)


def _batch_norm(walk: Walk, call: Call) -> Any:
    """A factor and a shift for each channel, in float64: what they are folded into is rounded once."""
    x = call["input"]
    if call.get("training") or not isinstance(x, Live):
        raise Refused("statistics of the batch")
    given = [call[name] for name in ("running_mean", "running_var", "weight", "bias")]
    if any(isinstance(each, Live) for each in given) or given[0] is None or given[1] is None:
        raise Refused("statistics of the batch")
    y = standardized(walk, call, x, given)
    return [y, None, None] if call.name.startswith(("_native", "native")) else y


def standardized(walk: Walk, call: Call, x: Live, given: list[Any]) -> Live:
    """Scale and shift each channel by mean, variance, weight and bias; the last two may be None."""
    mean, var, weight, bias = (0.0 if each is None else each.array().astype(np.float64) for each in given)
    scale = (1.0 if given[2] is None else weight) / np.sqrt(var + call["eps"])
    return scaled(walk, call, x, scale, bias - mean * scale)


def scaled(walk: Walk, call: Call, x: Live, scale: Array, shift: Array) -> Live:
    """Multiply each channel of a tensor and add to it."""
    ahead = x.axis(min(1, len(x.shape) - 1))
    shape = (-1, *[1] * (len(x.sample) - ahead - 1))
    for how, array in (("multiply", scale), ("add", shift)):
        other = (array.reshape(shape), f"{call.where}.{'scale' if how == 'multiply' else 'shift'}")
        attributes = {"how": how, "swapped": False, **with_activation()}
        x = walk.live(walk.emit(call, "binary", [x], attributes, {"other": other}), x.shape, x.batch)
    return x


# -- convolutions ------------------------------------------------------------------------------------------------------


def planes(walk: Walk, call: Call, x: Live, axes: int) -> str:
    """Return a value [C, H, W] of what a layer over ``axes`` axes reads; H is 1 if there is but one.

    Raises:
        Refused: the batch is not the first axis, or there are more axes.
    """
    if axes > 2:
        raise Refused(f"windows over {axes} axes")
    if not x.plain or len(x.shape) != axes + 2:
        raise Refused("it mixes samples of a batch, or reads a map that is not [batch, channels, ...]")
    x = walk.floats(call, x)
    return walk.shaped(call, x.name, x.sample if axes == 2 else (x.sample[0], 1, x.sample[1]))


def pair(given: Any, axes: int, default: int = 1) -> tuple[int, int]:
    """Return a number for each of two axes: one for all is repeated, and one axis gets a first of ``default``.

    Example:
        >>> pair([2], 2), pair(3, 1), pair([], 2)
        ((2, 2), (1, 3), (1, 1))
    """
    numbers = [given] if isinstance(given, int) else list(given) or [default]
    numbers = numbers * axes if len(numbers) == 1 else numbers
    return (default, numbers[0]) if axes == 1 else (numbers[0], numbers[1])


def _convolution(walk: Walk, call: Call) -> Live:
    if call.get("transposed"):
        return _transposed(walk, call)
    x, weight, bias = _operands(call)
    axes = weight.tensor.ndim - 2
    source = planes(walk, call, x, axes)
    array = weight.array()
    array = array if axes == 2 else array[:, :, None]
    stride, dilation = pair(call["stride"], axes), pair(call["dilation"], axes)
    window = {"stride": stride, "dilation": dilation, "padding": _padding(call["padding"], array, dilation, axes)}
    constants = {"weight": (array, weight.name)} | _bias(bias)
    name = walk.emit(call, "conv", [source], {**window, "groups": call["groups"], **with_activation()}, constants)
    return _outside(walk, call, name, x.batch)


def _operands(call: Call) -> tuple[Live, Fixed, Fixed | None]:
    x, weight, bias = call["input"], call["weight"], call["bias"]
    if not isinstance(x, Live) or not isinstance(weight, Fixed) or isinstance(bias, Live):
        raise Refused("weights that depend on the input")
    return x, weight, bias


def _bias(bias: Fixed | None) -> dict[str, Constant]:
    return {} if bias is None else {"bias": (bias.array(), bias.name)}


def _padding(given: Any, weight: Array, dilation: tuple[int, int], axes: int) -> tuple[int, ...]:
    """Return top, bottom, left and right; "same" puts what is odd at the end."""
    if given == "valid":
        return (0, 0, 0, 0)
    if given == "same":
        totals = [gap * (size - 1) for gap, size in zip(dilation, weight.shape[2:], strict=True)]
        return (totals[0] // 2, totals[0] - totals[0] // 2, totals[1] // 2, totals[1] - totals[1] // 2)
    height, width = pair(given, axes, 0)
    return (height, height, width, width)


def _outside(walk: Walk, call: Call, name: str, batch: Batch) -> Live:
    return walk.live(walk.shaped(call, name, batch.sample(call.shape)), call.shape, batch, call.dtype)


def _transposed(walk: Walk, call: Call) -> Live:
    """A convolution over the input with zeros between its numbers, by the kernels turned round."""
    x, weight, bias = _operands(call)
    axes = weight.tensor.ndim - 2
    source = planes(walk, call, x, axes)
    array = weight.array()
    array = array if axes == 2 else array[:, :, None]
    groups, inputs = call["groups"], array.shape[0]
    # [in, out / groups, h, w] becomes [out, in / groups, h, w].
    array = array.reshape(groups, inputs // groups, *array.shape[1:]).swapaxes(1, 2)
    array = np.ascontiguousarray(array.reshape(-1, inputs // groups, *array.shape[3:]))
    stride, dilation = pair(call["stride"], axes), pair(call["dilation"], axes)
    margin, more = pair(call["padding"], axes, 0), pair(call["output_padding"], axes, 0)
    constants = {"weight": (array, weight.name), **_bias(bias)}
    if stride == array.shape[2:] and dilation == (1, 1) and not any((*margin, *more)):
        name = _by_blocks(walk, call, source, constants, groups)
        return _outside(walk, call, name, x.batch)
    constants["weight"] = (np.ascontiguousarray(array[:, :, ::-1, ::-1]), weight.name)
    padding = []
    for axis in range(2):
        reach = dilation[axis] * (array.shape[2 + axis] - 1)
        # The zeros between come with as many after the last number, which end there for nothing.
        padding += [reach - margin[axis], reach - margin[axis] + more[axis] - (stride[axis] - 1)]
    source = _cut(walk, call, _stuffed(walk, call, source, stride), padding)
    window = {"stride": (1, 1), "dilation": dilation, "padding": tuple(max(0, each) for each in padding)}
    name = walk.emit(call, "conv", [source], {**window, "groups": groups, **with_activation()}, constants)
    return _outside(walk, call, name, x.batch)


def _by_blocks(walk: Walk, call: Call, source: str, constants: dict[str, Constant], groups: int) -> str:
    """Every number becomes a block of its own, as large as the kernel: a convolution 1x1 and a new order."""
    array, hint = constants["weight"]
    outputs, inputs, *size = array.shape
    weight = array.transpose(0, 2, 3, 1).reshape(-1, inputs, 1, 1)
    own: dict[str, Constant] = {"weight": (np.ascontiguousarray(weight), hint)}
    if "bias" in constants:
        own["bias"] = (constants["bias"][0].repeat(math.prod(size)), constants["bias"][1])
    window = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}
    name = walk.emit(call, "conv", [source], {**window, "groups": groups, **with_activation()}, own)
    height, width = walk.builder.values[name].shape[1:]
    name = walk.shaped(call, name, (outputs, *size, height, width))
    name = walk.emit(call, "permute", [name], {"order": (0, 3, 1, 4, 2)})
    return walk.shaped(call, name, (outputs, height * size[0], width * size[1]))


def _stuffed(walk: Walk, call: Call, name: str, stride: tuple[int, int]) -> str:
    """Put ``stride - 1`` zeros after every number along both axes."""
    if stride == (1, 1):
        return name
    channels, height, width = walk.builder.values[name].shape
    name = walk.shaped(call, name, (channels, height, 1, width, 1))
    padding = (0, 0, 0, 0, 0, stride[0] - 1, 0, 0, 0, stride[1] - 1)
    name = walk.emit(call, "pad", [name], {"padding": padding, "value": 0.0})
    return walk.shaped(call, name, (channels, height * stride[0], width * stride[1]))


def _cut(walk: Walk, call: Call, name: str, padding: list[int]) -> str:
    """Cut off what a padding below zero takes away."""
    for axis in (1, 2):
        before, after = (max(0, -each) for each in padding[2 * axis - 2 : 2 * axis])
        size = walk.builder.values[name].shape[axis]
        if before or after:
            part = {"axis": axis, "start": before, "stop": size - after, "step": 1}
            name = walk.emit(call, "slice", [name], part)
    return name


def _channels(walk: Walk, call: Call) -> Live:
    """channel_shuffle: groups of channels are dealt out one by one."""
    x, groups = call["self"], call["groups"]
    batch, channels, *rest = x.shape
    apart = walk.reshaped(call, x, [batch, groups, channels // groups, *rest])
    if not apart.plain:
        raise Refused("it mixes samples of a batch")
    order = (1, 0, *range(2, len(apart.shape) - 1))
    name = walk.emit(call, "permute", [apart], {"order": order})
    return walk.live(walk.shaped(call, name, x.sample), x.shape, x.batch, x.dtype)


RULES: dict[str, Rule] = {
    **under(_linear, "linear"),
    **under(_embedding, "embedding"),
    **under(_convolution, "conv1d", "conv2d", "conv3d", "convolution", "_convolution"),
    **under(_transposed, "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    **under(_batch_norm, "batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm"),
    **under(_channels, "channel_shuffle", "native_channel_shuffle"),
}
