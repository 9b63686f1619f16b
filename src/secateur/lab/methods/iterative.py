"""Iterative prune-retrain (Han et al. 2015, arXiv 1506.02626; rounds as in Frankle and Carbin 2019, 1803.03635)."""

from __future__ import annotations

from dataclasses import replace

import secateur as sc
from secateur.lab.bench import Bench, Pruning
from secateur.lab.data.lookup import LabError
from secateur.lab.methods.parts import choice

__all__ = ["check_iterative", "iterative"]


def iterative(bench: Bench) -> None:
    """Prune the same share of what is left in every round and retrain in between; no weight is rewound."""
    settings = bench.settings
    check_iterative(bench)
    each = bench.steps(settings.prune_epochs) // settings.rounds
    schedule = sc.RoundsSchedule(settings.sparsity, settings.rounds, each)
    training = replace(bench.retraining(), cycles=settings.rounds)
    bench.phase("prune", settings.prune_epochs, Pruning(schedule, choice(bench)), training)


def check_iterative(bench: Bench) -> None:
    """Raise a LabError for what iterative pruning cannot do."""
    settings, steps = bench.settings, bench.steps(bench.settings.prune_epochs)
    if settings.sparsity == 1:
        raise LabError("iterative pruning takes a share of what is left, so it never reaches sparsity 1; use less")
    if settings.prune_epochs == 0:
        raise LabError("iterative pruning retrains between rounds; give --prune-epochs of at least 1")
    if steps < settings.rounds:
        raise LabError(f"{settings.rounds} rounds do not fit into {steps} steps; give fewer --rounds")
    choice(bench)
