"""Run folders: who may work in one, and what made what is in it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from secateur.lab.settings import Settings, read_settings, write_settings
from secateur.vocabulary import MissingExtraError, SecateurError

__all__ = ["ENGINE", "RunFolderError", "claim", "claim_dense", "locked"]

ENGINE = "engine.sct"


class RunFolderError(SecateurError):
    """A run folder is in use, or was made by other settings."""


_OURS = {".lock", "masks.safetensors", "metrics.jsonl", "model.safetensors", "phases", "tensorboard"}
_OURS |= {"model.sct", "quantized.sct", "shrunk.sct", ENGINE}


def claim(folder: Path, settings: Settings, again: bool) -> None:
    """Make the run folder, or check that the one there is this run's."""
    config = folder / "config.toml"
    if config.exists() and not again:
        there = Settings(**read_settings(config))
        different = settings.differences(there)
        if different:
            raise RunFolderError(
                f"{folder} holds a run with other settings ({'; '.join(different)}); choose another --out, or start "
                "it over with --again"
            )
    elif folder.exists() and any(folder.iterdir()):
        if not (config.exists() or {path.name for path in folder.iterdir()} <= _OURS):
            raise RunFolderError(f"{folder} is not empty and is no run folder; choose another --out")
        with locked(folder):
            for path in folder.iterdir():
                if path.name != ".lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


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
