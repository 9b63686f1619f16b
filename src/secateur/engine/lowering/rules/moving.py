"""Operations that move all numbers: shapes, orders, repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from secateur.engine.lowering.batch import Live, Refused
from secateur.engine.lowering.walk import Call, Rule, Walk, under

__all__ = ["RULES", "expanded", "source"]


def _same(_: Walk, call: Call) -> Any:
    """Dropout, clone, detach: what they read."""
    if call.get("train"):
        raise Refused("chance: dropout that does not end with training")
    return call.get("self", call.get("input", call.get("a")))


def _nothing(_: Walk, __: Call) -> None:
    """Assertions about shapes and types, which tracing has made already."""


def _reshape(walk: Walk, call: Call) -> Live:
    if isinstance(call.get("dtype"), torch.dtype):
        raise Refused("a view of the bytes")
    return walk.reshaped(call, source(call), call.shape)


def _permute(walk: Walk, call: Call) -> Live:
    x = source(call)
    order = [x.dim(dim) for dim in call["dims"]]
    return _ordered(walk, call, x, order)


def _transpose(walk: Walk, call: Call) -> Live:
    x = source(call)
    order = list(range(len(x.shape)))
    one, two = {"t": (0, 1)}.get(call.name, (call.get("dim0", -2), call.get("dim1", -1)))
    one, two = x.dim(one), x.dim(two)
    if len(order) > 1:
        order[one], order[two] = order[two], order[one]
    return _ordered(walk, call, x, order)


def _ordered(walk: Walk, call: Call, x: Live, order: Sequence[int]) -> Live:
    batch = x.batch.moved(list(order).index(x.batch.dim))
    own = [x.axis(dim) for dim in order if dim != x.batch.dim]
    if x.batch.merged > 1:
        own.insert(batch.dim, x.batch.dim)
    name = x.name
    if own != sorted(own):
        name = walk.emit(call, "permute", [x], {"order": tuple(own)})
    return walk.live(name, [x.shape[dim] for dim in order], batch, x.dtype)


def _expand(walk: Walk, call: Call) -> Live:
    x = source(call)
    return expanded(walk, call, x, call.shape)


def expanded(walk: Walk, call: Call, x: Live, shape: Sequence[int]) -> Live:
    """Repeat a tensor along its axes of 1, and along new axes ahead of them."""
    more = len(shape) - len(x.shape)
    batch = x.batch.moved(x.batch.dim + more)
    if shape[batch.dim] != x.shape[x.batch.dim]:
        raise Refused("it repeats samples")
    wide = batch.sample([1] * more + list(x.shape))
    name = walk.shaped(call, x.name, wide)
    if batch.sample(shape) != wide:
        name = walk.emit(call, "expand", [name], {"shape": batch.sample(shape)})
    return walk.live(name, shape, batch, x.dtype)


def _repeat(walk: Walk, call: Call) -> Live:
    """Repeat, tile: the whole again and again along an axis."""
    x = source(call)
    times = list(call.get("repeats", call.get("dims")))
    times = [1] * (len(x.shape) - len(times)) + times
    shape = [1] * (len(times) - len(x.shape)) + list(x.shape)
    if times[len(times) - len(x.shape) + x.batch.dim] != 1:
        raise Refused("it repeats samples")
    # [a, b] becomes [1, a, 1, b], is expanded and laid out again.
    apart = [each for size in shape for each in (1, size)]
    wide = [each for pair in zip(times, shape, strict=True) for each in pair]
    return walk.reshaped(call, expanded(walk, call, walk.reshaped(call, x, apart), wide), call.shape)


def _repeat_interleave(walk: Walk, call: Call) -> Live:
    """Each number again and again."""
    x, times, dim = source(call), call["repeats"], call.get("dim")
    if not isinstance(times, int) or dim is None:
        raise Refused("numbers of repetitions that are computed")
    x.axis(dim)
    dim = x.dim(dim)
    apart = [*x.shape[: dim + 1], 1, *x.shape[dim + 1 :]]
    wide = [*x.shape[: dim + 1], times, *x.shape[dim + 1 :]]
    return walk.reshaped(call, expanded(walk, call, walk.reshaped(call, x, apart), wide), call.shape)


def source(call: Call) -> Live:
    """Return the tensor whose numbers are moved."""
    x = call.get("self", call.get("input"))
    if not isinstance(x, Live):
        raise Refused("places that depend on the input")
    return x


RULES: dict[str, Rule] = {
    **under(_same, "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "clone", "contiguous"),
    **under(_same, "detach", "alias", "lift_fresh", "lift_fresh_copy", "positive"),
    **under(_nothing, "_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range"),
    **under(_reshape, "view", "reshape", "flatten", "unflatten", "_unsafe_view", "ravel", "view_as", "reshape_as"),
    **under(_reshape, "_reshape_copy", "squeeze", "unsqueeze"),
    **under(_permute, "permute"),
    **under(_transpose, "transpose", "t", "swapaxes", "swapdims", "mT", "mH", "adjoint"),
    **under(_expand, "expand", "expand_as", "broadcast_to"),
    **under(_repeat, "repeat", "tile"),
    **under(_repeat_interleave, "repeat_interleave"),
}
