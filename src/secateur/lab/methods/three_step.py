"""Train, prune, retrain (Han et al. 2015, "Learning both Weights and Connections", arXiv 1506.02626)."""

from __future__ import annotations

from dataclasses import replace

import secateur as sc
from secateur.lab.bench import Bench
from secateur.lab.checkpoint import snapshot
from secateur.lab.data.lookup import LabError
from secateur.lab.methods.parts import choice, levels, rounds

__all__ = ["three_step"]


def three_step(bench: Bench) -> None:
    """Prune below a threshold, drop neurons that died of it, retrain what is left; several rounds."""
    settings = bench.settings
    pairs = sc.chains(bench.model, bench.data.train.images[:2])
    dropped = 0
    for n, (level, (name, epochs)) in enumerate(zip(levels(bench), rounds(bench), strict=True)):
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


def _cut(bench: Bench, sparsity: float) -> sc.Masks:
    """Return the masks of this round: to a sparsity, or below quality times the standard deviation of each layer."""
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
    """Return the layers that do not retrain in this round."""
    which = bench.settings.fixed
    if which == "turns":
        which = ("convolutions", "dense")[turn % 2]
    targets = bench.targets()
    convolutions = {name for name, weight in targets.items() if weight.ndim > 2}
    fixed = {"none": set(), "convolutions": convolutions, "dense": targets.keys() - convolutions}[which]
    if len(fixed) == len(targets):
        raise LabError(f"--fixed {which} leaves no layer of {bench.settings.model} to retrain")
    return tuple(sorted(fixed))
