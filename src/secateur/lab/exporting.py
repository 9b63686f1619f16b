"""A finished run's network, or a file's, built again and written for other runtimes, as it is or without dead units."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import secateur as sc
from secateur.lab.data import LabError
from secateur.lab.destinations import destination
from secateur.lab.networks import Made, network
from secateur.lab.shrinking import NONE_DEAD, shrunk_or_why

if TYPE_CHECKING:
    from secateur.integrations.onnx import Export

__all__ = ["ShrunkExport", "export", "export_shrunk"]


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
        LabError: there is no finished run, the network of a file is not named or another, a model's code cannot be
            imported, or ``out`` is what is read.
        CorruptFileError: a file is damaged, or the model's code has changed.
        ExportError: the network cannot be exported, or ONNX Runtime disagrees with torch; nothing is written then.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        OSError: ``out`` cannot be written.
    """
    out = destination(out, _beside(path, "model", ".onnx"), path)
    model, images = network(path, made)
    from secateur.integrations import onnx

    return onnx.export(model, images, out)


def export_shrunk(path: Path, out: Path | None = None, made: Made | None = None) -> ShrunkExport:
    """Export a network as :func:`export` does, without its dead units; ``out`` is ``shrunk.onnx`` if left out.

    Raises:
        LabError: as :func:`export`, or no unit is dead.
    """
    out = destination(out, _beside(path, "shrunk", ".shrunk.onnx"), path)
    model, images = network(path, made)
    small, why = shrunk_or_why(model, images)
    record = None if small is None else sc.shrinkage(small)
    if small is None or record is None:
        already = ", or it has been shrunk already" if why == NONE_DEAD else ""
        raise LabError(f"no unit of the network in {path} can go: {why}{already}; leave --shrunk out")
    from secateur.integrations import onnx

    done = onnx.export(small, images, out)
    with tempfile.TemporaryDirectory() as folder:
        whole = onnx.export(model, images, Path(folder) / "whole.onnx")
    return ShrunkExport(done, whole, record.parameters)


def _beside(path: Path, name: str, suffix: str) -> Path:
    return path.with_suffix(suffix) if path.is_file() else path / f"{name}.onnx"
