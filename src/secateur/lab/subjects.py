"""What ``secateur bench`` times: the network of a run, of a file or of a name, or an engine alone."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import secateur as sc
from secateur.engine import load
from secateur.lab import models
from secateur.lab.data import LabError
from secateur.lab.networks import Made, load_network, network_of

__all__ = ["SCOPES", "Subject", "Thinning", "find", "thin"]

SCOPES = {"layerwise": "layer by layer", "global": "in one ranking"}


@dataclass(frozen=True)
class Thinning:
    """How a network is pruned by magnitude before it is timed.

    Attributes:
        sparsity: of the layers that are pruned, in [0, 1].
        scope: "layerwise" gives each of them that sparsity, "global" all of them together.
        first: the first layer is pruned too; it has few weights, most networks mind its loss, and its inputs are dense.
    """

    sparsity: float
    scope: str = "layerwise"
    first: bool = False


@dataclass(frozen=True)
class Subject:
    """What is timed: a network, or an engine alone; the shape of one input, and what a reader must know."""

    name: str
    shape: tuple[int, ...]
    model: nn.Module | None = None
    engine: sc.Engine | None = None
    note: str = ""


def find(what: str, made: Made | None = None, thinning: Thinning | None = None) -> Subject:
    """Return what a run folder, a file or a name stands for.

    Args:
        what: the folder of a finished run, a file with the tensors of a network, a file with an engine, or the name of
            a model.
        made: how the network of a file, or of a name, is made.
        thinning: prunes it; a run's network is pruned already.

    Raises:
        LabError: there is no such thing, or flags do not go with it.
        CorruptFileError: a file is damaged.
    """
    made, path = made or Made(""), Path(what)
    if path.is_dir():
        if made.model or thinning:
            raise LabError(f"the run in {path} knows its network: leave --model and --sparsity out")
        model, shape = load_network(path)
        return Subject(what, shape, model, note=_sparsity(model))
    if path.is_file() and not made.model and _holds_engine(path):
        if thinning:
            raise LabError(f"{path} holds an engine, whose weights are fixed: leave --sparsity out")
        engine = load(path)
        return Subject(what, _only_input(engine, path), engine=engine, note=_ALONE)
    if path.is_file():
        model, shape = network_of(path, made)
        return _thinned(Subject(f"{what} ({made.model})", shape, model), thinning)
    if made.model:
        raise LabError(f"there is no file {path}; to time a new network of that kind: secateur bench {made.model}")
    return _thinned(_named(what, made), thinning)


_ALONE = (
    "A file of an engine holds no network that others could run, so the engine runs alone and its outputs are compared "
    "with nothing; name the run, or the packed file with its --model, to compare."
)


def _named(name: str, made: Made) -> Subject:
    if name.endswith((".sct", ".safetensors")) or os.sep in name:
        raise LabError(f"there is no file or folder {name}")
    torch.manual_seed(0)
    try:
        model = models.build(name, made.shape, made.classes)
    except LabError as error:
        if str(error).startswith("unknown model"):
            raise LabError(f"there is no run folder, no file and no model {name!r}: {error}") from None
        raise
    return Subject(name, made.shape, model.eval())


def _holds_engine(path: Path) -> bool:
    return path.suffix != ".safetensors" and "plan" in sc.read_index(path).notes


def _only_input(engine: sc.Engine, path: Path) -> tuple[int, ...]:
    if len(engine.plan.inputs) != 1 or engine.plan.values[engine.plan.inputs[0]].dtype != "F32":
        raise LabError(f"the engine in {path} takes other inputs than images: time it with engine.profile(...)")
    return engine.plan.values[engine.plan.inputs[0]].shape


def _thinned(subject: Subject, thinning: Thinning | None) -> Subject:
    assert subject.model is not None
    if thinning:
        thin(subject.model, thinning)
        first = "all layers" if thinning.first else "all layers but the first"
        pruned = f"Pruned by magnitude to {thinning.sparsity:g} {SCOPES[thinning.scope]}, {first}."
        return dataclasses.replace(subject, note=f"{pruned} {_sparsity(subject.model)}")
    return dataclasses.replace(subject, note=_sparsity(subject.model))


def thin(model: nn.Module, thinning: Thinning) -> sc.Masks:
    """Prune a network by magnitude, in place.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> {name: mask.sum().item() for name, mask in thin(net, Thinning(0.75)).items()}
        {'1.weight': 16, '2.weight': 4}
    """
    weights = sc.prunable(model)
    if not thinning.first and len(weights) > 1:
        weights = sc.prunable(model, ignore=[next(iter(weights))])
    scope = sc.Global() if thinning.scope == "global" else sc.PerTensor()
    return sc.apply(model, sc.select(sc.criteria.magnitude(weights), sparsity=thinning.sparsity, scope=scope))


def _sparsity(model: nn.Module) -> str:
    weights = sc.prunable(model).values()
    count, kept = sum(each.numel() for each in weights), sum(int(each.count_nonzero()) for each in weights)
    return f"{kept:,} of {count:,} target weights are not zero: sparsity {1 - kept / max(1, count):.4f}."
