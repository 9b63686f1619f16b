"""Layer-wise pruning to sparsities that a sensitivity analysis sets (Han et al. 2015, arXiv 1506.02626, fig. 6)."""

from __future__ import annotations

import secateur as sc
from secateur.lab.bench import Bench, Pruning

__all__ = ["sensitivity"]

SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def sensitivity(bench: Bench) -> None:
    """Learn what each layer can bear by itself, prune all of them equally deep, then retrain what is left."""
    settings = bench.settings
    found = sc.sensitivity(bench.model, lambda _: bench.validate(), SPARSITIES, weights=bench.targets())
    shares = found.allocation(settings.sparsity, whole=True)
    bench.facts["sensitivity"] = {
        "whole": found.whole,
        "curves": {name: [[s, score] for s, score in curve.items()] for name, curve in found.curves.items()},
        "allocation": shares,
    }
    way = sc.Choice(scope=sc.PerTensor(), allocation=shares)
    bench.phase("prune", settings.prune_epochs, Pruning(sc.OneShotSchedule(settings.sparsity), way))
