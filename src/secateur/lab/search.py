"""The highest sparsity within an accuracy budget, found by bisection on validation data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from secateur.lab.bench import Bench

__all__ = ["STEPS", "highest_sparsity"]

STEPS = 7  # halvings: sparsity is found to within 1 / 128


def highest_sparsity(bench: Bench, method: Callable[[Bench], None], dense: float) -> None:
    """Run ``method`` at the sparsities that bisection asks for; leave the bench as the best of them left it.

    Accuracy need not fall steadily as sparsity rises, so what is found is a sparsity that keeps within the budget,
    with one a step higher that did not.

    Args:
        bench: in the dense state.
        method: prunes to ``bench.settings.sparsity``.
        dense: validation accuracy of the dense model, in [0, 1].
    """
    settings, folder = bench.settings, bench.folder
    start = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    last, trained, model = bench.last, bench.trained, bench.model
    floor = dense - settings.max_drop / 100
    tries: list[dict[str, float]] = []

    def attempt(sparsity: float) -> float:
        bench.replace(model)
        bench.restore(start)
        bench.last, bench.trained = last, trained
        bench.settings = dataclasses.replace(settings, sparsity=sparsity, max_drop=0.0)
        bench.asked, bench.folder = sparsity, folder / f"sparsity-{sparsity:.4f}"
        bench.journal.prefix = f"{sparsity:.4f}/"
        method(bench)
        return bench.last.validation

    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        reached = attempt(middle)
        tries.append({"sparsity": middle, "validation": reached, "within": float(reached >= floor)})
        if reached >= floor:
            low = middle
        else:
            high = middle
    attempt(low)  # its phases are on disk, unless nothing but the dense model keeps within the budget
    bench.settings, bench.folder, bench.journal.prefix = settings, folder, ""
    bench.facts["search"] = {"floor": floor, "max_drop": settings.max_drop, "tries": tries, "sparsity": low}
