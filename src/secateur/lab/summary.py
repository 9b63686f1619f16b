"""What the cells of a sweep come to: means over seeds, the Pareto frontier, one score for each method."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["SCORE", "frontier", "scores", "summarise"]

SCORE = (
    "the area under test accuracy over sparsity, the sparsity axis in nines (-log10 of the share kept), every accuracy "
    "first turned into the share of the dense net's gain over chance that is kept, divided by the length of that axis; "
    "1 means nothing was lost"
)


def summarise(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation of test accuracy over seeds for every method and sparsity."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell["method"], cell["sparsity"]].append(cell)
    rows = []
    for (method, sparsity), members in sorted(groups.items()):
        reference = [cell["reference_test"] for cell in members]
        achieved = statistics.mean(cell["achieved"] for cell in members)
        rows.append(
            {
                "method": method,
                "sparsity": sparsity,
                "achieved": achieved,
                "compression": 1 / (1 - achieved) if achieved < 1 else None,
                "mean": statistics.mean(cell["test"] for cell in members),
                "std": _spread([cell["test"] for cell in members]),
                "runs": len(members),
                "reference_mean": statistics.mean(reference),
                "reference_std": _spread(reference),
            }
        )
    return rows


def frontier(summary: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that no other beats in both sparsity and mean accuracy, sparsest last.

    Example:
        >>> rows = [dict(method="a", sparsity=0.5, achieved=0.5, compression=2.0, mean=0.9),
        ...         dict(method="b", sparsity=0.8, achieved=0.8, compression=5.0, mean=0.95)]
        >>> [row["method"] for row in frontier(rows)]
        ['b']
    """
    best, kept = -1.0, []
    for row in sorted(summary, key=lambda row: (-row["achieved"], -row["mean"])):
        if row["mean"] > best:
            best = row["mean"]
            kept.append({key: row[key] for key in ("method", "sparsity", "achieved", "compression", "mean")})
    return kept[::-1]


def scores(cells: Sequence[dict[str, Any]], classes: int) -> list[dict[str, Any]]:
    """Return one number for each method, best first: :data:`SCORE`, with mean and spread over seeds.

    Only sparsities below 1 that every method was run at with every seed count. With a single one the score
    is the share kept at it.

    Args:
        cells: with method, sparsity, seed, test and reference_test (accuracies in [0, 1]).
        classes: of the data; chance is one over it.

    Example:
        >>> cell = dict(method="a", seed=0, reference_test=0.9, sparsity=0.9, test=0.5)
        >>> scores([cell, cell | dict(sparsity=0.99, test=0.1)], classes=10)
        [{'method': 'a', 'mean': 0.25, 'std': 0.0, 'runs': 1}]
    """
    chance = 1 / max(1, classes)
    found: dict[str, list[float]] = {}
    methods = sorted({cell["method"] for cell in cells})
    seeds = sorted({cell["seed"] for cell in cells})
    by_place = {(cell["method"], cell["sparsity"], cell["seed"]): cell for cell in cells}
    levels = sorted({cell["sparsity"] for cell in cells if cell["sparsity"] < 1})
    common = [level for level in levels if all((m, level, seed) in by_place for m in methods for seed in seeds)]
    for seed in seeds:
        for method in methods if common else ():
            points = [(-math.log10(1 - level), _kept(by_place[method, level, seed], chance)) for level in common]
            found.setdefault(method, []).append(_area(points))
    rows = [
        {"method": method, "mean": statistics.mean(each), "std": _spread(each), "runs": len(each)}
        for method, each in found.items()
    ]
    return sorted(rows, key=lambda row: -float(row["mean"]))


def _kept(cell: dict[str, Any], chance: float) -> float:
    """Return the share of the dense net's gain over chance that a cell keeps, at least 0."""
    gain = cell["reference_test"] - chance
    return max(0.0, (cell["test"] - chance) / gain) if gain > 0 else 0.0


def _area(points: Sequence[tuple[float, float]]) -> float:
    """Return the mean height of straight lines through the points."""
    width = points[-1][0] - points[0][0]
    if not width:
        return points[0][1]
    pairs = itertools.pairwise(points)
    return round(sum((right - left) * (a + b) / 2 for (left, a), (right, b) in pairs) / width, 10)


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
