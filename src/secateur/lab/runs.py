"""A run: a folder that holds one experiment from its settings to its report, and can always go on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import secateur as sc
from secateur.files import read_json, write_json, write_tensors
from secateur.lab import controls, methods, models, search
from secateur.lab.bench import Bench, Outcome
from secateur.lab.data import Dataset, Split, load
from secateur.lab.engines import compile_and_time
from secateur.lab.environment import environment
from secateur.lab.folders import ENGINE, RunFolderError, claim, claim_dense, locked
from secateur.lab.journal import Journal
from secateur.lab.methods import checks
from secateur.lab.methods.heeds import unheeded
from secateur.lab.phase import noting
from secateur.lab.quantizing import quantize
from secateur.lab.settings import Settings, write_settings
from secateur.lab.shrinking import describe, shrunk
from secateur.lab.tested import accuracy_on
from secateur.lab.threads import torch_at
from secateur.vocabulary import CorruptFileError

__all__ = ["Options", "RunFolderError", "read_result", "run", "train_dense"]


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: nothing here changes a result.

    Attributes:
        data_dir: folder with data sets.
        again: throw away what is in the run folder and start over.
        events: write TensorBoard events.
        bar: show a progress bar.
        dense: folder for the dense phases, when several runs share them.
        forms: make and measure the other forms of the pruned network too: with codebooks, shrunk, and compiled.
    """

    data_dir: Path | None = None
    again: bool = False
    events: bool = False
    bar: bool = False
    dense: Path | None = None
    forms: bool = True


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
    claim(folder, settings, options.again)
    with locked(folder):
        if (folder / "result.json").exists():
            return read_result(folder)
        with torch_at(settings.threads), Journal(folder, options.events, options.bar).open() as journal:
            warned: list[str] = []
            with noting(warned.extend):
                bench = _bench(settings, folder, options, journal)
                checks.check(bench)
                write_settings(folder / "config.toml", settings, f"secateur {sc.__version__}; run again with --config")
                nets, bench = _phases(bench, method, options.dense or folder / "phases")
                if settings.bits and options.forms:
                    nets["quantized"] = _quantized(bench, folder)
                if options.forms and (small := shrunk(nets["pruned"].model, bench.data.test.images[:2].cpu())):
                    nets["shrunk"] = dataclasses.replace(nets["pruned"], model=small, masks=None)
                    bench.facts["shrunk"] = describe(small)
            bench.note(warned)
            shared = options.dense / "tested.json" if options.dense else None
            result = _result(bench, nets, folder.name, shared)
            if settings.engine and options.forms:
                images = bench.data.test.images[:2].cpu()
                result["speed"] = compile_and_time({n: net.model for n, net in nets.items()}, images, folder / ENGINE)
            _keep(nets, folder)
        write_json(folder / "result.json", result)
        return result


def read_result(folder: Path) -> dict[str, Any]:
    """Read the result of a finished run.

    Raises:
        CorruptFileError: the file is damaged or holds something else.
    """
    path = folder / "result.json"
    try:
        result = read_json(path)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; make it anew with secateur run --again") from error
    if not isinstance(result, dict) or result.get("kind") != "run" or not result.keys() >= _TOLD:
        raise CorruptFileError(f"{path} holds no result of a run; make it anew with secateur run --again")
    if not all(isinstance(result["measure"].get(net), dict) for net in ("dense", "pruned")):
        raise CorruptFileError(f"{path} lacks what was measured; make it anew with secateur run --again")
    return result


def train_dense(settings: Settings, folder: Path, options: Options = Options()) -> None:
    """Train only the dense network and its reference into ``folder``, for the runs that share them."""
    folder.mkdir(parents=True, exist_ok=True)
    quiet = noting(lambda texts: None)  # each run that takes the net says them
    with locked(folder), torch_at(settings.threads), Journal(folder).open() as journal, quiet:
        _dense(_bench(settings, folder, options, journal), folder)


_TOLD = {"accuracy", "command", "facts", "measure", "name", "settings", "warnings"}


@dataclass(frozen=True)
class _Net:
    """A network as it will be tested and measured at the very end, with what is known of its training."""

    outcome: Outcome
    model: nn.Module
    epochs: float
    seconds: float
    masks: sc.Masks | None = None
    packed: int | None = None


def _net(bench: Bench) -> _Net:
    # Tested and measured on the CPU wherever it was trained; masks are found by name again, on the copy.
    masks = None if bench.masks is None else bench.masks.to("cpu")
    return _Net(bench.last, copy.deepcopy(bench.model).eval().cpu(), bench.trained, bench.seconds, masks)


