"""Masks: which weights stay. A validated value with set operations, exact counts and a one-bit file."""

from __future__ import annotations

import json
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from secateur.bits import Bits
from secateur.files import read_tensors, write_tensors
from secateur.modules import refuse_valueless, unwrap
from secateur.native import tensors as kernels
from secateur.vocabulary import BadTargetError, CorruptFileError, Target, near_matches

__all__ = ["Count", "Masks", "apply", "bind", "parameters_of"]

_FORMAT = "secateur-masks"


class Count(tuple[int, int]):
    """Kept and total weights of one target or of all.

    Example:
        >>> Count(1, 4).sparsity
        0.75
    """

    def __new__(cls, kept: int, total: int) -> Count:  # noqa: D102
        return super().__new__(cls, (kept, total))

    @property
    def kept(self) -> int:
        """Weights kept."""
        return self[0]

    @property
    def total(self) -> int:
        """Weights in all."""
        return self[1]

    @property
    def removed(self) -> int:
        """Weights removed."""
        return self[1] - self[0]

    @property
    def sparsity(self) -> float:
        """Removed over total, in [0, 1]; 0 where there is nothing."""
        return self.removed / self.total if self.total else 0.0


class Masks(Mapping[str, Tensor]):
    """An immutable mapping from target name to a bool tensor, True = kept.

    Masks remember, weakly, the parameters they were chosen for, so that :func:`secateur.hold` finds
    them; masks read from a file know only names until :func:`apply` or :func:`bind` ties them to a model.

    Masks that selection made on the CPU, or that come from a file, are held at one bit a weight (:class:`Bits`); a bool
    tensor is made, anew, each time one is asked for.

    Raises:
        BadTargetError: a value is not a bool tensor.

    Example:
        >>> import torch
        >>> a = Masks({"w": torch.tensor([True, True, False, False])})
        >>> b = Masks({"w": torch.tensor([True, False, True, False])})
        >>> (a & b).count().kept, (a | b).count().kept, (~a)["w"].tolist()
        (1, 3, [False, False, True, True])
        >>> a.sparsity
        0.5
    """

    def __init__(
        self, masks: Mapping[str, Tensor] | Mapping[str, Tensor | Bits], targets: Mapping[str, Target] | None = None
    ) -> None:
        self._masks = dict(masks.stored if isinstance(masks, Masks) else masks)
        for name, mask in self._masks.items():
            if not isinstance(mask, Bits) and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
                kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise BadTargetError(f"the mask of {name!r} must be a bool tensor, True = kept; got {kind}")
        known = targets if targets is not None else getattr(masks, "targets", {})
        self.targets: Mapping[str, Target] = MappingProxyType(dict(known))

    def __getitem__(self, name: str) -> Tensor:
        mask = self._masks[name]
        return mask.unpack() if isinstance(mask, Bits) else mask

    @property
    def stored(self) -> Mapping[str, Tensor | Bits]:
        """The masks as they are held, bool tensors or bits; both have a shape."""
        return MappingProxyType(self._masks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __repr__(self) -> str:
        count = self.count()
        return f"Masks({len(self)} targets, {count.kept} of {count.total} weights kept)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self.keys() == other.keys() and all(_same(self._masks[n], other._masks[n]) for n in self)

    __hash__ = None  # type: ignore[assignment]  # equal by content, and content may live on any device

    def __deepcopy__(self, memo: dict[int, object]) -> Masks:
        # Parameters are referred to weakly, so a copy still masks the same ones.
        copies = {name: m if isinstance(m, Bits) else m.clone() for name, m in self._masks.items()}
        return Masks(copies, self.targets)

    def __reduce__(self) -> tuple[Callable[[dict[str, Tensor | Bits]], Masks], tuple[dict[str, Tensor | Bits]]]:
        """Pickle names and masks alone, as a file does."""
        return Masks, (dict(self._masks),)

    def __and__(self, other: Masks) -> Masks:
        """Keep what both keep; a target that only one of them names is as that one says."""
        return self._combine(other, torch.bitwise_and)

    def __or__(self, other: Masks) -> Masks:
        """Keep what either keeps; a target that only one of them names is as that one says."""
        return self._combine(other, torch.bitwise_or)

    def __invert__(self) -> Masks:
        """Keep exactly what was removed."""
        return Masks({name: ~mask for name, mask in self._masks.items()}, self.targets)

    def _combine(self, other: Masks, operation: Callable[[Tensor, Tensor], Tensor]) -> Masks:
        merged = {**self._masks, **other._masks}
        for name in self.keys() & other.keys():
            one, two = self._masks[name], other._masks[name]
            if one.shape != two.shape:
                raise BadTargetError(f"masks of {name!r} differ in shape: {list(one.shape)}, {list(two.shape)}")
            if isinstance(one, Bits) and isinstance(two, Bits):
                merged[name] = one.combine(two, operation)
            else:
                merged[name] = operation(self[name], other[name])
        return Masks(merged, {**self.targets, **other.targets})

    def count(self, name: str | None = None) -> Count:
        """Return kept and total weights of one target, or of all."""
        if name is not None:
            mask = self._masks[name]
            return Count(mask.kept if isinstance(mask, Bits) else int(mask.sum()), mask.numel())
        parts = [self.count(each) for each in self]
        return Count(sum(part.kept for part in parts), sum(part.total for part in parts))

    @property
    def sparsity(self) -> float:
        """Removed over total weights of all targets, in [0, 1]."""
        return self.count().sparsity

    def to(self, device: torch.device | str) -> Masks:
        """Return the same masks on another device."""
        return Masks({name: _moved(mask, torch.device(device)) for name, mask in self._masks.items()}, self.targets)

    def save(self, path: str | Path) -> None:
        """Write the masks as a safetensors file with one bit a weight, in one atomic step."""
        shapes = {name: list(mask.shape) for name, mask in self._masks.items()}
        packed = {n: (mask if isinstance(mask, Bits) else Bits.of(mask)).data for n, mask in self._masks.items()}
        metadata = {"format": _FORMAT, "version": "1", "shapes": json.dumps(shapes), "crc32": _checksum(shapes, packed)}
        write_tensors(path, packed, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Masks:
        """Read masks written by :meth:`save`.

        Raises:
            CorruptFileError: the file is damaged, or is not a mask file.
        """
        packed, metadata = read_tensors(path)
        if metadata.get("format") != _FORMAT or metadata.get("version") != "1":
            raise CorruptFileError(f"{path} is not a mask file of version 1 (write one with Masks.save)")
        try:
            shapes = cast("dict[str, list[int]]", json.loads(metadata["shapes"]))
            if metadata["crc32"] != _checksum(shapes, packed):
                raise ValueError("the checksum differs")
            return cls({name: Bits(packed[name], torch.Size(shapes[name])) for name in shapes})
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise CorruptFileError(f"{path} is damaged: its shapes or bits are not what was saved ({error})") from error


def _checksum(shapes: Mapping[str, list[int]], packed: Mapping[str, Tensor]) -> str:
    """Return a checksum of all that a mask file says, in order of name."""
    total = 0
    for name, shape in sorted(shapes.items()):
        total = zlib.crc32(packed[name].numpy().tobytes(), zlib.crc32(f"{name}:{shape}".encode(), total))
    return f"{total:08x}"


def _same(one: Tensor | Bits, two: Tensor | Bits) -> bool:
    if isinstance(one, Bits) and isinstance(two, Bits):
        return one.shape == two.shape and torch.equal(one.data, two.data)
    return torch.equal(*(mask.unpack() if isinstance(mask, Bits) else mask for mask in (one, two)))


def _moved(mask: Tensor | Bits, device: torch.device) -> Tensor | Bits:
    """Return a mask on another device; bits stay bits on the CPU."""
    if not isinstance(mask, Bits):
        return mask.to(device)
    return mask if device.type == "cpu" else mask.unpack().to(device)


def parameters_of(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Return the parameter each mask names, checked for shape.

    Raises:
        BadTargetError: a name is not a parameter of the model, or shapes differ.
    """
    # Aliases of tied parameters are names too: a mask may use either.
    known = dict(unwrap(model).named_parameters(remove_duplicate=False))
    for name, mask in (masks.stored if isinstance(masks, Masks) else masks).items():
        if name not in known:
            raise BadTargetError(f"the model has no parameter {name!r}; {near_matches(name, known)}")
        if known[name].shape != mask.shape:
            raise BadTargetError(
                f"the mask of {name!r} has shape {list(mask.shape)}, the parameter {list(known[name].shape)}"
            )
    return {name: known[name] for name in masks}


def bind(model: nn.Module, masks: Mapping[str, Tensor]) -> Masks:
    """Return the same masks, tied to the parameters of ``model`` that they name, on their devices."""
    masks = masks if isinstance(masks, Masks) else Masks(masks)
    layouts = masks.targets
    parameters = parameters_of(model, masks)
    refuse_valueless(parameters, "apply masks")
    targets = {n: Target(layouts.get(n, Target()).layout, weakref.ref(p)) for n, p in parameters.items()}
    return Masks({name: _moved(mask, parameters[name].device) for name, mask in masks.stored.items()}, targets)


@torch.no_grad()
def apply(model: nn.Module, masks: Mapping[str, Tensor]) -> Masks:
    """Set every weight that the masks remove to zero, in place; return the masks tied to this model.

    Parameters keep their identity, names and dtype; nothing else is stored on the model.

    Args:
        model: the network; wrappers of ``torch.compile`` and DDP are looked through.
        masks: bool tensors by ``state_dict`` name, shaped like the parameters.

    Raises:
        BadTargetError: a name is not a parameter of the model, shapes differ, or it holds no values yet.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> _ = apply(layer, {"weight": torch.tensor([[True, False]])})
        >>> layer.weight[0, 1].item()
        0.0
    """
    bound = bind(model, masks)
    parameters = parameters_of(model, bound)
    fast = _clearable(parameters, bound)
    if fast:
        kernels.clear({name: parameters[name] for name in fast}, fast)
    for name in parameters.keys() - fast.keys():
        # masked_fill, not multiplication: a pruned infinity or NaN must become 0 too.
        parameters[name].masked_fill_(~bound[name], 0.0)
    return bound


def _clearable(parameters: Mapping[str, nn.Parameter], masks: Masks) -> dict[str, Bits]:
    """Return the bits that the kernels can clear at once: each of another piece of memory, tied weights only once."""
    known: set[int] = set()
    found = {}
    for name, mask in masks.stored.items():
        place = parameters[name].data_ptr()
        if isinstance(mask, Bits) and place not in known and kernels.takes([parameters[name]]):
            found[name] = mask
            known.add(place)
    return found
