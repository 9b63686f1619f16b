"""Folders of runs and sweeps: who may work in one, and what made what is in it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from secateur.lab.data.lookup import LabError
from secateur.lab.settings import Settings, read_settings, write_settings
from secateur.vocabulary import MissingExtraError, SecateurError

__all__ = ["ENGINE", "RunFolderError", "claim", "claim_dense", "claim_sweep", "locked"]

ENGINE = "engine.sct"


class RunFolderError(SecateurError):
    """A run folder is in use, or was made by other settings."""


# What a run writes before its settings, or leaves when it is stopped while it starts over.
_LEFT = {".lock", "masks.safetensors", "metrics.jsonl", "model.safetensors", "phases", "tensorboard"}
_LEFT |= {"model.sct", "quantized.sct", "shrunk.sct", ENGINE}
# What a run and the commands that go on from it write: all that starting over may delete.
_OURS = _LEFT | {"config.toml", "result.json", "report.html", "model.onnx", "shrunk.onnx", "model.unpacked.safetensors"}
_OURS |= {f"model-{bits}bits.sct" for bits in range(1, 9)}
_OF_SWEEPS = {"cells", "dense", "sweep.json"}


def claim(folder: Path, settings: Settings, again: bool) -> None:
    """Make the run folder, or check that the one there is this run's.

    Raises:
        RunFolderError: it is another run's or a sweep's, or no run folder at all.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found := names & _OF_SWEEPS:
        raise RunFolderError(f"{folder} holds a sweep ({', '.join(sorted(found))}); choose another --out")
    if "config.toml" in names:
        different = settings.differences(_settings_in(folder))
        if different and not again:
            raise RunFolderError(
                f"{folder} holds a run with other settings ({'; '.join(different)}); choose another --out, or start "
                "it over with --again"
            )
    elif not names <= _LEFT:
        raise RunFolderError(f"{folder} is not empty and is no run folder; choose another --out")
    if names and (again or "config.toml" not in names):
        with locked(folder):
            # Settings go before the rest of what may be left, after all else: stopped at any point, it can go on.
            for name in sorted(names & _OURS - {".lock"}, key=lambda name: (name in _LEFT, name == "config.toml")):
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def claim_sweep(folder: Path, shared: Settings) -> None:
    """Make the sweep folder, or check that the one there is this sweep's.

    Args:
        folder: of the sweep.
        shared: the settings that all its cells share; their methods, sparsities and seeds may grow.

    Raises:
        RunFolderError: it is another sweep's or a run's, or no sweep folder at all.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "metrics.jsonl" in names:
        raise RunFolderError(f"{folder} holds a run; choose another --out")
    if "config.toml" in names:
        own = {name: getattr(shared, name) for name in ("method", "sparsity", "seed")}
        if different := shared.differences(dataclasses.replace(_settings_in(folder), **own)):
            raise RunFolderError(
                f"{folder} holds a sweep with other settings ({'; '.join(different)}); choose another --out"
            )
    elif names - {"dense", ".lock"}:  # another sweep may have made those
        raise RunFolderError(f"{folder} is not empty and is no sweep folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder / "config.toml", shared, "the settings that all cells of this sweep share")


def _settings_in(folder: Path) -> Settings:
    try:
        return Settings(**read_settings(folder / "config.toml"))
    except LabError as error:
        raise RunFolderError(f"{folder} holds no settings of ours ({error}); choose another --out") from error


def claim_dense(folder: Path, phase: str, settings: Settings) -> None:
    """Write beside a dense net what it is trained with; of one that is there, check that it was trained alike.

    Raises:
        RunFolderError: it was trained otherwise, or nothing tells how.
    """
    config = folder / f"{phase}.toml"
    if config.exists():
        mine, theirs = (_of_dense(each, phase) for each in (settings, Settings(**read_settings(config))))
        if different := mine.differences(theirs):
            raise RunFolderError(
                f"{folder} holds a dense net of other settings ({'; '.join(different)}); choose another folder"
            )
    elif any(folder.glob(f"{phase}.*")):
        raise RunFolderError(f"{folder} holds a dense net, and nothing tells how it was trained; choose another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_settings(config, settings, f"what {phase}.safetensors was trained with")


def _of_dense(settings: Settings, phase: str) -> Settings:
    """Return the settings that dense training depends on, the others at their defaults."""
    training = {each.name for each in dataclasses.fields(Settings) if each.metadata.get("group") == "training"}
    matter = training | {"data", "model", "seed", "validation"}
    if phase == "dense":  # what comes after it does not matter yet
        matter -= {"prune_epochs"}
    if settings.l1 or settings.l2:  # which are of the targets
        matter |= {"include", "ignore", "biases"}
    return Settings(**{name: getattr(settings, name) for name in matter})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Refuse a second process in the same folder."""
    try:
        import filelock
    except ImportError as error:
        raise MissingExtraError("runs need filelock: pip install 'secateur[lab]'") from error
    lock = filelock.FileLock(folder / ".lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except filelock.Timeout as error:
        raise RunFolderError(f"another process is working in {folder}; wait for it or choose another --out") from error
