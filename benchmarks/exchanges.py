"""Which tensor explains that two masks of one net differ in accuracy: each goes over to the other mask by itself."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import common
from torch import nn

import secateur as sc
from secateur.lab import models
from secateur.lab.data import Split, load
from secateur.lab.settings import Settings
from secateur.lab.training import evaluate

NOTHING, ALL = "nothing: layer-wise", "all"


@dataclass(frozen=True)
class Exchange:
    """One tensor, or nothing or all, pruned as the other mask has it, the rest as the one has it.

    Attributes:
        elements: that go over.
        pruned: share of them, in percent, that the other mask takes.
        accuracy: in percent.
    """

    elements: int
    pruned: float
    accuracy: float


Exchanges = Mapping[str, Exchange]


def exchanged(model: nn.Module, mask: sc.Masks, other: sc.Masks, split: Split) -> Exchanges:
    """Return what nothing, one tensor, and all from ``other``, the rest from ``mask``, makes of a dense model."""

    def of(names: Iterable[str]) -> Exchange:
        taken = sc.Masks({name: other[name] for name in names})
        pruned = copy.deepcopy(model)
        sc.apply(pruned, sc.Masks({**mask, **taken}))
        return Exchange(taken.count().total, 100 * taken.sparsity, 100 * evaluate(pruned, split).accuracy)

    return {NOTHING: of(()), **{name: of([name]) for name in mask}, ALL: of(mask)}


def measured(
    folder: Path, settings: Settings, data: Path | None, sparsity: float, seeds: Sequence[int]
) -> list[Exchanges]:
    """Return the exchanges of each seed, from the cells of a sweep of both thresholds, on validation data."""
    found: list[Exchanges] = []
    for seed in seeds:
        sets = load(settings.data, data, seed=seed, validation=settings.validation)
        model = models.build(settings.model, sets.shape, sets.classes)
        cells = folder / "cells"
        sc.unpack(cells / f"threshold-s0-seed{seed}" / "model.sct", into=model)
        layerwise, ranked = (
            sc.Masks.load(cells / f"{method}-s{sparsity:g}-seed{seed}" / "masks.safetensors")
            for method in ("threshold-layerwise", "threshold")
        )
        found.append(exchanged(model, layerwise, ranked, sets.validation))
    return found


def table(by_sparsity: Mapping[float, Sequence[Exchanges]]) -> str:
    """Return the table, and a sentence before it that names the tensor in which most of the difference lies."""
    head, told = ["as in one ranking", "elements"], []
    lines: dict[str, list[str]] = {}
    for sparsity, seeds in by_sparsity.items():
        head += [f"of them pruned there at {sparsity:g}, %", f"accuracy at {sparsity:g}, %"]
        means = {name: statistics.mean(each[name].accuracy for each in seeds) for name in seeds[0]}
        tensors = [name for name in means if name not in (NOTHING, ALL)]
        best = max(tensors, key=lambda name: means[name])
        least = min(tensors, key=lambda name: seeds[0][name].elements)
        told.append(
            f"at {sparsity:g} `{best}`, {seeds[0][best].elements:,} of {seeds[0][ALL].elements:,} elements, brings "
            f"{means[NOTHING]:.1f} % to {means[best]:.1f}, where one ranking for all has {means[ALL]:.1f} "
            f"(the smallest, `{least}`: {means[least]:.1f})"
        )
        for name in means:
            line = lines.setdefault(name, [name if name in (NOTHING, ALL) else f"`{name}`", _count(seeds[0][name])])
            pruned = statistics.mean(each[name].pruned for each in seeds)
            line.append(f"{pruned:.0f}" if seeds[0][name].elements else "")
            line.append(common.accuracy([each[name].accuracy / 100 for each in seeds]))
    text = common.paragraph(f"""Why layer-wise loses: one tensor at a time is pruned as one ranking does it, all others
        layer-wise (accuracy on validation data). The tensor that matters most: {"; ".join(told)}.""")
    return f"{text}\n\n{common.markdown(head, list(lines.values()))}"


def _count(exchange: Exchange) -> str:
    return f"{exchange.elements:,}" if exchange.elements else ""
