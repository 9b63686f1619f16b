"""Packed files of Keras models, on any backend: the same files as of torch models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from secateur.integrations.keras.targets import as_array, find, read
from secateur.pack.container import Packed, read_index
from secateur.pack.packing import TORCH_DTYPES
from secateur.pack.packing import pack as core_pack
from secateur.pack.unpacking import unpack as core_unpack
from secateur.train.share import shared
from secateur.vocabulary import BadTargetError

__all__ = ["pack", "unpack"]


def pack(model: Any, path: str | Path, *, bits: int | None = None, metadata: Mapping[str, str] | None = None) -> Packed:
    """Write the variables of a Keras model to a packed file, as :func:`secateur.pack` does; the model is not changed.

    Args:
        model: a built ``keras.Model``; its zeros are left out.
        path: of the file, by convention ``.sct``.
        bits: 1 to 8: first let the weights of each layer that can be pruned (biases too) share ``2**bits`` values.
            What else there is stays as it is.
        metadata: strings to put into the file's header.

    Raises:
        BadTargetError: two variables have one path, or a variable is of a type that cannot be stored.
        SelectionError: ``bits`` is out of range.
        OSError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for variable in model.weights:
        if variable.path in tensors:
            raise BadTargetError(f"two variables of {model.name} have the path {variable.path!r}; name their layers")
        tensors[variable.path] = read(variable).detach().cpu()
    if bits is not None:
        for each in find(model, biases=True):
            tensors[each.name] = shared(each.name, tensors[each.name], bits)
    return core_pack(tensors, path, metadata=metadata)


def unpack(path: str | Path, into: Any) -> Any:
    """Read a packed file into a built Keras model of the architecture that was packed, and return it.

    Variables go by their order, as layers that nobody named have other names in every model.

    Raises:
        CorruptFileError: the file is damaged, hostile or no packed file.
        BadTargetError: the file does not fit the model; nothing of it is loaded then.
    """
    records = read_index(path).records
    if len(records) != len(into.weights):
        raise BadTargetError(f"{path} holds {len(records)} variables, {into.name} has {len(into.weights)}")
    for (name, record), variable in zip(records.items(), into.weights, strict=True):
        own, dtype = read(variable), TORCH_DTYPES[record.dtype]
        alike = variable.path.split("/")[-1] == name.split("/")[-1]
        if tuple(own.shape) != record.shape or own.dtype != dtype or not alike:
            raise BadTargetError(
                f"{path} does not fit {into.name}: {name!r} is {list(record.shape)} of {dtype}, "
                f"{variable.path!r} is {list(own.shape)} of {own.dtype}"
            )
    tensors = core_unpack(path, max_bytes=sum(record.nbytes for record in records.values()))
    for name, variable in zip(records, into.weights, strict=True):
        variable.assign(as_array(tensors[name]))
    return into
