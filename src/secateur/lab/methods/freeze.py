"""Retraining in two steps: the layers that were spared first, then everything with masked gradients."""

from __future__ import annotations

from dataclasses import replace

import secateur as sc
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
    bench.phase("masked", epochs - epochs // 2, training=replace(bench.retraining(), from_here=True))


def _freeze(bench: Bench, epochs: int) -> None:
    prune_at_once(bench, choice(bench, "global", biases=True))
    assert bench.masks is not None
    limit = bench.settings.freeze_above
    frozen = sc.pruned_layers(bench.masks, None if limit == 1 else limit)
    bench.facts["frozen"] = list(frozen)
    bench.phase("freeze", epochs, training=replace(bench.retraining(), frozen=frozen))
