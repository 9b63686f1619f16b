"""Keras files on the command line: what is in them, packed, shrunk, and measured for a page."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import secateur as sc
from secateur.files import replacing
from secateur.lab.data import LabError
from secateur.lab.destinations import destination
from secateur.lab.environment import environment
from secateur.lab.shrinking import describe
from secateur.vocabulary import CorruptFileError, SecateurWarning, first_line

__all__ = ["examine", "is_keras", "load", "measured", "pack", "save", "shrink"]


def is_keras(path: Path) -> bool:
    """Say if a path is that of a Keras model rather than of anything else the commands take."""
    return path.suffix == ".keras" and not path.is_dir()


def load(path: Path) -> Any:
    """Load a Keras model, without the optimizer it may have been saved with; torch is the backend if none is chosen.

    Raises:
        LabError: there is no such file, or the model needs classes of the user's.
        CorruptFileError: the file is damaged.
        MissingExtraError: Keras is not installed.
    """
    if not path.is_file():
        raise LabError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise CorruptFileError(f"{path} is no Keras file, or it is damaged")
    _adapter()
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (zipfile.BadZipFile, OSError, KeyError, EOFError) as error:
        raise CorruptFileError(f"{path} is no Keras file, or it is damaged: {error}") from error
    except (ValueError, TypeError) as error:
        raise LabError(
            f"{path} cannot be loaded: {first_line(error)} A model with classes of your own goes through "
            "secateur.integrations.keras, in a script that knows them"
        ) from error


def measured(path: Path) -> sc.Report:
    """Return what is in a Keras file: sparsity by layer, bytes."""
    report: sc.Report = _adapter().measure(load(path))
    return report


def pack(path: Path, bits: int | None = None, out: Path | None = None) -> sc.Packed:
    """Pack the weights of a Keras file; return what was written.

    Args:
        path: of the model.
        bits: of a codebook for each layer; lossless if None.
        out: file to write; beside the model if left out.
    """
    out = destination(out, path.with_suffix(".sct"), path)
    packed: sc.Packed = _adapter().pack(load(path), out, bits=bits)
    return packed


def shrink(path: Path, out: Path | None = None) -> tuple[sc.Shrinkage, Path]:
    """Delete the dead units of a Keras model; write what is left as a Keras file, and return the record and its path.

    Args:
        path: of the model.
        out: file to write; ``NAME.shrunk.keras`` beside the model if left out.

    Raises:
        LabError: nothing of the model is dead, or the file to write has another ending.
        BadTargetError: the model cannot be made smaller; the text says why.
    """
    out = destination(out, path.with_suffix(".shrunk.keras"), path)
    if out.suffix != ".keras":
        raise LabError(f"a shrunk Keras model is written as .keras, not {out.suffix or out.name!r}")
    small = _shrunk(load(path))
    if small is None:
        raise LabError(f"no unit of {path} is dead: every neuron and filter still has weights")
    save(small, out)
    record = sc.shrinkage(small)
    assert record is not None
    return record, out


def save(model: Any, path: Path) -> None:
    """Write a Keras file in one step: what was there before stays until the new one is whole."""
    with replacing(path) as file, tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.keras"
        model.save(made)
        file.write(made.read_bytes())


def examine(path: Path, timing: sc.Timing | None = sc.Timing()) -> dict[str, Any]:  # noqa: B008 - a frozen value
    """Measure a Keras model as it is and, if units of it are dead, without them; return what its page shows.

    Args:
        path: of the model; its inputs must have known shapes. They are fed noise, one example at a time.
        timing: how to time, or None not to.
    """
    sk, model = _adapter(), load(path)
    one = sk.example_for(model, batch=1)
    nets = {"pruned": model}
    small = _shrunk(model)
    if small is not None:
        nets["shrunk"] = small
    import keras

    return {
        "name": path.name,
        "measure": {name: sk.measure(net, one, timing=timing).to_json() for name, net in nets.items()},
        "file": {name: _file_size(net) for name, net in nets.items()},
        "facts": {} if small is None else {"shrunk": describe(small)},
        "environment": {"keras": keras.__version__, "backend": keras.backend.backend(), **environment()},
    }


def _adapter() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # asked for when Keras is imported first
    from secateur.integrations import keras as sk

    return sk


def _shrunk(model: Any) -> Any:
    """Return the model without its dead units, or None if there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecateurWarning)
        small = _adapter().shrink(model)
    record = sc.shrinkage(small)
    return small if record is not None and record.parameters[1] < record.parameters[0] else None


def _file_size(model: Any) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.stat().st_size
