"""Operations that take tensors apart and put them together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from secateur.engine.lowering.batch import Batch, Fixed, Live, Refused
from secateur.engine.lowering.rules.moving import expanded, source
from secateur.engine.lowering.tracing import LIKE
from secateur.engine.lowering.walk import Call, Rule, Walk, under

__all__ = ["RULES", "gathered", "sliced"]

MAX_PARTS = 16  # a choice of places is put together from so many slices at most


def sliced(walk: Walk, call: Call, x: Live, dim: int, places: range) -> Live:
    """Take some places of an axis, evenly apart."""
    dim = x.dim(dim)
    if places == range(x.shape[dim]):
        return x
    if not len(places):
        raise Refused("a part of nothing")
    bounds = {"start": places.start, "stop": places[-1] + 1, "step": places.step if len(places) > 1 else 1}
    name = walk.emit(call, "slice", [x], {"axis": x.axis(dim), **bounds})
    return walk.live(name, [*x.shape[:dim], len(places), *x.shape[dim + 1 :]], x.batch, x.dtype)


def gathered(walk: Walk, call: Call, x: Live, dim: int, places: Sequence[int]) -> Live:
    """Take places of an axis in any order, if they are few even runs."""
    x.axis(dim)
    runs = _runs([int(place) % x.shape[dim] for place in places])
    if len(runs) > MAX_PARTS:
        raise Refused(f"{len(places)} places of an axis in an order of their own")
    return joined(walk, call, [sliced(walk, call, x, dim, run) for run in runs], dim)


def _runs(places: list[int]) -> list[range]:
    """Return ranges that name the places one after another.

    Example:
        >>> _runs([4, 5, 6, 0, 2, 4])
        [range(4, 7), range(0, 5, 2)]
    """
    runs: list[range] = []
    while places:
        step = max(1, places[1] - places[0]) if len(places) > 1 else 1
        even = range(places[0], places[0] + len(places) * step, step)
        count = next((at for at, pair in enumerate(zip(places, even, strict=True)) if pair[0] != pair[1]), len(places))
        runs.append(range(places[0], places[0] + (count - 1) * step + 1, step))
        places = places[count:]
    return runs


def joined(walk: Walk, call: Call, parts: Sequence[Live], dim: int) -> Live:
    """Put tensors together along an axis."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    if len({part.batch for part in parts}) > 1:
        raise Refused("it mixes samples of a batch")
    dim, axis = first.dim(dim), first.axis(dim)
    name = walk.emit(call, "concat", parts, {"axis": axis})
    total = sum(part.shape[dim] for part in parts)
    return walk.live(name, [*first.shape[:dim], total, *first.shape[dim + 1 :]], first.batch, first.dtype)


def _slice(walk: Walk, call: Call) -> Live:
    x = source(call)
    dim = x.dim(call["dim"])
    if call.name == "narrow":
        places = range(call["start"] % x.shape[dim], call["start"] % x.shape[dim] + call["length"])
    else:
        places = range(*slice(call["start"], call["end"], call["step"]).indices(x.shape[dim]))
    return sliced(walk, call, x, dim, places)


def _select(walk: Walk, call: Call) -> Live:
    x = source(call)
    return _one(walk, call, x, x.dim(call["dim"]), call["index"])


def _one(walk: Walk, call: Call, x: Live, dim: int, place: int) -> Live:
    place %= x.shape[dim]
    x.axis(dim)
    part = sliced(walk, call, x, dim, range(place, place + 1))
    return walk.reshaped(call, part, [*x.shape[:dim], *x.shape[dim + 1 :]])


def _unbind(walk: Walk, call: Call) -> list[Live]:
    x = source(call)
    dim = x.dim(call["dim"])
    return [_one(walk, call, x, dim, place) for place in range(x.shape[dim])]


