"""From a torch model, or any named tensors, to a packed file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.choose.targets import prunable
from secateur.masks import bind
from secateur.modules import refuse_keras, refuse_valueless, unwrap
from secateur.pack.container import MANIFEST, Packed, read_index
from secateur.pack.values import Bits, bits_of
from secateur.pack.writing import Writer
from secateur.shrink import manifest
from secateur.train.share import shared
from secateur.vocabulary import BadTargetError, SecateurWarning, near_matches

__all__ = ["TORCH_DTYPES", "pack", "packed_bytes"]

TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
# Of equal width, and known to both numpy and every supported torch.
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    masks: Mapping[str, Tensor] | None = None,
    bits: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Packed:
    """Write a model to a packed file, tensor by tensor and in one atomic step; the model is not changed.

    Packing is lossless unless ``bits`` is given: every tensor comes back bit by bit, NaN and subnormal numbers
    included. Left out are elements whose bits are all zero, so a negative zero is kept, and what ``masks`` remove.
    Where elements have few different values, as after :func:`secateur.share`, they are stored as codes.

    Args:
        model: any module (its ``state_dict`` is packed), or tensors by name; sparse ones become dense.
        path: of the file, by convention ``.sct``.
        masks: what to leave out beside zeros; a warning says if any of it is not zero.
        bits: 1 to 8: first let the weights of each target (biases of targets too) share at most ``2**bits`` values, and
            round all other floats to bfloat16. Of a mapping, the targets are the floats with two axes or more.
        metadata: strings to put into the file's header; names beginning with ``:`` or ``@`` and ``sct`` are taken.

    Returns:
        What the file holds, to be printed.

    Raises:
        BadTargetError: a tensor is of a type that cannot be stored, holds no values, or a mask fits none.
        SelectionError: ``bits`` is out of range.
        ValueError: a name in ``metadata`` is taken, or its value is no text.
        OSError: the file cannot be written; what was at ``path`` is still there.

    Example:
        >>> import secateur as sc, tempfile
        >>> net = nn.Linear(100, 100, bias=False)
        >>> masks = sc.prune(net, sparsity=0.9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     packed = sc.pack(net, folder + "/net.sct")
        ...     same = sc.unpack(folder + "/net.sct")
        >>> packed.ratio > 8.5, torch.equal(same["weight"], net.weight)
        (True, True)
    """
    refuse_keras(model, "pack")
    tensors = _tensors(model)
    masks = _checked_masks(model, tensors, masks)
    targets = _targets(model, tensors) if bits is not None else set()
    with Writer(path) as writer:
        for name, value in _each(tensors, writer):
            if name in masks:
                value = _masked(name, value, masks[name])  # noqa: PLW2901
            if bits is not None and value.dtype.is_floating_point and value.dtype.itemsize > 1:
                value = shared(name, value, bits) if name in targets else _rounded(value)  # noqa: PLW2901
            _warn_of_negative_zeros(name, value)
            writer.add(name, _bits(value), _NAMES[value.dtype])
        writer.finish(metadata or {}, _notes(model))
    return read_index(path)


def packed_bytes(model: nn.Module | Mapping[str, Tensor]) -> int:
    """Return the bytes of the file that :func:`pack` would write of a model or of tensors, without loss.

    Raises:
        BadTargetError: a tensor cannot be stored.

    Example:
        >>> packed_bytes({"weight": torch.zeros(1000)})
        139
    """
    with Writer(None) as writer:
        for name, value in _each(_tensors(model), writer):
            writer.add(name, _bits(value), _NAMES[value.dtype])
        return writer.finish({}, _notes(model))


def _tensors(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what is to be stored, checked before anything is written."""
    named: Mapping[str, Any] = unwrap(model).state_dict() if isinstance(model, nn.Module) else model
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            raise BadTargetError(
                f"{name!r} is a {type(tensor).__name__}, no tensor, and cannot be packed; keep the extra state of "
                "modules apart, and pack the rest of the state_dict"
            )
        refuse_valueless({name: tensor}, "pack")
        if tensor.dtype not in _NAMES or tensor.is_quantized:
            raise BadTargetError(
                f"{name!r} is of type {tensor.dtype}, which a packed file cannot hold; convert it first"
            )
    return dict(named)


def _each(tensors: Mapping[str, Tensor], writer: Writer) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor once, dense and on the CPU; further names of one that was seen are tied."""
    for name, tensor in tensors.items():
        if not writer.tied(name, _identity(tensor)):
            dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
            yield name, dense.cpu().resolve_conj().resolve_neg().contiguous()


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Return what only names of the same tensor have in common."""
    if tensor.layout != torch.strided or not tensor.numel():
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())


