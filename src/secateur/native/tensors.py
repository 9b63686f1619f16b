"""The compiled kernels on torch tensors: which they take, and zeroing what bits leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from secateur.bits import Bits
from secateur.native import available, load

__all__ = ["clear", "takes"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_AXES = 8


def takes(tensors: Iterable[Tensor]) -> bool:
    """Return whether the kernels are there and can work on these tensors where they lie.

    They take plain float tensors on the CPU, of any strides; not subclasses, which may mean anything.

    Example:
        >>> takes([torch.zeros(2, dtype=torch.int64)])
        False
    """
    return available() and all(
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dtype in _FLOATS
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.ndim <= _AXES
        and not tensor.is_neg()
        and 0 not in tensor.stride()  # repeated elements
        for tensor in tensors
    )


def clear(tensors: Mapping[str, Tensor], bits: Mapping[str, Bits]) -> None:
    """Set what the bits leave out to zero, in place; autograd learns of it as of any in-place operation.

    Args:
        tensors: tensors that the kernels take.
        bits: bits of the same names and shapes.

    Raises:
        MissingKernelsError: the kernels are not there.
    """
    detached = {name: tensor.detach() for name, tensor in tensors.items()}
    packed = [bits[name].data for name in detached]
    load().clear(list(detached.values()), packed, torch.get_num_threads())
    for tensor in detached.values():
        torch.autograd.graph.increment_version(tensor)
