"""What it takes to make a smaller model from a fresh instance of its class: plain JSON, no code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.folding import WITH_BIAS
from secateur.shrink.cutting import named_tensors, replace_tensors
from secateur.vocabulary import CorruptFileError

__all__ = ["compare", "rebuild"]


def compare(before: nn.Module, after: nn.Module) -> dict[str, Any]:
    """Return what differs between a model and its smaller copy: shapes, numbers held by modules, biases made.

    Example:
        >>> compare(nn.Linear(4, 3), nn.Linear(4, 2))["attributes"]
        {'': {'out_features': 2}}
    """
    old, new = named_tensors(before), named_tensors(after)
    modules = dict(before.named_modules())
    attributes = {}
    for path, module in after.named_modules():
        known = vars(modules[path])
        changed = {k: v for k, v in vars(module).items() if _plain(v) and k in known and known[k] != v}
        if changed:
            attributes[path] = {k: list(v) if isinstance(v, tuple) else v for k, v in changed.items()}
    return {
        "version": 1,
        "class": f"{type(before).__module__}.{type(before).__qualname__}",
        "tensors": {n: list(t.shape) for n, t in new.items() if n in old and t.shape != old[n].shape},
        "attributes": attributes,
        "biases": {name: list(t.shape) for name, t in new.items() if name not in old},
    }


def rebuild(model: nn.Module, manifest: Mapping[str, Any]) -> None:
    """Give a fresh instance of a class the shapes of its smaller copy, in place; values are left undefined.

    Everything is checked before anything is changed: nothing may grow, and only numbers that modules have already are
    set.

    Args:
        model: an instance of the class that was shrunk, built as that was.
        manifest: from :func:`secateur.shrink.manifest`.

    Raises:
        CorruptFileError: the manifest is not of version 1, or does not fit the model.
    """
    if manifest.get("version") != 1:
        raise CorruptFileError(f"the manifest is of version {manifest.get('version')!r}; this reads version 1")
    parts = [manifest.get(part, {}) for part in ("tensors", "attributes", "biases")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise CorruptFileError("the manifest's tensors, attributes and biases must be objects")
    tensors, attributes, biases = parts
    known, modules = named_tensors(model), dict(model.named_modules())
    for name, shape in tensors.items():
        if name not in known or not _smaller(shape, known[name].shape):
            raise CorruptFileError(_unfit(model, f"gives {name!r} the shape {shape}", manifest))
    for path, changes in attributes.items():
        for key, value in (changes if isinstance(changes, Mapping) else {"": None}).items():
            if path not in modules or not _alike(vars(modules[path]).get(key), value) or key.startswith("_"):
                raise CorruptFileError(_unfit(model, f"sets {path}.{key} to {value!r}", manifest))
    for name, shape in biases.items():
        if not _may_have(modules.get(name.rpartition(".")[0]), name, shape, tensors):
            raise CorruptFileError(_unfit(model, f"adds the bias {name!r} of shape {shape}", manifest))
    _reshape(model, known, tensors)
    for path, changes in attributes.items():
        for key, value in changes.items():
            setattr(modules[path], key, tuple(value) if isinstance(value, list) else value)
    for name, shape in biases.items():
        owner: Any = modules[name.rpartition(".")[0]]
        owner.bias = nn.Parameter(torch.zeros(shape).to(owner.weight))


def _reshape(model: nn.Module, known: Mapping[str, Tensor], shapes: Mapping[str, Any]) -> None:
    new: dict[int, Tensor] = {}
    for name, shape in shapes.items():
        old = known[name]
        empty = torch.zeros(shape, dtype=old.dtype, device=old.device)
        new[id(old)] = nn.Parameter(empty, old.requires_grad) if isinstance(old, nn.Parameter) else empty
    replace_tensors(model, new)


def _plain(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, int) and not isinstance(each, bool) for each in numbers)


def _alike(known: Any, value: Any) -> bool:
    if isinstance(value, list):
        value = tuple(value)
    if not (_plain(known) and _plain(value)) or isinstance(known, tuple) != isinstance(value, tuple):
        return False
    pairs = zip(known, value, strict=False) if isinstance(known, tuple) else [(known, value)]
    return all(0 <= new <= old for old, new in pairs) and (not isinstance(known, tuple) or len(known) == len(value))


def _smaller(shape: Any, old: torch.Size) -> bool:
    whole = isinstance(shape, list) and len(shape) == len(old) and all(type(size) is int for size in shape)
    return whole and all(0 <= size <= most for size, most in zip(shape, old, strict=True)) and math.prod(shape) >= 0


def _may_have(owner: Any, bias: str, shape: Any, shapes: Mapping[str, Any]) -> bool:
    """Say if a layer has room for a bias, one number for each row its weight will have."""
    if type(owner) not in WITH_BIAS or not bias.endswith("bias") or owner.bias is not None:
        return False
    rows = shapes.get(f"{bias.removesuffix('bias')}weight", list(owner.weight.shape))[0]
    return bool(shape == [rows])


def _unfit(model: nn.Module, what: str, manifest: Mapping[str, Any]) -> str:
    made = str(manifest.get("class", "another class"))
    return f"the manifest {what}, which does not fit {type(model).__name__}; it was written for {made}"
