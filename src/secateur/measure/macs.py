"""Multiply-adds of one forward pass, counted layer by layer by hooks that are gone afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from secateur.choose.targets import matrix_of

__all__ = ["count_macs", "has_rule"]

_COUNTED = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


def has_rule(module: nn.Module) -> bool:
    """Say if the multiply-adds of a module are known: it is counted, or it only looks up.

    Example:
        >>> has_rule(nn.Linear(1, 1)), has_rule(nn.Embedding(1, 1)), has_rule(nn.LayerNorm(1))
        (True, True, False)
    """
    return isinstance(module, (*_COUNTED, nn.Embedding, nn.EmbeddingBag)) or matrix_of(module) is not None


def count_macs(model: nn.Module, example: tuple[Any, ...]) -> dict[int, int]:
    """Return the multiply-adds each parameter takes part in during one call, by ``id`` of the parameter.

    Counted are Linear, Bilinear, convolutions, transposed convolutions, recurrent layers, registered modules with one
    matrix, and the projections of MultiheadAttention (its products of queries, keys and values have no weights and
    are left out). A module called twice counts twice. The model should be in eval mode: MultiheadAttention is then
    told to call its usual path.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> count_macs(layer, (torch.zeros(5, 3),))[id(layer.weight)]
        30
    """
    counts: dict[int, int] = {}
    # Not inference_mode: what a module caches on its first call must stay usable in training.
    with torch.no_grad(), _hooked(model, counts):
        model(*example)
    return counts


@contextlib.contextmanager
def _hooked(model: nn.Module, counts: dict[int, int]) -> Iterator[None]:
    def add(parameter: Tensor | None, macs: int) -> None:
        if isinstance(parameter, Tensor):
            counts[id(parameter)] = counts.get(id(parameter), 0) + macs

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if isinstance(module, nn.Linear | nn.Bilinear):
            add(module.weight, output.numel() // max(1, module.out_features) * module.weight.numel())
        elif isinstance(module, _ConvNd):
            # A forward convolution uses each weight once per output position, a transposed one per input position.
            seen = _input(args, kwargs) if isinstance(module, _ConvTransposeNd) else output
            spatial = module.weight.ndim - 2
            positions = seen.shape[-spatial:].numel() * (seen.shape[0] if seen.ndim > spatial + 1 else 1)
            add(module.weight, positions * module.weight.numel())
        elif isinstance(module, nn.RNNBase):
            steps = _steps(_input(args, kwargs))
            for name, parameter in module.named_parameters(recurse=False):
                if name.startswith("weight"):
                    add(parameter, steps * parameter.numel())
        elif isinstance(module, nn.RNNCellBase):
            batch = _steps(_input(args, kwargs))
            add(module.weight_ih, batch * module.weight_ih.numel())
            add(module.weight_hh, batch * module.weight_hh.numel())
        elif matrix := matrix_of(module):
            add(matrix[0], output.numel() // max(1, matrix[1]) * matrix[0].numel())
        elif isinstance(module, nn.MultiheadAttention):
            _attention(module, [*args, *(kwargs[k] for k in ("query", "key", "value") if k in kwargs)], add)

    counted = [m for m in model.modules() if isinstance(m, _COUNTED) or matrix_of(m)]
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in counted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a module's input, given by position or by name (``hx`` of cells comes after it)."""
    return args[0] if args else kwargs["input"]


def _steps(x: Any) -> int:
    """Return time steps times batch of the input of a recurrent layer or cell."""
    if isinstance(x, nn.utils.rnn.PackedSequence):
        return int(x.data.shape[0])
    return int(x.shape[:-1].numel())


def _attention(module: nn.MultiheadAttention, inputs: list[Tensor], add: Any) -> None:
    query, key, value = inputs[:3]
    tokens = [x.shape[:-1].numel() for x in (query, key, value)]
    if module.in_proj_weight is not None:
        add(module.in_proj_weight, sum(tokens) * module.embed_dim * module.embed_dim)
    else:
        for count, weight in zip(
            tokens, (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight), strict=True
        ):
            add(weight, count * weight.numel())
    # The output projection is applied by the attention function: its own forward is never called.
    add(module.out_proj.weight, tokens[0] * module.out_proj.weight.numel())
