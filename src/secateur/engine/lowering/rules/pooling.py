"""Windows of a map: pooling, adaptive pooling, upsampling."""

from __future__ import annotations

from typing import Any

import torch

from secateur.engine.lowering.batch import Live, Refused
from secateur.engine.lowering.rules.elements import binary, operand
from secateur.engine.lowering.rules.layers import pair
from secateur.engine.lowering.rules.products import contracted
from secateur.engine.lowering.walk import Call, Rule, Walk, under
from secateur.engine.plan.values import Shape

__all__ = ["RULES"]


def _map(walk: Walk, call: Call, axes: int) -> tuple[Live, str, Shape]:
    """Return what is read, as a value [C, H, W] and its shape; all axes but the last are channels here."""
    x = operand(call)
    if axes > 2:
        raise Refused(f"windows over {axes} axes")
    x = walk.floats(call, x)
    kept = [x.axis(dim) for dim in range(-axes, 0)]
    ahead = x.sample[: kept[0]]
    channels = int(torch.Size(ahead).numel())
    shape = (channels, *([1] if axes == 1 else []), *x.sample[kept[0] :])
    return x, walk.shaped(call, x.name, shape), shape


def _outside(walk: Walk, call: Call, x: Live, name: str, shape: Shape) -> Live:
    return walk.live(walk.shaped(call, name, x.batch.sample(shape)), shape, x.batch)


def _windows(call: Call, axes: int, size: Shape) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, int]]:
    """Return kernel, stride and padding, with the padding that rounding up adds apart.

    The last window begins in the input or in the padding ahead of it, so that it may reach beyond the padding behind.
    """
    kernel = pair(call["kernel_size"], axes)
    stride = pair(call.get("stride") or call["kernel_size"], axes)
    margin, dilation = pair(call["padding"], axes, 0), pair(call.get("dilation", 1), axes)
    extra = []
    for axis in range(2):
        length = size[axis] + 2 * margin[axis] - dilation[axis] * (kernel[axis] - 1) - 1
        count = length // stride[axis] + 1
        if call["ceil_mode"] and length % stride[axis] and count * stride[axis] < size[axis] + margin[axis]:
            count += 1
        extra.append(max(0, (count - 1) * stride[axis] - length))
    padding = (margin[0], margin[0], margin[1], margin[1])
    return {"kernel": kernel, "stride": stride}, padding, (extra[0], extra[1])


def _more(padding: tuple[int, ...], extra: tuple[int, int]) -> tuple[int, ...]:
    return (padding[0], padding[1] + extra[0], padding[2], padding[3] + extra[1])


def _max_pool(axes: int) -> Rule:
    def rule(walk: Walk, call: Call) -> Any:
        x, source, shape = _map(walk, call, axes)
        window, padding, extra = _windows(call, axes, shape[1:])
        window |= {"padding": _more(padding, extra), "dilation": pair(call["dilation"], axes)}
        name = walk.emit(call, "max_pool", [source], window)
        if call.name.endswith("with_indices"):
            size = walk.builder.values[name].shape[3 - axes :]
            return [_outside(walk, call, x, name, (*x.shape[:-axes], *size)), None]
        return _outside(walk, call, x, name, call.shape)

    return rule


def _average_pool(axes: int) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        x, source, shape = _map(walk, call, axes)
        window, padding, extra = _windows(call, axes, shape[1:])
        count, divisor = bool(call["count_include_pad"]) and any(padding), call.get("divisor_override")
        if divisor:
            window |= {"padding": _more(padding, extra), "count_padding": True}
        elif count and any(extra):
            # The padding counts, what rounding up adds does not: the padding becomes numbers like others.
            source = walk.emit(call, "pad", [source], {"padding": (0, 0, *padding), "value": 0.0})
            window |= {"padding": (0, extra[0], 0, extra[1]), "count_padding": False}
        else:
            window |= {"padding": _more(padding, extra), "count_padding": count}
        y = _outside(walk, call, x, walk.emit(call, "average_pool", [source], window), call.shape)
        if divisor:
            return binary(walk, call, "multiply", y, window["kernel"][0] * window["kernel"][1] / divisor)
        return y

    return rule


def _adaptive(how: str, axes: int) -> Rule:
    """Windows that are all alike if the size divides; over the whole map if it is 1."""

    def rule(walk: Walk, call: Call) -> Any:
        x, source, shape = _map(walk, call, axes)
        given = call["output_size"]
        wanted = [given] * axes if isinstance(given, int) else list(given)
        wanted = [size if size is not None else x.shape[dim - axes] for dim, size in enumerate(wanted)]
        size = (1, wanted[0]) if axes == 1 else (wanted[0], wanted[1])
        y = _outside(walk, call, x, _pooled(walk, call, source, (how, shape, size)), (*x.shape[:-axes], *wanted))
        return [y, None] if how == "max" else y

    return rule


