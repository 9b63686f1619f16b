"""Dynamic network surgery (Guo et al. 2016, arXiv 1608.04493): prune, and splice back what turns out to matter."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning
from secateur.lab.methods.parts import UPDATES, choice, ramp

__all__ = ["surgery"]


def surgery(bench: Bench) -> None:
    """Prune gradually while masked weights go on learning unseen and may return when masks are redrawn."""
    settings = bench.settings
    rise = ramp(bench, settings.rise / 2)
    end = round(settings.rise * bench.steps(settings.prune_epochs))
    every = max(1, end // UPDATES)
    schedule = sc.ChainSchedule((rise, sc.ConstantSchedule(settings.sparsity, rise.end_step, end, every)))
    regrow = sc.Regrow(learning_rate=settings.learning_rate * settings.retrain_rate)
    bench.phase("prune", settings.prune_epochs, Pruning(schedule, choice(bench), regrow=regrow))
