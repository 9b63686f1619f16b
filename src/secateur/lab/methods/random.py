"""Random pruning: the control that every other method has to beat."""

from __future__ import annotations

from functools import partial

import secateur as sc
from secateur.lab.bench import Bench, Pruning

__all__ = ["random"]


def random(bench: Bench) -> None:
    """Prune weights drawn by lot at once, then retrain what is left (the control)."""
    settings = bench.settings
    choice = sc.Choice(criterion=partial(sc.criteria.random, seed=settings.seed))
    bench.phase("prune", settings.prune_epochs, Pruning(sc.OneShotSchedule(settings.sparsity), choice))