def _pooled(walk: Walk, call: Call, source: str, wanted: tuple[str, Shape, tuple[int, int]]) -> str:
    how, (_, height, width), size = wanted
    if size == (1, 1):
        attributes: dict[str, Any] = {"how": "mean" if how == "average" else "max", "axes": (1, 2), "keep": True}
        return walk.emit(call, "reduce", [source], attributes)
    if height % size[0] or width % size[1]:
        return walk.emit(call, "adaptive_pool", [source], {"size": size, "how": how})
    kernel = (height // size[0], width // size[1])
    window = {"kernel": kernel, "stride": kernel, "padding": (0, 0, 0, 0)}
    if how == "max":
        return walk.emit(call, "max_pool", [source], {**window, "dilation": (1, 1)})
    return walk.emit(call, "average_pool", [source], {**window, "count_padding": False})


def _nearest(axes: int) -> Rule:
    def rule(walk: Walk, call: Call) -> Live:
        x, source, shape = _map(walk, call, axes)
        sizes = call.shape[-axes:]
        before = shape[3 - axes :]
        if any(after % size for after, size in zip(sizes, before, strict=True)):
            raise Refused(f"from {before} to {sizes}, which is no whole factor")
        factors = [after // size for after, size in zip(sizes, before, strict=True)]
        if any(_scale(call, dim) not in (None, factors[dim]) for dim in range(-axes, 0)):
            raise Refused("a factor that is not whole")
        name = walk.emit(call, "upsample_nearest", [source], {"factors": tuple([1] * (2 - axes) + factors)})
        return _outside(walk, call, x, name, call.shape)

    return rule


def _interpolated(walk: Walk, call: Call) -> Live:
    """Linear, bilinear, bicubic: a matrix along each axis, which torch itself tells."""
    x = operand(call)
    axes = 1 if "1d" in call.name or "linear1d" in call.name else 2
    mode = "linear" if axes == 1 else "bicubic" if "bicubic" in call.name else "bilinear"
    if "_aa" in call.name or len(call.shape) != axes + 2:
        raise Refused("interpolation of this kind")
    for dim in range(-axes, 0):
        x = _stretched(walk, call, x, dim, mode)
    return x


def _stretched(walk: Walk, call: Call, x: Live, dim: int, mode: str) -> Live:
    """Interpolate along one axis: its matrix is what becomes of each unit vector."""
    before, after = x.shape[dim], call.shape[dim]
    scale = _scale(call, dim)
    eye = torch.eye(before, dtype=torch.float64)[:, None, :]
    eye = eye if mode == "linear" else eye[:, :, None]
    options: dict[str, Any] = {"mode": mode, "align_corners": bool(call["align_corners"])}
    if scale is None:
        options["size"] = after if mode == "linear" else (1, after)
    else:
        options["scale_factor"] = scale if mode == "linear" else (1.0, scale)
        options["recompute_scale_factor"] = False
    columns = torch.nn.functional.interpolate(eye, **options).reshape(before, -1)
    if columns.shape[1] != after:
        raise Refused("interpolation by an unusual factor")
    return contracted(walk, call, x, dim, columns.T.contiguous().numpy())


def _scale(call: Call, dim: int) -> float | None:
    """Return the factor an axis is stretched by, if it was given as such."""
    factors = call.get("scale_factors")
    if factors:
        return float(factors[dim])
    named = {-1: "scales_w", -2: "scales_h"}[dim]
    given = call.get(named, call.get("scales"))
    return None if given is None else float(given)


RULES: dict[str, Rule] = {
    **{f"max_pool{axes}d": _max_pool(axes) for axes in (1, 2, 3)},
    **{f"avg_pool{axes}d": _average_pool(axes) for axes in (1, 2, 3)},
    **{f"adaptive_avg_pool{axes}d": _adaptive("average", axes) for axes in (1, 2, 3)},
    **{f"adaptive_max_pool{axes}d": _adaptive("max", axes) for axes in (1, 2, 3)},
    **{f"upsample_nearest{axes}d": _nearest(axes) for axes in (1, 2, 3)},
    **under(_max_pool(2), "max_pool2d_with_indices"),
    **under(_adaptive("average", 2), "_adaptive_avg_pool2d"),
    **under(_interpolated, "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"),
}
