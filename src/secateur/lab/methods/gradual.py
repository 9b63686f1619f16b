"""Gradual pruning during training (Zhu and Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning

__all__ = ["gradual"]

SHARE = 0.8  # of the pruning phase in which sparsity rises; the rest retrains at the final sparsity
UPDATES = 100  # redraws of the masks in that time


def gradual(bench: Bench) -> None:
    """Prune the smallest weights of the whole model a little at a time while training goes on."""
    settings = bench.settings
    end = round(SHARE * bench.steps(settings.prune_epochs))
    schedule = sc.PolynomialSchedule(
        min(settings.initial_sparsity, settings.sparsity),
        settings.sparsity,
        begin_step=0,
        end_step=end,
        frequency=max(1, end // UPDATES),
    )
    bench.phase("prune", settings.prune_epochs, Pruning(schedule))
