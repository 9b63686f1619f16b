"""A run: a folder that holds one experiment from its settings to its report, and can always go on."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import secateur as sc
from secateur.files import read_json, write_json
from secateur.lab import checkpoint, methods, models
from secateur.lab.bench import Bench, Outcome
from secateur.lab.data import Dataset, load
from secateur.lab.environment import environment
from secateur.lab.journal import Journal
from secateur.lab.settings import Settings, read_settings, write_settings
from secateur.lab.training import evaluate
from secateur.vocabulary import CorruptFileError, MissingExtraError, SecateurError

__all__ = ["Options", "RunFolderError", "read_result", "run", "train_dense"]


class RunFolderError(SecateurError):
    """A run folder is in use, or was made by other settings."""


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: nothing here changes a result.

    Attributes:
        data_dir: folder with data sets.
        again: throw away what is in the run folder and start over.
        events: write TensorBoard events.
        bar: show a progress bar.
        dense: folder for the dense phases, when several runs share them.
    """

    data_dir: Path | None = None
    again: bool = False
    events: bool = False
    bar: bool = False
    dense: Path | None = None


def run(settings: Settings, folder: Path, options: Options = Options()) -> dict[str, Any]:
    """Train, prune, retrain and measure; return the result, which is also in ``result.json``.

    A folder that holds a finished run of the same settings is not run again; one that holds a part of it goes on
    from its last epoch and ends with the same numbers.

    Raises:
        LabError: a name or a value is wrong.
        RunFolderError: the folder was made by other settings, or another process works in it.
        CorruptFileError: a data or checkpoint file is damaged.
    """
    method = methods.find(settings.method)
    _claim(folder, settings, options.again)
    with _locked(folder):
        if (folder / "result.json").exists():
            return read_result(folder)
        with _torch_set_up(settings.threads), Journal(folder, options.events, options.bar).open() as journal:
            bench = _bench(settings, folder, options, journal)
            write_settings(folder / "config.toml", settings, f"secateur {sc.__version__}; run again with --config")
            outcomes = _phases(bench, method, options.dense or folder / "phases")
            result = _result(bench, outcomes, folder.name)
        write_json(folder / "result.json", result)
        return result


def read_result(folder: Path) -> dict[str, Any]:
    """Read the result of a finished run.

    Raises:
        CorruptFileError: the file is damaged or holds something else.
    """
    result = read_json(folder / "result.json")
    if not isinstance(result, dict) or result.get("kind") != "run" or "measure" not in result:
        raise CorruptFileError(f"{folder / 'result.json'} holds no result of a run; start over with --again")
    return result


def train_dense(settings: Settings, folder: Path, options: Options = Options()) -> None:
    """Train only the dense network and its reference into ``folder``, for the runs that share them."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), _torch_set_up(settings.threads), Journal(folder).open() as journal:
        bench = _bench(settings, folder, options, journal)
        _dense(bench, folder)


@dataclass(frozen=True)
class _Phase:
    """The best state a phase left, to be tested at the very end."""

    outcome: Outcome
    state: dict[str, torch.Tensor]


def _phases(bench: Bench, method: str, dense_folder: Path) -> dict[str, _Phase]:
    dense, longer = _dense(bench, dense_folder)
    bench.restore(dense.state)
    methods.TABLE[method](bench)
    pruned = _Phase(bench.last, checkpoint.snapshot(bench.model))
    return {"dense": dense, "pruned": pruned} | ({"dense_longer": longer} if longer else {})


def _dense(bench: Bench, folder: Path) -> tuple[_Phase, _Phase | None]:
    """Train the network to be pruned, and go on with a copy for as long as pruning takes: the fair reference."""
    settings = bench.settings
    outcome = bench.phase("dense", settings.epochs, folder=folder)
    dense = _Phase(outcome, checkpoint.snapshot(bench.model))
    if not settings.prune_epochs:
        return dense, None
    outcome = bench.phase("dense-longer", settings.prune_epochs, folder=folder)
    return dense, _Phase(outcome, checkpoint.snapshot(bench.model))


def _bench(settings: Settings, folder: Path, options: Options, journal: Journal) -> Bench:
    smallest = models.smallest(settings.model)
    data = load(settings.data, options.data_dir, seed=settings.seed, validation=settings.validation, smallest=smallest)
    torch.manual_seed(settings.seed)
    model = models.build(settings.model, data.shape, data.classes)
    return Bench(settings, model, data, folder / "phases", journal)


def _result(bench: Bench, phases: dict[str, _Phase], name: str) -> dict[str, Any]:
    """Measure and test; the only place that looks at the test set."""
    settings, masks = bench.settings, bench.masks
    accuracy: dict[str, Any] = {}
    reports: dict[str, sc.Report] = {}
    nets: list[nn.Module] = []
    trained = {"dense": 0, "dense_longer": settings.prune_epochs, "pruned": settings.prune_epochs}
    example = bench.data.test.images[:1]
    for key, phase in phases.items():
        bench.restore(phase.state)
        accuracy[key] = {
            "validation": phase.outcome.validation,
            "test": evaluate(bench.model, bench.data.test).accuracy,
            "epochs": settings.epochs + trained[key],
            "best_epoch": phase.outcome.best_epoch,
        }
        if key != "dense_longer":
            asked = (masks, settings.sparsity) if key == "pruned" else (None, None)
            reports[key] = sc.measure(bench.model, example, masks=asked[0], target_sparsity=asked[1], timing=None)
            nets.append(copy.deepcopy(bench.model).eval())
    with torch.inference_mode():
        times = sc.latencies([partial(net, example) for net in nets], sc.Timing(warmup=20, repeats=100))
    measured = {
        key: dataclasses.replace(report, latency=time).to_json()
        for (key, report), time in zip(reports.items(), times, strict=True)
    }
    return {
        "format": 1,
        "kind": "run",
        "name": name,
        "settings": settings.as_dict(),
        "command": settings.command(),
        "environment": environment(),
        "data": _describe(bench.data),
        "method": {"name": settings.method, "summary": methods.summary(methods.find(settings.method))},
        "accuracy": accuracy,
        "measure": measured,
        "seconds": {key: round(phase.outcome.seconds, 2) for key, phase in phases.items()},
        "warnings": bench.notes,
    }


def _describe(data: Dataset) -> dict[str, Any]:
    return {
        "name": data.name,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "shape": list(data.shape),
        "classes": data.classes,
        "notes": list(data.notes),
    }


def _claim(folder: Path, settings: Settings, again: bool) -> None:
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
        with _locked(folder):
            for path in folder.iterdir():
                if path.name != ".lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


_OURS = {".lock", "metrics.jsonl", "phases", "tensorboard"}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
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


@contextlib.contextmanager
def _torch_set_up(threads: int) -> Iterator[None]:
    """Fix what makes numbers repeat, and flush denormals: pruned training makes many, and they are slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