def _bits(tensor: Tensor) -> Bits:
    integers: Any = tensor.view(INTEGERS[tensor.dtype.itemsize]).numpy()
    viewed: Bits = integers.view(bits_of(_NAMES[tensor.dtype]))
    return viewed


def _warn_of_negative_zeros(name: str, value: Tensor) -> None:
    """Say so where a mask was multiplied with: the zeros of negative weights are then negative, and are kept."""
    if not value.dtype.is_floating_point or value.dtype.itemsize < 2:
        return
    negative = int(((value == 0) & value.signbit()).sum())
    if negative > 0.1 * value.numel():
        warnings.warn(
            f"{name!r} holds {negative:,} negative zeros, which take as much room as any other value; give masks=, or "
            "add 0.0 to it, to have them dropped",
            SecateurWarning,
            stacklevel=3,
        )


def _rounded(value: Tensor) -> Tensor:
    """Round to what bfloat16 can hold; a tensor with finite values beyond its range stays as it is."""
    if value.dtype.itemsize <= 2:
        return value
    rounded = value.bfloat16().to(value.dtype)
    return rounded if torch.equal(rounded.isinf(), value.isinf()) else value


def _targets(model: nn.Module | Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors that get codebooks."""
    if not isinstance(model, nn.Module):
        return {name for name, tensor in tensors.items() if tensor.ndim > 1}
    return set(prunable(model, biases=True))


def _checked_masks(
    model: nn.Module | Mapping[str, Tensor], tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None
) -> Mapping[str, Tensor]:
    if masks is None:
        return {}
    if isinstance(model, nn.Module):
        bind(model, masks)
    for name, mask in masks.items():
        if name not in tensors:
            raise BadTargetError(f"there is no tensor {name!r} for this mask; {near_matches(name, tensors)}")
        if mask.shape != tensors[name].shape or mask.dtype != torch.bool:
            raise BadTargetError(
                f"the mask of {name!r} is {mask.dtype} of shape {list(mask.shape)}; it must be bool, of shape "
                f"{list(tensors[name].shape)}"
            )
    # A tied tensor is stored under its first name, and may be masked under any.
    by_tensor: dict[tuple[Any, ...], Tensor] = {}
    for name, mask in masks.items():
        key = _identity(tensors[name])
        by_tensor[key] = by_tensor[key] & mask if key in by_tensor else mask
    return {name: by_tensor[key] for name, t in tensors.items() if (key := _identity(t)) in by_tensor}


def _masked(name: str, value: Tensor, mask: Tensor) -> Tensor:
    removed = ~mask.cpu()
    if leaked := int(value[removed].count_nonzero()):
        warnings.warn(
            f"masks remove {leaked} weights of {name!r} that are not zero; they are packed as zeros",
            SecateurWarning,
            stacklevel=3,
        )
    return value.masked_fill(removed, 0)


def _notes(model: nn.Module | Mapping[str, Tensor]) -> dict[str, str]:
    """Return what was removed from the model, if anything was, as the note it is kept in."""
    removed = manifest(unwrap(model)) if isinstance(model, nn.Module) else None
    return {} if removed is None else {MANIFEST: json.dumps(removed, separators=(",", ":"), allow_nan=False)}
