"""One-shot magnitude pruning, then retraining (Han et al. 2015, arXiv 1506.02626, one cycle)."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning
from secateur.lab.methods.parts import choice

__all__ = ["one_shot", "one_shot_erk", "one_shot_lamp", "one_shot_layerwise"]


def one_shot(bench: Bench) -> None:
    """Prune the smallest weights of the whole model at once, then retrain what is left."""
    _prune(bench, choice(bench))


def one_shot_layerwise(bench: Bench) -> None:
    """Prune the smallest weights of every layer at once, each to the same sparsity, then retrain what is left."""
    _prune(bench, choice(bench, "layerwise"))


def one_shot_erk(bench: Bench) -> None:
    """Prune every layer at once to a sparsity that its shape sets (Erdos-Renyi-Kernel), then retrain what is left."""
    _prune(bench, choice(bench, "erk"))


def one_shot_lamp(bench: Bench) -> None:
    """Prune the whole model at once by layer-adaptive magnitude (LAMP), then retrain what is left."""
    _prune(bench, choice(bench, "lamp"))


def _prune(bench: Bench, way: sc.Choice) -> None:
    settings = bench.settings
    bench.phase("prune", settings.prune_epochs, Pruning(sc.OneShotSchedule(settings.sparsity), way))
