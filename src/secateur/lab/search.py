"""The highest sparsity within an accuracy budget, found by bisection on validation data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from secateur.lab.bench import Bench
from secateur.lab.training import DivergedError

__all__ = ["STEPS", "highest_sparsity"]

STEPS = 7  # halvings: sparsity is found to within 1 / 128


def highest_sparsity(bench: Bench, method: Callable[[Bench], None]) -> Bench:
    """Run ``method`` at the sparsities that bisection asks for; return the bench of the highest within the budget.

    Accuracy need not fall steadily as sparsity rises, so what is found is a sparsity that keeps within the budget,
    with one a step higher that did not.

    Args:
        bench: in the dense state, ``bench.last`` with it; it is left so.
        method: prunes to ``bench.settings.sparsity``.
    """
    settings = bench.settings
    floor = bench.last.validation - settings.max_drop / 100 - 1e-9  # a net exactly on it is within
    tries: list[dict[str, Any]] = []
    diverged: list[str] = []

    def attempt(sparsity: float) -> Bench:
        fork = bench.fork(dataclasses.replace(settings, sparsity=sparsity), f"sparsity-{sparsity:.4f}")
        bench.journal.prefix = f"{sparsity:.4f}/"
        try:
            method(fork)
        finally:
            bench.journal.prefix = ""
            bench.seconds += fork.seconds
        return fork

    low, high, best = 0.0, 1.0, None
    for _ in range(STEPS):
        middle = (low + high) / 2
        try:
            fork = attempt(middle)
        except DivergedError:
            diverged.append(f"training diverged at sparsity {middle:g}, which counts as beyond --max-drop")
            tries.append({"sparsity": middle, "validation": 0.0, "within": False})
            high = middle
            continue
        within = fork.last.validation >= floor
        tries.append({"sparsity": middle, "validation": fork.last.validation, "within": within})
        if within:
            low, best = middle, fork
        else:
            high = middle
    best = best or attempt(0.0)
    best.settings, best.folder, best.seconds = settings, bench.folder, bench.seconds
    best.note(diverged)
    best.facts["search"] = {"floor": floor, "max_drop": settings.max_drop, "tries": tries, "sparsity": low}
    return best
