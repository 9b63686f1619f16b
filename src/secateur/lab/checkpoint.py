"""The state of a phase on disk: one safetensors file, so that nothing is ever unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur as sc
from secateur.files import read_tensors, write_tensors
from secateur.vocabulary import CorruptFileError

__all__ = ["State", "load", "optimizer_tensors", "restore_optimizer", "save", "snapshot"]


@dataclass
class State:
    """Named groups of tensors (model, optimizer, masks, shadow, best) and plain values."""

    groups: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def save(path: Path, state: State) -> None:
    """Write a state atomically."""
    tensors = {f"{group}/{name}": t for group, members in state.groups.items() for name, t in members.items()}
    write_tensors(path, tensors, {"format": "secateur-checkpoint", "version": "1", "values": json.dumps(state.values)})


def load(path: Path) -> State:
    """Read a state written by :func:`save`.

    Raises:
        CorruptFileError: the file is damaged or not a checkpoint of this version.
    """
    try:
        tensors, metadata = read_tensors(path)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; remove it to start this phase again") from error
    if metadata.get("format") != "secateur-checkpoint" or metadata.get("version") != "1":
        raise CorruptFileError(f"{path} is not a checkpoint of version 1; remove it to start this phase again")
    try:
        state = State(values=json.loads(metadata["values"]))
    except (KeyError, ValueError) as error:
        raise CorruptFileError(f"{path} lacks its values ({error}); remove it to start this phase again") from error
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        state.groups.setdefault(group, {})[name] = tensor
    return state


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as flat named tensors (rates are set anew at every step)."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{key}": torch.as_tensor(value).clone() for i, s in state.items() for key, value in s.items()}


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` returned."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        parameter = parameters[int(index)]
        # A file keeps no strides, and fused optimizers go through moments in the parameter's order of memory.
        moments = tensor.shape == parameter.shape
        laid = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if moments else tensor
        state.setdefault(int(index), {})[name] = laid
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def pruner_state(state: State) -> dict[str, Any]:
    """Return what :meth:`secateur.Pruner.load_state_dict` takes."""
    masks, shadow = state.groups.get("masks", {}), state.groups.get("shadow", {})
    return {"step": state.values["pruner_step"], "sparsity": state.values["sparsity"], "masks": masks, "shadow": shadow}


def add_pruner(state: State, pruner: sc.Pruner) -> None:
    """Put a pruner into a state."""
    own = pruner.state_dict()
    state.groups |= {"masks": own["masks"], "shadow": own["shadow"]}
    state.values |= {"pruner_step": own["step"], "sparsity": own["sparsity"]}
