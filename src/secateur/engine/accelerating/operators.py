"""``torch.ops.secateur``: sparse layers as operators of torch, which torch.compile and torch.export carry along.

They are functions of their tensors alone, so that a graph that holds them means what it says wherever it is loaded; a
process that loads one imports this module first. They compute, and know no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from secateur.engine.accelerating.known import Matrix, Pair, array, constants, programs
from secateur.engine.accelerating.programs import ConvPrograms, LinearPrograms, Window
from secateur.vocabulary import SecateurError

__all__ = ["GradientError", "conv", "linear", "window_of"]

_LINEAR = "(Tensor x, Tensor weight, Tensor? bias, bool transposed, int threads) -> Tensor"
_CONV = "(Tensor x, Tensor weight, Tensor? bias, int[] window, int threads) -> Tensor"


class GradientError(SecateurError, NotImplementedError):
    """An operator was called where gradients are to flow; it computes none."""


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, threads: int) -> Tensor:
    """Multiply the last axis of ``x`` by a matrix.

    Args:
        x: shape [..., inputs].
        weight: shape [outputs, inputs], or [inputs, outputs] if transposed.
        bias: shape [outputs].
        transposed: whether inputs come first.
        threads: to compute on; 0 for as many as torch computes on.

    Raises:
        GradientError: gradients are to flow to a tensor.
    """
    _refuse_gradients(x, weight, bias)
    pair, use = (weight, bias), Matrix(transposed)
    if x.numel() == 0 or x.shape[-1] != weight.shape[0 if transposed else 1] or not _counts_versions(pair):
        return _dense_linear(x, weight, bias, transposed, threads)
    made = programs(pair, use)
    assert isinstance(made, LinearPrograms)
    rows = array(x.contiguous()).reshape(-1, x.shape[-1])
    y = made(rows, lambda: constants(pair, use), threads or torch.get_num_threads())
    return torch.from_numpy(y.reshape(*x.shape[:-1], y.shape[1]))


def _dense_linear(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, threads: int) -> Tensor:
    """Return the same as torch computes it, and its errors."""
    y = F.linear(x, weight.t() if transposed else weight, bias)
    return y.contiguous()


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None, window: Sequence[int], threads: int) -> Tensor:
    """Convolve lines or images; a line is an image of height 1.

    Args:
        x: shape [batch, inputs, *size] or [inputs, *size].
        weight: shape [outputs, inputs / groups, *kernel].
        bias: shape [outputs].
        window: stride down and across; padding at the top, bottom, left and right; dilation down and across; groups.
        threads: to compute on; 0 for as many as torch computes on.

    Raises:
        GradientError: gradients are to flow to a tensor.
    """
    _refuse_gradients(x, weight, bias)
    pair, axes = (weight, bias), weight.ndim - 2
    use = window_of(weight, window)
    if x.ndim not in (axes + 1, axes + 2) or not _counts_versions(pair):
        return _dense_conv(x, weight, bias, window, threads)
    image = (x.shape[-2] if axes == 2 else 1, x.shape[-1])
    fits = x.shape[-axes - 1] == weight.shape[1] * use.groups and min(use.padding) >= 0 and min(use.result(image)) > 0
    if not fits or x.numel() == 0:
        return _dense_conv(x, weight, bias, window, threads)
    made = programs(pair, use)
    assert isinstance(made, ConvPrograms)
    images = array(x.contiguous()).reshape(-1, x.shape[-axes - 1], *image)
    y = made(images, lambda: constants(pair, use), threads or torch.get_num_threads())
    return torch.from_numpy(y.reshape(*x.shape[: -axes - 1], *y.shape[1:2], *y.shape[-axes:]))


def _dense_conv(x: Tensor, weight: Tensor, bias: Tensor | None, window: Sequence[int], threads: int) -> Tensor:
    """Return the same as torch computes it, and its errors."""
    use, axes = window_of(weight, window), weight.ndim - 2
    top, bottom, left, right = use.padding
    sides = [top, left][-axes:]
    if (top, left) != (bottom, right):
        # Outwards from the last axis.
        x, sides = F.pad(x, [left, right, top, bottom][: 2 * axes]), [0] * axes
    convolve = F.conv1d if axes == 1 else F.conv2d
    y = convolve(x, weight, bias, use.stride[-axes:], sides, use.dilation[-axes:], use.groups)
    return y.contiguous()


def window_of(weight: Tensor, numbers: Sequence[int]) -> Window:
    """Return how a convolution with a weight moves, from the numbers the operator is given.

    Example:
        >>> window_of(torch.zeros(8, 4, 5), [1, 2, 0, 0, 3, 1, 1, 1, 1])
        Window(kernel=(1, 5), stride=(1, 2), padding=(0, 0, 3, 1), dilation=(1, 1), groups=1)
    """
    down, across, top, bottom, left, right, gap_down, gap_across, groups = numbers
    kernel = (1 if weight.ndim == 3 else weight.shape[-2], weight.shape[-1])
    return Window(kernel, (down, across), (top, bottom, left, right), (gap_down, gap_across), groups)


def _counts_versions(pair: Pair) -> bool:
    """Return whether changes of weight and bias can be noticed: those made in inference mode count none."""
    weight, bias = pair
    return not weight.is_inference() and (bias is None or not bias.is_inference())


def _refuse_gradients(*tensors: Tensor | None) -> None:
    """Refuse what the modules never ask for; whoever calls an operator by itself would get no gradient, and not know.

    Raises:
        GradientError: gradients are to flow to one of the tensors.
    """
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors):
        raise GradientError(
            "torch.ops.secateur computes no gradients, and an input requires them: call it under torch.no_grad(), or "
            "with inputs that require none"
        )


def _register() -> None:
    computed = (("sparse_linear", _LINEAR, _linear, _dense_linear), ("sparse_conv", _CONV, _conv, _dense_conv))
    for name, schema, compute, dense in computed:
        if not hasattr(torch.ops.secateur, name):  # this module may be imported anew, operators stay
            torch.library.define(f"secateur::{name}", schema, tags=torch.Tag.pt2_compliant_tag)
            torch.library.impl(f"secateur::{name}", "cpu", compute)
            # On tensors without numbers the dense operators give the shapes, and what is wrong with them.
            torch.library.register_fake(f"secateur::{name}", dense)


_register()
linear, conv = torch.ops.secateur.sparse_linear.default, torch.ops.secateur.sparse_conv.default