def _quantized(bench: Bench, folder: Path) -> _Net:
    found = quantize(bench, folder / "quantized.sct")
    return _Net(found.outcome, found.model, found.epochs, found.seconds, packed=found.bytes)


def _phases(bench: Bench, method: str, dense_folder: Path) -> tuple[dict[str, _Net], Bench]:
    """Return the nets to test, and the bench with what is to be told of the pruned one."""
    nets = _dense(bench, dense_folder)
    bench.restore(nets["dense"].model.state_dict())
    bench.last, bench.trained, bench.seconds = nets["dense"].outcome, nets["dense"].epochs, 0.0
    bench.learn_from_here()
    bench.note(unheeded(method, bench.settings))
    bench.remark()
    if bench.settings.max_drop:
        bench = search.highest_sparsity(bench, methods.TABLE[method])
    else:
        methods.TABLE[method](bench)
    controls.TABLE[bench.settings.control](bench)
    return nets | {"pruned": _net(bench)}, bench


def _dense(bench: Bench, folder: Path) -> dict[str, _Net]:
    """Train the network to be pruned, and go on with a copy for as long as pruning takes: the fair reference."""
    settings = bench.settings
    claim_dense(folder, "dense", settings)
    bench.phase("dense", settings.epochs, training=bench.dense_training(), folder=folder)
    nets = {"dense": _net(bench)}
    if settings.prune_epochs:
        claim_dense(folder, "dense-longer", settings)
        bench.seconds = 0.0
        bench.phase("dense-longer", settings.prune_epochs, training=bench.dense_training(), folder=folder)
        nets["dense_longer"] = _net(bench)
    return nets


def _bench(settings: Settings, folder: Path, options: Options, journal: Journal) -> Bench:
    smallest = models.smallest(settings.model)
    data = load(settings.data, options.data_dir, seed=settings.seed, validation=settings.validation, smallest=smallest)
    return Bench(settings, data, folder / "phases", journal)


def _result(bench: Bench, nets: dict[str, _Net], name: str, shared: Path | None) -> dict[str, Any]:
    """Measure and test; the only place that looks at the test set."""
    settings, test = bench.settings, Split(bench.data.test.images.cpu(), bench.data.test.labels.cpu())
    accuracy: dict[str, Any] = {}
    reports: dict[str, sc.Report] = {}
    example = test.images[:1]
    targets = set(bench.targets() if nets["pruned"].masks is None else nets["pruned"].masks)
    for key, net in nets.items():
        if key == "shrunk":  # its outputs were compared: it is no other network
            reports[key] = _of(targets, sc.measure(net.model, example, timing=None))
            continue
        accuracy[key] = {
            "validation": net.outcome.validation,
            "test": accuracy_on(net.model, test, shared if key.startswith("dense") else None, settings.test_precision),
            "epochs": net.epochs,
            "best_epoch": net.outcome.best_epoch,
        }
        if net.packed is not None:
            accuracy[key] |= {"bits": settings.bits, "bytes": net.packed}
        elif key != "dense_longer":
            masks = nets["pruned"].masks
            asked = bench.asked if key == "pruned" and masks is not None else None
            if key == "dense" and masks is not None:  # the same targets, none of them pruned
                masks = sc.Masks({each: torch.ones_like(mask) for each, mask in masks.items()})
            report = sc.measure(net.model, example, masks=masks, target_sparsity=asked, timing=None)
            reports[key] = _of(targets, report)
    with torch.inference_mode():
        calls = [partial(nets[key].model, example) for key in reports]
        times = sc.latencies(calls, sc.Timing(warmup=20, repeats=100))
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
        "seconds": {key: round(net.seconds, 2) for key, net in nets.items() if key != "shrunk"},
        "facts": bench.facts,
        "warnings": bench.notes,
    }


def _of(targets: Set[str], report: sc.Report) -> sc.Report:
    """Count as targets those that could be pruned: not what ``--ignore`` and ``--include`` leave out."""
    found = [layer for layer in report.layers if layer.name in targets]
    weights, kept = sum(layer.weights for layer in found), sum(layer.kept for layer in found)
    return dataclasses.replace(report, targets=dataclasses.replace(report.targets, weights=weights, kept=kept))


def _keep(nets: dict[str, _Net], folder: Path) -> None:
    """Write the pruned network, its masks and its smaller copy where a user looks for them."""
    net = nets["pruned"]
    write_tensors(folder / "model.safetensors", net.model.state_dict(), {"format": "pt"})
    sc.pack(net.model, folder / "model.sct")
    if net.masks is not None:
        net.masks.save(folder / "masks.safetensors")
    if "shrunk" in nets:
        sc.pack(nets["shrunk"].model, folder / "shrunk.sct")


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
