"""Retraining in two steps: the layers that were spared first, then everything with masked gradients."""

from __future__ import annotations

from dataclasses import replace

from secateur.lab.bench import Bench
from secateur.lab.methods.parts import choice
from secateur.lab.methods.threshold import prune_at_once

__all__ = ["freeze", "masked_retraining"]


def freeze(bench: Bench) -> None:
    """Threshold globally, freeze the layers that lost most, retrain the others; zeros stay and no weight is rewound."""
    _freeze(bench, bench.settings.prune_epochs)


def masked_retraining(bench: Bench) -> None:
    """Go on from the best model of freeze: mask the gradients of its zeros and retrain everything left."""
    epochs = bench.settings.prune_epochs
    _freeze(bench, epochs // 2)
    bench.phase("masked", epochs - epochs // 2)


def _freeze(bench: Bench, epochs: int) -> None:
    prune_at_once(bench, choice(bench, "global"))
    frozen = pruned_layers(bench)
    bench.facts["frozen"] = list(frozen)
    bench.phase("freeze", epochs, training=replace(bench.retraining(), frozen=frozen))


def pruned_layers(bench: Bench) -> tuple[str, ...]:
    """Return the weights whose layers took the pruning: a larger share of zeros than the limit in the settings.

    By default the limit is the share of the whole model: the layers above it gave more than their part, and what
    is left of them is what the ranking trusts; the layers below it have the capacity to adapt. If all layers lie
    above the limit nothing is frozen, as nothing would train.
    """
    masks = bench.masks
    assert masks is not None
    limit = masks.sparsity if bench.settings.freeze_above == 1 else bench.settings.freeze_above
    weights = [name for name in masks if masks[name].ndim > 1]
    over = tuple(name for name in weights if masks.count(name).sparsity > limit)
    return over if len(over) < len(weights) else ()
