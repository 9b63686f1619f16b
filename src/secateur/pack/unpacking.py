"""From a packed file to torch tensors, or into a model."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, overload

import torch
from torch import Tensor, nn

from secateur.modules import unwrap
from secateur.pack.container import Packed, read_header
from secateur.pack.packing import INTEGERS, TORCH_DTYPES
from secateur.pack.reading import read_all
from secateur.pack.values import Bits
from secateur.shrink import rebuild
from secateur.vocabulary import BadTargetError, CorruptFileError

__all__ = ["unpack"]

Model = TypeVar("Model", bound=nn.Module)


@overload
def unpack(path: str | Path, into: None = None, *, max_bytes: int | None = None) -> dict[str, Tensor]: ...


@overload
def unpack(path: str | Path, into: Model, *, max_bytes: int | None = None) -> Model: ...


def unpack(
    path: str | Path, into: nn.Module | None = None, *, max_bytes: int | None = None
) -> dict[str, Tensor] | nn.Module:
    """Read a packed file, every byte of it checked before a tensor is handed out; no code in it is ever run.

    Args:
        path: of the file.
        into: a model of the class that was packed, which takes the tensors over; of one that was made physically
            smaller, a whole one, which is then made smaller alike. Nothing is loaded unless everything fits.
        max_bytes: the most that all tensors together may take in memory. Left out, that is what fits ``into``, or
            without it a thousand times the file (64 MiB in any case), so that a small hostile file cannot fill the
            memory.

    Returns:
        ``into``, or the tensors by name (on the CPU); tensors that were tied are one tensor again.

    Raises:
        CorruptFileError: the file is damaged, hostile, of another version or no packed file; the text names the tensor.
        BadTargetError: the file does not fit the model.
        FileNotFoundError: there is no such file.

    Example:
        >>> import secateur as sc, tempfile
        >>> net, other = nn.Linear(4, 2), nn.Linear(4, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = sc.pack(net, folder + "/net.sct")
        ...     _ = sc.unpack(folder + "/net.sct", into=other)
        >>> torch.equal(net.weight, other.weight)
        True
    """
    path = Path(path)
    with path.open("rb") as file:
        contents = read_header(file, path)
        if into is not None:
            fitting = _fitting(contents, unwrap(into))
            if max_bytes is None:
                max_bytes = sum(tensor.nbytes for tensor in fitting.values())
        tensors = read_all(file, contents, _tensor, max_bytes)
    if into is None:
        return tensors
    model = unwrap(into)
    if contents.manifest is not None and not _fits(contents, model):
        rebuild(model, contents.manifest)
    model.load_state_dict(tensors, strict=False)  # but for extra state, which is no tensor, all are there
    return into


def _fitting(contents: Packed, model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model as they have to be for a file; nothing of it is changed.

    Raises:
        BadTargetError, CorruptFileError: they cannot be.
    """
    own = _state(model)
    if any(tensor.is_meta for tensor in own.values()):
        raise BadTargetError("the model is on the meta device, without memory; call model.to_empty(device='cpu')")
    if contents.manifest is not None and not _fits(contents, model):
        trial = _without_values(model)
        try:
            rebuild(trial, contents.manifest)
        except CorruptFileError as error:
            raise CorruptFileError(f"{contents.path}: {error}") from error
        own = _state(trial)
    _check_fit(contents, own)
    return own


def _without_values(model: nn.Module) -> nn.Module:
    """Return a copy of a model that takes no memory for its tensors."""
    memo: dict[int, Tensor] = {}
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo)


def _state(model: nn.Module) -> dict[str, Tensor]:
    # The extra state of a module may be any object.
    return {name: each for name, each in model.state_dict().items() if isinstance(each, Tensor)}


def _tensor(bits: Bits, dtype: str) -> Tensor:
    kind = TORCH_DTYPES[dtype]
    integers = torch.from_numpy(bits.view(str(INTEGERS[kind.itemsize]).removeprefix("torch.")))
    return integers.view(kind)


def _check_fit(contents: Packed, own: Mapping[str, Tensor]) -> None:
    records = {**contents.records, **{name: contents.records[other] for name, other in contents.ties.items()}}
    missing, unknown = sorted(own.keys() - records.keys()), sorted(records.keys() - own.keys())
    if missing or unknown:
        raise BadTargetError(
            f"{contents.path} does not fit the model: it lacks {_some(missing)} and holds "
            f"{_some(unknown)} in addition; make the model as the packed one was, or read the tensors with unpack(path)"
        )
    for name, record in records.items():
        tensor = own[name]
        if tuple(tensor.shape) != record.shape or tensor.dtype != TORCH_DTYPES[record.dtype]:
            raise BadTargetError(
                f"{contents.path} does not fit the model: {name!r} is {list(record.shape)} of "
                f"{TORCH_DTYPES[record.dtype]} in the file, {list(tensor.shape)} of {tensor.dtype} in the model"
            )


def _fits(contents: Packed, model: nn.Module) -> bool:
    try:
        _check_fit(contents, _state(model))
    except BadTargetError:
        return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"
