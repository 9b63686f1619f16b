"""A finished run's network, built again from its folder and written for other runtimes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from secateur.files import read_tensors
from secateur.lab import models, runs
from secateur.lab.data import LabError
from secateur.lab.settings import Settings, read_settings
from secateur.vocabulary import CorruptFileError

if TYPE_CHECKING:
    from secateur.integrations.onnx import Export

__all__ = ["export", "load_network"]


def export(folder: Path, out: Path | None = None) -> Export:
    """Export the pruned network of a finished run to ONNX; return what was written and how it was checked.

    The data are not needed: images drawn with mean 0 and deviation 1, as training has them, do for the check.

    Args:
        folder: of the run.
        out: file to write; ``model.onnx`` in the folder if left out.

    Raises:
        LabError: there is no finished run, or its model's code cannot be imported.
        CorruptFileError: a file of the run is damaged, or the model's code has changed.
        ExportError: the network cannot be exported, or ONNX Runtime disagrees with torch; nothing is written then.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        OSError: ``out`` cannot be written.
    """
    model, shape = load_network(folder)
    from secateur.integrations import onnx

    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return onnx.export(model, images, out or folder / "model.onnx")


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
    if not folder.is_dir():
        raise LabError(f"there is no folder {folder}; name that of a finished run, such as those in runs/")
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
