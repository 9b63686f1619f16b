"""Thresholding of weights and biases without retraining: the baseline of pruning courses and of most papers."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning
from secateur.lab.methods.parts import choice

__all__ = ["prune_at_once", "threshold", "threshold_layerwise"]


def threshold(bench: Bench) -> None:
    """Prune the smallest weights and biases of the whole model at once; no retraining of what is left."""
    prune_at_once(bench, choice(bench, "global", biases=True))


def threshold_layerwise(bench: Bench) -> None:
    """Prune the smallest entries of every weight and every bias to one sparsity; no retraining of what is left."""
    prune_at_once(bench, choice(bench, "layerwise", biases=True))


def prune_at_once(bench: Bench, way: sc.Choice) -> None:
    """Cut weights and biases in one phase without an epoch."""
    schedule = sc.OneShotSchedule(bench.settings.sparsity)
    bench.phase("threshold", 0, Pruning(schedule, way, bench.targets(biases=True)))
