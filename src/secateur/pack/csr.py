"""The same tensors as torch's compressed sparse rows, for whoever computes with those."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["csr_bytes", "to_csr"]


def to_csr(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float matrices as ``torch.sparse_csr`` tensors and everything else as it is.

    Weights with more than two axes become matrices, a row for each index of the first axis: torch has no other CSR.

    Example:
        >>> to_csr({"weight": torch.tensor([[0.0, 2.0], [0.0, 0.0]])})["weight"].values()
        tensor([2.])
    """
    return {name: _rows(tensor).to_sparse_csr() if _worth(tensor) else tensor for name, tensor in tensors.items()}


def csr_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of what :func:`to_csr` makes of tensors, without making it; each different tensor counts once.

    Torch's indices have 64 bits: 12 bytes for each float32 that is not zero.

    Example:
        >>> csr_bytes({"weight": torch.eye(10)})
        208
    """
    total = 0
    seen: set[tuple[int, torch.Size]] = set()
    for tensor in tensors.values():
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        if _worth(tensor):
            kept = int(tensor.count_nonzero())
            total += kept * (tensor.dtype.itemsize + 8) + 8 * (tensor.shape[0] + 1)
        else:
            total += tensor.nbytes
    return total


def _worth(tensor: Tensor) -> bool:
    return tensor.ndim > 1 and tensor.dtype.is_floating_point and tensor.layout == torch.strided and tensor.numel() > 0


def _rows(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten(1)