def _split(walk: Walk, call: Call) -> list[Live]:
    """Chunk, split: one part after another."""
    x = source(call)
    dim = x.dim(call["dim"])
    total = x.shape[dim]
    given = call.get("split_sizes", call.get("split_size", call.get("chunks")))
    if call.name == "chunk":
        given = -(-total // given)
    sizes = given if isinstance(given, list) else [given] * (total // given) + [total % given] * (total % given > 0)
    starts = itertools.accumulate(sizes, initial=0)
    return [sliced(walk, call, x, dim, range(at, at + size)) for at, size in zip(starts, sizes, strict=False)]


def _index_select(walk: Walk, call: Call) -> Live:
    index = call["index"]
    if not isinstance(index, Fixed):
        raise Refused("places that depend on the input")
    return gathered(walk, call, source(call), source(call).dim(call["dim"]), index.tensor.tolist())


def _flip(walk: Walk, call: Call) -> Live:
    x = source(call)
    for dim in call["dims"]:
        x = gathered(walk, call, x, x.dim(dim), range(x.shape[dim] - 1, -1, -1))
    return x


def _roll(walk: Walk, call: Call) -> Live:
    x, shifts, dims = source(call), call["shifts"], call["dims"]
    if not dims:
        raise Refused("a roll over all axes")
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        x = gathered(walk, call, x, x.dim(dim), [(place - shift) % size for place in range(size)])
    return x


def _index(walk: Walk, call: Call) -> Live:
    """Places given by constants: of one axis, and of the batch only the very sample.

    Masks of transformers are made so: ``mask[samples[:, None, None, None], places]``.
    """
    x, indices = source(call), call["indices"]
    given = {dim: each for dim, each in enumerate(indices) if each is not None}
    if not all(isinstance(each, Fixed) and each.tensor.dtype != torch.bool for each in given.values()):
        raise Refused("places that depend on the input, or given by a mask")
    arrays = {dim: each.array().astype(np.int64) for dim, each in given.items()}
    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    samples = arrays.pop(x.batch.dim, None)
    if len(arrays) != 1 or list(given) != list(range(min(given), min(given) + len(given))):
        raise Refused("places of several axes at once")
    ((dim, places),) = arrays.items()
    rest = x.shape[max(given) + 1 :]
    if samples is None:
        taken = gathered(walk, call, x, dim, places.reshape(-1).tolist())
        return walk.reshaped(call, taken, [*x.shape[:dim], *places.shape, *rest])
    return _own_sample(walk, call, x, (dim, places), (samples, shape))


def _own_sample(walk: Walk, call: Call, x: Live, chosen: tuple[int, Any], own: tuple[Any, Any]) -> Live:
    """Lower ``x[samples, places]`` where each sample is asked for itself."""
    (dim, places), (samples, shape) = chosen, own
    counted = [at for at, size in enumerate(samples.shape, len(shape) - samples.ndim) if size == walk.samples]
    fine = x.plain and dim == 1 and len(counted) == 1 and samples.size == walk.samples
    if not fine or samples.reshape(-1).tolist() != list(range(walk.samples)):
        raise Refused("it mixes samples of a batch")
    at = counted[0]
    aligned = places.reshape([1] * (len(shape) - places.ndim) + list(places.shape))
    if aligned.shape[at] != 1:
        raise Refused("places that differ from sample to sample")
    taken = gathered(walk, call, x, dim, aligned.reshape(-1).tolist())
    batch = Batch(at, 1, 1, walk.samples)
    full = [*shape, *x.shape[2:]]
    wide = [*aligned.shape[:at], walk.samples, *aligned.shape[at + 1 :], *x.shape[2:]]
    named = walk.shaped(call, taken.name, batch.sample(wide))
    return expanded(walk, call, walk.live(named, wide, batch, x.dtype), full)


# -- together ----------------------------------------------------------------------------------------------------------


def _cat(walk: Walk, call: Call) -> Live:
    parts = [part for part in call["tensors"] if part.shape != (0,)]
    return _together(walk, call, parts, call["dim"])


def _stack(walk: Walk, call: Call) -> Live:
    parts = []
    dim = call["dim"] % len(call.shape)
    for part in call["tensors"]:
        shape = [*part.shape[:dim], 1, *part.shape[dim:]]
        parts.append(walk.reshaped(call, part, shape) if isinstance(part, Live) else Fixed(part.tensor.unsqueeze(dim)))
    return _together(walk, call, parts, dim)


def _together(walk: Walk, call: Call, parts: list[Live | Fixed], dim: int) -> Live:
    like = next(part for part in parts if isinstance(part, Live))
    if any(part.value.dtype == "F32" for part in parts if isinstance(part, Live)):
        parts = [walk.floats(call, part) if isinstance(part, Live) else part for part in parts]
    rank = len(like.shape)
    whole = [part if isinstance(part, Live) else _filled(walk, call, part, like.batch, rank) for part in parts]
    return joined(walk, call, whole, dim)


def _filled(walk: Walk, call: Call, part: Fixed, batch: Batch, rank: int) -> Live:
    name = walk.filled(call, part.sampled(batch, rank))
    return walk.live(name, part.shape, batch, part.tensor.dtype)


def _copy(walk: Walk, call: Call) -> Live | Fixed:
    """What is written over a tensor, as large as that was."""
    written = call["src"]
    if not isinstance(written, Live):
        return Fixed(written.tensor.expand(call.shape))
    return expanded(walk, call, written, call.shape)


def _slice_scatter(walk: Walk, call: Call) -> Live:
    """A tensor with one part of it written anew."""
    whole, part = call["self"], call["src"]
    dim = call["dim"] % len(call.shape)
    places = range(*slice(call["start"], call["end"], call["step"]).indices(call.shape[dim]))
    if places.step != 1:
        raise Refused("places apart are written to")
    parts = [_between(walk, call, whole, dim, range(places.start)), part]
    parts.append(_between(walk, call, whole, dim, range(places.stop, call.shape[dim])))
    return _together(walk, call, [each for each in parts if each is not None], dim)


def _between(walk: Walk, call: Call, whole: Live | Fixed, dim: int, places: range) -> Live | Fixed | None:
    if not places:
        return None
    if isinstance(whole, Live):
        return sliced(walk, call, whole, dim, places)
    return Fixed(whole.tensor.narrow(dim, places.start, len(places)))


def _like(_: Walk, call: Call) -> Fixed:
    """zeros_like and the like: of an operand they take the shape."""
    fill = 1.0 if "ones" in call.name else call.get("fill_value", 0.0) if "full" in call.name else 0.0
    return Fixed(torch.full(call.shape, fill, dtype=call.dtype))


RULES: dict[str, Rule] = {
    **under(_slice, "slice", "narrow"),
    **under(_select, "select"),
    **under(_unbind, "unbind"),
    **under(_split, "chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split"),
    **under(_index_select, "index_select"),
    **under(_index, "index"),
    **under(_flip, "flip"),
    **under(_roll, "roll"),
    **under(_cat, "cat", "concat", "concatenate"),
    **under(_stack, "stack"),
    **under(_copy, "copy"),
    **under(_slice_scatter, "slice_scatter"),
    **under(_like, *LIKE),
}
