"""Packing, unpacking and shrinking from the command line: run folders and safetensors files, and what they become."""

from __future__ import annotations

from pathlib import Path

import secateur as sc
from secateur.files import read_tensors, write_tensors
from secateur.lab.data import LabError
from secateur.lab.destinations import destination
from secateur.lab.networks import Made, check_file, load_network, network
from secateur.lab.shrinking import NONE_DEAD, shrunk_or_why
from secateur.vocabulary import SecateurError

__all__ = ["pack", "shrink", "unpack"]


def pack(path: Path, bits: int | None = None, out: Path | None = None) -> sc.Packed:
    """Pack the pruned network of a finished run, or a safetensors file; return what was written.

    Args:
        path: a run folder or a file.
        bits: of a codebook for each weight tensor; lossless if None.
        out: file to write; if left out ``model.sct`` in the run folder, with bits ``model-5bits.sct`` or so, for that
            one is lossless; or NAME.sct beside the file.

    Raises:
        LabError: there is nothing at ``path``, no finished run, or ``out`` is what is read.
        CorruptFileError: a file is damaged.
        OSError: ``out`` cannot be written.
    """
    if path.is_dir():
        model, _ = load_network(path)
        name = "model.sct" if bits is None else f"model-{bits}bits.sct"
        return sc.pack(model, destination(out, path / name, path), bits=bits)
    check_file(path)
    tensors, metadata = read_tensors(path)
    if "sct" in metadata:
        raise LabError(f"{path} is packed already; `secateur inspect {path}` shows what is in it")
    out = destination(out, path.with_suffix(".sct"), path)
    try:
        return sc.pack(tensors, out, bits=bits, metadata=metadata)
    except SecateurError:
        raise
    except ValueError as error:  # of its metadata
        raise LabError(f"{path} cannot be packed: {error}") from error


def unpack(path: Path, out: Path | None = None) -> Path:
    """Write the tensors of a packed file as plain safetensors, zeros filled in; return where.

    Args:
        path: a packed file, or a run folder with ``model.sct`` in it.
        out: file to write; ``NAME.unpacked.safetensors`` beside the packed one if left out.

    Raises:
        LabError: there is no such file, or ``out`` is that file.
        CorruptFileError: the file is damaged.
        OSError: ``out`` cannot be written.
    """
    path = path / "model.sct" if path.is_dir() else path
    check_file(path)
    out = destination(out, path.with_suffix(".unpacked.safetensors"), path)
    write_tensors(out, sc.unpack(path), {"format": "pt", **sc.read_index(path).metadata})
    return out


def shrink(path: Path, out: Path | None = None, made: Made | None = None) -> tuple[sc.Shrinkage, Path]:
    """Delete the dead units of a network and write what is left; return the record and the file.

    Args:
        path: of a finished run's folder, or a file of tensors, packed or safetensors.
        out: file to write: packed, with the manifest that makes a whole model as small, or plain safetensors if it
            ends so; ``shrunk.sct`` in the folder, or beside the file, if left out.
        made: how the network of a file is made; a run knows by itself.

    Raises:
        LabError: there is nothing at ``path``, no finished run, nothing of its network is dead, or the model of a file
            is not named or another, that of a run is named, or ``out`` is what is read.
        CorruptFileError: a file is damaged.
        OSError: ``out`` cannot be written.
    """
    beside = path / "shrunk.sct" if path.is_dir() else path.with_suffix(".shrunk.sct")
    out = destination(out, beside, path)
    model, images = network(path, made)
    small, why = shrunk_or_why(model, images)
    if small is None:
        leave = "; neurons, three-step and very high sparsities leave such units" if why == NONE_DEAD else ""
        raise LabError(f"no unit of the network in {path} can go: {why}{leave}")
    record = sc.shrinkage(small)
    assert record is not None
    if out.suffix == ".safetensors":
        write_tensors(out, small.state_dict(), {"format": "pt"})
    else:
        sc.pack(small, out)
    return record, out
