"""The other way to a small model: a narrower one, trained dense (the comparison of Zhu and Gupta 2017)."""

from __future__ import annotations

from secateur.lab.bench import Bench

__all__ = ["check_small_dense", "small_dense"]

_NEAR = 0.05  # share of the budget by which the number of weights may miss it without a word


def small_dense(bench: Bench) -> None:
    """Train a narrower dense model with as many weights as pruning would have left (a control)."""
    settings = bench.settings
    whole = bench.targets()
    budget = (1 - settings.sparsity) * sum(weight.numel() for weight in whole.values())
    width = narrowest(bench, budget)
    bench.facts["width"] = width
    bench.asked = None
    bench.replace(bench.fresh(settings.seed, width))
    weights = sum(weight.numel() for weight in bench.targets().values())
    if abs(weights - budget) > _NEAR * budget:
        bench.note([f"small-dense was to have {budget:,.0f} target weights; the nearest width has {weights:,}"])
    bench.phase("small", settings.epochs + settings.prune_epochs, training=bench.dense_training())


def check_small_dense(bench: Bench) -> None:
    """Raise a LabError for a model that has no width."""
    bench.fresh(0, 0.5)


def narrowest(bench: Bench, budget: float) -> float:
    """Return the width factor whose model has the number of target weights nearest to ``budget``."""

    def weights(width: float) -> int:
        return sum(weight.numel() for weight in bench.targets(of=bench.fresh(0, width)).values())

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if weights(middle) < budget:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda width: abs(weights(width) - budget))
