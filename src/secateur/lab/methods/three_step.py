"""Train, prune, retrain (Han et al. 2015, "Learning both Weights and Connections", arXiv 1506.02626)."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

import secateur as sc
from secateur.lab.bench import Bench
from secateur.lab.checkpoint import snapshot
from secateur.lab.data.lookup import LabError
from secateur.lab.methods.parts import choice, levels, rounds

__all__ = ["check_three_step", "three_step"]


def three_step(bench: Bench) -> None:
    """Prune below a threshold, drop neurons that died of it, retrain what is left; several rounds."""
    settings = bench.settings
    pairs = sc.chains(bench.model, bench.data.train.images[:2])
    dropped = 0
    for n, (level, (name, epochs)) in enumerate(zip(_levels(bench), rounds(bench), strict=True)):
        masks = _cut(bench, level)
        asked = masks.sparsity
        masks, dead = sc.drop_dead(masks, pairs)
        dropped += dead.connections
        bench.facts["dead"] = {
            "neurons": dead.neurons,
            "connections": dead.connections,
            "all_connections": dropped,
            "asked": asked,
        }
        if settings.survivors == "drawn":
            bench.restore(snapshot(bench.fresh(settings.seed + 1 + n)), masks)
            bench.trained = 0.0
        else:
            bench.impose(masks)
        bench.asked = masks.sparsity
        training = replace(bench.retraining(), frozen=_fixed(bench, n))
        bench.phase(name, epochs, training=training)


def check_three_step(bench: Bench) -> None:
    """Raise a LabError for what three-step pruning cannot do."""
    _levels(bench)
    for turn in range(min(2, bench.settings.rounds)):
        _fixed(bench, turn)
    if not bench.settings.quality:
        choice(bench)


def _levels(bench: Bench) -> list[float]:
    # Thresholds by quality know no sparsity.
    return [0.0] * bench.settings.rounds if bench.settings.quality else levels(bench)


def _cut(bench: Bench, sparsity: float) -> sc.Masks:
    """Return the masks of this round: to a sparsity, or below quality times the deviation of what each layer has."""
    targets, settings = bench.targets(), bench.settings
    if not settings.quality:
        return choice(bench)(targets, sparsity, within=bench.masks)
    below = {}
    for name, weight in targets.items():
        kept = weight.detach() if bench.masks is None else weight.detach()[bench.masks[name]]
        limit = settings.quality * float(kept.std()) if kept.numel() > 1 else 0.0
        below[name] = float((weight.detach().abs() < limit).double().mean())
    return sc.Choice(scope=sc.PerTensor(), allocation=below)(targets, within=bench.masks)


def _fixed(bench: Bench, turn: int) -> tuple[str, ...]:
    """Return the layers, targets or not, that do not retrain in this round."""
    which = bench.settings.fixed
    if which == "none":
        return ()
    if which == "turns":
        which = ("convolutions", "dense")[turn % 2]
    kinds = {"convolutions": _ConvNd, "dense": nn.Linear}
    layers = {
        name: next((kind for kind, each in kinds.items() if isinstance(module, each)), None)
        for name, module in bench.model.named_modules()
    }
    fixed = tuple(name for name, kind in layers.items() if kind == which)
    if set(layers.values()) <= {which, None}:
        raise LabError(f"--fixed {which} leaves no layer of {bench.settings.model} to retrain")
    if not fixed:
        bench.note([f"--fixed {which} fixes nothing: {bench.settings.model} has none"])
    return fixed
