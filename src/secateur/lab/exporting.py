"""A finished run's network, or a file's, built again and written for other runtimes, as it is or without dead units."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import secateur as sc
from secateur.files import read_tensors
from secateur.lab import models, runs
from secateur.lab.data import LabError
from secateur.lab.settings import Settings, read_settings
from secateur.lab.shrinking import shrunk
from secateur.vocabulary import CorruptFileError

if TYPE_CHECKING:
    from secateur.integrations.onnx import Export
    from secateur.lab.packing import Made

__all__ = ["ShrunkExport", "export", "export_shrunk", "load_network"]


@dataclass(frozen=True)
class ShrunkExport:
    """An export of a network without its dead units, beside what the whole one would have come to; ``print`` it.

    Attributes:
        small: what was written.
        whole: the same of the network with its dead units, which was not kept.
        parameters: of the whole network and of the small one.
    """

    small: Export
    whole: Export
    parameters: tuple[int, int]

    def __str__(self) -> str:
        return (
            f"{self.small}\nwithout its dead units: {self.parameters[1]:,} of {self.parameters[0]:,} parameters; with "
            f"them the file would be {self.whole.bytes:,} bytes instead of {self.small.bytes:,}, gzipped "
            f"{self.whole.gzipped:,} instead of {self.small.gzipped:,}"
        )


def export(path: Path, out: Path | None = None, made: Made | None = None) -> Export:
    """Export the pruned network of a finished run, or of a file, to ONNX; return what was written and how checked.

    The data are not needed: images drawn with mean 0 and deviation 1, as training has them, do for the check.

    Args:
        path: of the run's folder, or of a packed or safetensors file.
        out: file to write; ``model.onnx`` in the folder, or beside the file under its name, if left out.
        made: how the network of a file is made; a run knows by itself.

    Raises:
        LabError: there is no finished run, the network of a file is not named or another, or a model's code cannot be
            imported.
        CorruptFileError: a file is damaged, or the model's code has changed.
        ExportError: the network cannot be exported, or ONNX Runtime disagrees with torch; nothing is written then.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        OSError: ``out`` cannot be written.
    """
    model, images = _network(path, made)
    from secateur.integrations import onnx

    return onnx.export(model, images, out or _beside(path, "model", ".onnx"))


def export_shrunk(path: Path, out: Path | None = None, made: Made | None = None) -> ShrunkExport:
    """Export a network as :func:`export` does, without its dead units; ``out`` is ``shrunk.onnx`` if left out.

    Raises:
        LabError: as :func:`export`, or no unit is dead.
    """
    model, images = _network(path, made)
    small = shrunk(model, images)
    record = None if small is None else sc.shrinkage(small)
    if small is None or record is None:
        raise LabError(
            f"no unit of the network in {path} is dead: every row and column still has weights, or it has been shrunk "
            "already; leave --shrunk out"
        )
    from secateur.integrations import onnx

    done = onnx.export(small, images, out or _beside(path, "shrunk", ".shrunk.onnx"))
    with tempfile.TemporaryDirectory() as folder:
        whole = onnx.export(model, images, Path(folder) / "whole.onnx")
    return ShrunkExport(done, whole, record.parameters)


def _network(path: Path, made: Made | None) -> tuple[nn.Module, torch.Tensor]:
    """Return a network, and images of the shape that it takes."""
    if path.is_file():
        from secateur.lab.packing import network_of

        model, shape = network_of(path, made)
    elif made is not None and made.model:
        raise LabError(f"the run in {path} knows its network: leave --model out")
    else:
        model, shape = load_network(path)
    return model, torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _beside(path: Path, name: str, suffix: str) -> Path:
    return path.with_suffix(suffix) if path.is_file() else path / f"{name}.onnx"


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
