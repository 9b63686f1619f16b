"""Gradual pruning during training (Zhu and Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning
from secateur.lab.methods.parts import choice, ramp

__all__ = ["gradual"]


def gradual(bench: Bench) -> None:
    """Prune the smallest weights of the whole model a little at a time while training goes on."""
    regrow = sc.Regrow() if bench.settings.regrow else None
    bench.phase("prune", bench.settings.prune_epochs, Pruning(ramp(bench), choice(bench), regrow=regrow))
