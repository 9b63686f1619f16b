"""What every mask should be compared with: the same mask trained from scratch, and one of the same density by lot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import secateur as sc
from secateur.lab.bench import Bench
from secateur.lab.checkpoint import snapshot
from secateur.lab.methods.heeds import FROM_SCRATCH
from secateur.lab.methods.neurons import units_by_lot

__all__ = ["TABLE"]


def _none(bench: Bench) -> None:
    """Leave the pruned model as the method left it."""


def _scratch(bench: Bench) -> None:
    """Draw new weights under the method's mask and train them for as long as the method's weights were."""
    _train_anew(bench, _masks(bench))


def _shuffle(bench: Bench) -> None:
    """The same, with what every layer keeps drawn by lot: as many weights, or where units were pruned units."""
    masks = _masks(bench)
    bench.facts.pop("dead", None)  # of the method's mask
    if "units" in bench.facts:
        _train_anew(bench, units_by_lot(bench, masks))
        return
    shares = {name: masks.count(name).sparsity for name in masks}
    way = sc.Choice(
        criterion=partial(sc.criteria.random, seed=bench.settings.seed), scope=sc.PerTensor(), allocation=shares
    )
    weights = sc.prunable(bench.model, include=list(masks))
    _train_anew(bench, way(weights))


def _masks(bench: Bench) -> sc.Masks:
    assert bench.masks is not None
    return bench.masks


def _train_anew(bench: Bench, masks: sc.Masks) -> None:
    bench.restore(snapshot(bench.fresh(bench.settings.seed + 1)), masks)
    epochs, bench.trained = round(bench.trained), 0.0
    fresh = bench.settings.method in FROM_SCRATCH
    training = bench.dense_training() if fresh else replace(bench.retraining(), rate=1.0)
    bench.phase("control", epochs, training=training)


TABLE: dict[str, Callable[[Bench], None]] = {"none": _none, "scratch": _scratch, "shuffle": _shuffle}
