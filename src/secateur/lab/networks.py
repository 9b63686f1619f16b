"""The network of a finished run, or of a file with its tensors, built again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import secateur as sc
from secateur.files import read_tensors
from secateur.lab import models, runs
from secateur.lab.data import LabError
from secateur.lab.settings import Settings, read_settings
from secateur.vocabulary import BadTargetError, CorruptFileError

__all__ = ["Made", "check_file", "load_network", "network", "network_of"]


@dataclass(frozen=True)
class Made:
    """How a network is made whose tensors alone are in a file: its name, the shape (C, H, W) of its images, classes."""

    model: str
    shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10


def network(path: Path, made: Made | None) -> tuple[nn.Module, torch.Tensor]:
    """Return the network of a run or a file, in eval mode, and two images drawn in the shape that it takes.

    Args:
        path: of a finished run's folder, or of a packed or safetensors file.
        made: how the network of a file is made; a run knows by itself.

    Raises:
        LabError: there is no such file, no finished run, the network of a file is not named or another, or that
            of a run is named.
        CorruptFileError: a file is damaged, or the model's code has changed.
    """
    if not path.is_dir():
        model, shape = network_of(path, made)
    elif made is not None and made.model:
        raise LabError(f"the run in {path} knows its network: leave --model out")
    else:
        model, shape = load_network(path)
    return model, torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def network_of(path: Path, made: Made | None) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the network whose tensors are in a file, in eval mode, and the shape of its images.

    Args:
        path: of a packed or a safetensors file.
        made: how the network is made.

    Raises:
        LabError: there is no such file, or its network is not named or another.
        CorruptFileError: the file is damaged.
    """
    check_file(path)
    if made is None or not made.model:
        raise LabError(f"{path} holds tensors alone: name their network too, as in --model lenet-5 --shape 1,28,28")
    model = models.build(made.model, made.shape, made.classes)
    try:
        tensors, metadata = read_tensors(path)
        if "sct" in metadata:
            return sc.unpack(path, into=model).eval(), made.shape
        # What safetensors' save_model leaves out of tied tensors, its metadata names.
        tied = {name: tensors[other] for name, other in metadata.items() if other in tensors}
        model.load_state_dict({**tied, **tensors})
    except (RuntimeError, BadTargetError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise LabError(f"{path} does not fit {made.model} of {made.classes} classes: {reason}") from error
    return model.eval(), made.shape


def check_file(path: Path) -> None:
    """Raise :class:`LabError` where there is no file."""
    if not path.is_file():
        raise LabError(f"there is no file {path}; name a packed or a safetensors file, or the folder of a finished run")


def load_network(folder: Path) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the pruned network of a finished run, in eval mode, and the shape (C, H, W) of its images.

    Raises:
        LabError: there is no finished run, or its model's code cannot be imported.
        CorruptFileError: a file of the run is damaged, or the model's code has changed.
    """
    settings, weights = _finished(folder), folder / "model.safetensors"
    result = runs.read_result(folder)
    try:
        channels, height, width = result["data"]["shape"]
        classes, factor = result["data"]["classes"], result["facts"].get("width", 1.0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(
            f"{folder / 'result.json'} does not describe its data; {_anew(settings, folder)}"
        ) from error
    shape = channels, height, width
    model = models.build(settings.model, shape, classes, dropout=settings.dropout, width=factor)
    state, _ = read_tensors(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptFileError(
            f"{weights} does not fit the model {settings.model}: either has changed since the run "
            f"({str(error).splitlines()[-1].strip()}); {_anew(settings, folder)}"
        ) from error
    return model.eval(), shape


def _finished(folder: Path) -> Settings:
    """Return the settings of a run that has all of its files."""
    if (folder / "cells").is_dir():
        raise LabError(f"{folder} holds a sweep; name the folder of one of its runs, in {folder / 'cells'}")
    if not (folder / "config.toml").exists():
        raise LabError(f"{folder} holds no run (no config.toml in it); name the folder of a finished one")
    settings = Settings(**read_settings(folder / "config.toml"))
    if not (folder / "result.json").exists():
        raise LabError(f"the run in {folder} is not finished; go on with: {_command(settings, folder)}")
    if not (folder / "model.safetensors").exists():
        raise LabError(f"{folder} has lost its model.safetensors; {_anew(settings, folder)}")
    return settings


def _command(settings: Settings, folder: Path) -> str:
    return f"{settings.command()} --out {shlex.quote(str(folder))}"


def _anew(settings: Settings, folder: Path) -> str:
    return f"run it anew with: {_command(settings, folder)} --again"
