"""How long layers take, dense and sparse, on what an example brings to them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from secateur.engine.accelerating.encoders import at_once, layer_by_layer
from secateur.engine.accelerating.known import forget, programs
from secateur.engine.accelerating.layers import restored, turned, use_of
from secateur.graph.following import arguments
from secateur.modules import in_eval_mode

__all__ = ["Times", "alternating", "met", "timed_layer", "timed_model"]

# Each way is run so often at least and at most, and no longer than this many seconds in all if that is enough.
_FEWEST, _MOST, _ENOUGH = 3, 30, 0.1

Call: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...]]"


@dataclass(frozen=True)
class Times:
    """Seconds with dense weights and on the sparse kernels, the best of some runs."""

    dense: float
    sparse: float


def met(model: nn.Module, layers: Iterable[nn.Module], example: Any) -> dict[nn.Module, Counter[Call]]:
    """Return the float32 inputs that reach each layer while a model computes an example: shapes, strides, how often."""
    calls: dict[nn.Module, Counter[Call]] = {layer: Counter() for layer in layers}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for each in (*args, *kwargs.values()):
            if isinstance(each, Tensor) and each.dtype == torch.float32 and each.numel():
                calls[layer][tuple(each.shape), each.stride()] += 1

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in calls]
    try:
        layer_by_layer(model, calls)
        _run(model, example)()
    finally:
        at_once(model)
        for hook in hooks:
            hook.remove()
    return calls


def timed_layer(layer: nn.Module, calls: Counter[Call], threads: int | None) -> Times:
    """Return how long a layer takes for some calls; its programs are tuned, and kept if they are the faster ones."""
    pair, use = (layer.weight, layer.bias), use_of(layer)
    programs(pair, use, tuned=True)  # type: ignore[arg-type]
    dense = sparse = 0.0
    with torch.no_grad():
        for (shape, stride), count in calls.items():
            last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
            x = torch.randn(last + 1).as_strided(shape, stride)
            # Past the hooks of the layer: these numbers are nobody's.
            times = alternating(lambda x=x: layer.forward(x), _switch([layer], threads))  # type: ignore[misc]
            dense, sparse = dense + count * times.dense, sparse + count * times.sparse
    if sparse >= dense:
        forget(pair, use)  # type: ignore[arg-type]
    return Times(dense, sparse)


def timed_model(model: nn.Module, layers: Iterable[nn.Module], example: Any, threads: int | None) -> Times:
    """Return how long a model takes for an example, without and with the layers accelerated."""
    chosen = list(layers)
    switch = _switch(chosen, threads)

    def switch_all(sparse: bool) -> None:
        switch(sparse)
        if sparse:
            layer_by_layer(model, chosen)
        else:
            at_once(model)

    return alternating(_run(model, example), switch_all)


def alternating(call: Callable[[], object], switch: Callable[[bool], None]) -> Times:
    """Return the times of a call, dense and sparse in turn, so that both meet what else the machine does.

    Args:
        call: called without arguments.
        switch: called with whether what follows is to be sparse; at last with False.
    """
    best = {False: math.inf, True: math.inf}
    spent = 0.0
    try:
        for run in range(_MOST + 1):
            for sparse in (False, True):
                switch(sparse)
                before = time.perf_counter()
                call()
                took = time.perf_counter() - before
                if run:  # the first makes programs and fills caches
                    best[sparse], spent = min(best[sparse], took), spent + took
            if run >= _FEWEST and spent > _ENOUGH:
                break
    finally:
        switch(False)
    return Times(best[False], best[True])


def _switch(layers: list[nn.Module], threads: int | None) -> Callable[[bool], None]:
    def switch(sparse: bool) -> None:
        for layer in layers:
            restored(layer)
            if sparse:
                turned(layer, threads)

    return switch


def _run(model: nn.Module, example: Any) -> Callable[[], object]:
    args, kwargs = arguments(example)

    def run() -> object:
        with in_eval_mode(model), torch.no_grad():
            return model(*args, **kwargs)

    return run
