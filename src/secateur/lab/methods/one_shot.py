"""One-shot magnitude pruning, then retraining (Han et al. 2015, arXiv 1506.02626, one cycle)."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning

__all__ = ["one_shot", "one_shot_layerwise"]


def one_shot(bench: Bench) -> None:
    """Prune the smallest weights of the whole model at once, then retrain what is left."""
    _prune(bench, sc.Choice(scope=sc.Global()))


def one_shot_layerwise(bench: Bench) -> None:
    """Prune the smallest weights of every layer at once, each to the same sparsity, then retrain what is left."""
    _prune(bench, sc.Choice(scope=sc.PerTensor()))


def _prune(bench: Bench, choice: sc.Choice) -> None:
    settings = bench.settings
    bench.phase("prune", settings.prune_epochs, Pruning(sc.OneShotSchedule(settings.sparsity), choice))
