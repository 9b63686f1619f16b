"""The cut itself: tensors, module attributes and optimizer state without the removed units."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.optim import Optimizer

from secateur.graph.coupling import Coupling, Size, member
from secateur.vocabulary import BadTargetError, SecateurWarning

__all__ = [
    "Kept",
    "check_optimizer",
    "cut",
    "cut_optimizer",
    "guesses",
    "kept_along",
    "named_tensors",
    "replace_tensors",
]

Kept = dict[str, dict[int, Tensor]]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by their first names."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def replace_tensors(model: nn.Module, new: Mapping[int, Tensor]) -> None:
    """Put new parameters and buffers where the old ones, given by ``id``, are; tied ones stay tied."""
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for leaf, tensor in own.items():
                if id(tensor) in new:
                    own[leaf] = new[id(tensor)]  # type: ignore[assignment]


def kept_along(coupling: Coupling, units: set[int]) -> Kept:
    """Return the indices that stay along every axis that loses some, by tensor and axis."""
    kept: Kept = {}
    for axis, labels in coupling.units.items():
        gone = member(labels, units)
        if bool(gone.any()):
            kept.setdefault(axis.name, {})[axis.dim] = (~gone).nonzero().flatten()
    return kept


@torch.no_grad()
def cut(
    model: nn.Module, coupling: Coupling, units: set[int], folds: Mapping[str, Tensor], guess: Collection[str] = ()
) -> tuple[nn.Module, Kept]:
    """Return a copy of a model without some units, and the indices that were kept.

    Args:
        model: in the mode the copy shall be in.
        coupling: of the model.
        units: to be removed.
        folds: added to biases and running means before they are cut; a bias that is not there is made.
        guess: attributes of the user's modules, from :func:`guesses`, to be set where they equal a size that has
            changed.
    """
    small = copy.deepcopy(model)
    kept = kept_along(coupling, units)
    _fold(small, folds)
    for name in folds:
        path, _, leaf = name.rpartition(".")
        rows = kept.get(f"{path}.weight".lstrip("."), {}).get(0)
        if leaf == "bias" and name not in kept and rows is not None:
            kept[name] = {0: rows}
    renewed = {id(t): _sliced(t, kept[name]) for name, t in named_tensors(small).items() if name in kept}
    shapes = {module: _shape(module) for module in small.modules()}
    replace_tensors(small, renewed)
    for module in small.modules():
        _resize(module, shapes[module])
    for size in coupling.sizes:
        # Found in the model, where no number has changed yet.
        for name, value in _candidates(model, size, units):
            if name == size.attribute or name in guess:
                setattr(small.get_submodule(size.module), name, value)
    return small, kept


def guesses(model: nn.Module, coupling: Coupling, units: set[int]) -> list[tuple[str, ...]]:
    """Return which attributes could be what the code counts units by, likely answers first.

    Where code calls ``view`` with a number that has changed, an attribute of its module that equals the number may be
    where it comes from. Several may equal it (heads, and the width of a head): each set of them is one answer.
    """
    named = [size for size in coupling.sizes if not size.attribute]
    names = {name for size in named for name, _ in _candidates(model, size, units)}
    subsets = [each for count in range(min(len(names), 4), 0, -1) for each in combinations(sorted(names), count)]
    return [(), *sorted(subsets, key=lambda each: sum("dim" in name or "size" in name for name in each))[:31]]


def _fold(model: nn.Module, folds: Mapping[str, Tensor]) -> None:
    tensors = named_tensors(model)
    for name, moved in folds.items():
        if name not in tensors:
            owner = model.get_submodule(name.rpartition(".")[0])
            weight: Any = owner.weight
            owner.bias = nn.Parameter(moved.to(weight), requires_grad=weight.requires_grad)
        else:
            tensor = tensors[name]
            tensor.data = (tensor.data.double() + moved.to(tensor.device)).to(tensor.dtype)


def _sliced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    new = tensor.data
    for dim, indices in kept.items():
        new = new.index_select(dim, indices.to(new.device))
    new = new.contiguous()
    if not isinstance(tensor, nn.Parameter):
        return new
    parameter = nn.Parameter(new, requires_grad=tensor.requires_grad)
    if tensor.grad is not None:
        parameter.grad = _sliced(tensor.grad, kept)
    return parameter


def _shape(module: nn.Module) -> tuple[int, ...]:
    weight = getattr(module, "weight", None)
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _resize(module: nn.Module, old: tuple[int, ...]) -> None:
    """Set the attributes of torch's own modules to the sizes their weights have now."""
    new = _shape(module)
    if new == old and not isinstance(module, _NormBase):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = new
    elif isinstance(module, _ConvTransposeNd):
        module.groups = new[0] if module.groups == old[0] > 1 else module.groups
        module.in_channels, module.out_channels = new[0], new[1] * module.groups
    elif isinstance(module, _ConvNd):
        if module.groups == module.in_channels > 1:
            module.groups = new[0] // (old[0] // module.groups)
        module.out_channels, module.in_channels = new[0], new[1] * module.groups
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = new[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = new[0]
    elif isinstance(module, _NormBase):
        sized = module.weight if module.weight is not None else module.running_mean
        module.num_features = module.num_features if sized is None else len(sized)
    elif type(module).__name__ == "Conv1D" and {"nf", "nx"} <= vars(module).keys():
        module.nx, module.nf = new  # type: ignore[assignment]


def _candidates(model: nn.Module, size: Size, units: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that may hold a number, with what they would become."""
    new = size.left(units)
    if new == size.old:
        return
    if size.attribute:
        yield size.attribute, new
        return
    module = model.get_submodule(size.module)
    for name, value in vars(module).items():
        if type(value) is int and value == size.old and not name.startswith("_"):
            yield name, new
        elif isinstance(module, nn.Unflatten) and name == "unflattened_size":
            yield name, tuple(new if each == size.old else each for each in value)


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """Raise :class:`BadTargetError` for an optimizer that trains nothing of a model."""
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise BadTargetError(
            f"the optimizer trains no parameter of this {type(model).__name__}; give the one that does"
        )


def cut_optimizer(optimizer: Optimizer, before: nn.Module, after: nn.Module, kept: Kept) -> None:
    """Point an optimizer at the parameters of a smaller model and cut its state along.

    A state tensor that is shaped like its parameter is cut as the parameter is, also one with a 1 for a whole axis;
    anything else is left as it is. A bias that was made takes the options of its weight's group, and starts without
    state; Muon, which trains matrices only, leaves it, and is said to. LBFGS starts afresh.
    """
    muon = isinstance(optimizer, getattr(torch.optim, "Muon", ()))
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    names = {id(parameter): name for name, parameter in old.items()}
    for group in optimizer.param_groups:
        members = [names.get(id(parameter)) for parameter in group["params"]]
        made = [f"{name.removesuffix('weight')}bias" for name in members if name and name.endswith("weight")]
        # In place: LBFGS holds on to the list itself.
        group["params"][:] = [new[n] if n else p for n, p in zip(members, group["params"], strict=True)]
        made = [name for name in made if name in new and name not in old]
        if muon and made:
            warnings.warn(
                f"Muon trains matrices only: let another optimizer train the new biases {made}",
                SecateurWarning,
                stacklevel=3,
            )
        group["params"] += [] if muon else [new[name] for name in made]
    if isinstance(optimizer, torch.optim.LBFGS):  # its state is flat, over all parameters in a row
        optimizer.state.clear()
        optimizer._numel_cache = None
    for name, parameter in old.items():
        state = optimizer.state.pop(parameter, None)
        if state is not None:
            optimizer.state[new[name]] = {
                key: _cut_state(value, parameter, kept.get(name, {})) for key, value in state.items()
            }


def _cut_state(value: Any, parameter: Tensor, kept: Mapping[int, Tensor]) -> Any:
    if not isinstance(value, Tensor) or not value.ndim or value.ndim != parameter.ndim:
        return value
    same = [one == other for one, other in zip(value.shape, parameter.shape, strict=True)]
    if not all(each or size == 1 for each, size in zip(same, value.shape, strict=True)):
        return value
    return _sliced(value, {dim: indices for dim, indices in kept.items() if same[dim]})
