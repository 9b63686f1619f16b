"""Lottery tickets and learning-rate rewinding: iterative pruning in rounds of full training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import secateur as sc
from secateur.lab.bench import Bench
from secateur.lab.checkpoint import snapshot
from secateur.lab.methods.parts import choice, levels

__all__ = ["learning_rate_rewinding", "lottery_ticket"]


def lottery_ticket(bench: Bench) -> None:
    """Prune a share, put the weights left back to where they began (or to an early step), train in full; in rounds."""
    settings = bench.settings
    begin = round(settings.rewind * bench.steps(settings.epochs))
    start = bench.initial
    if begin:
        trained = snapshot(bench.model)
        bench.start_over()
        # The same batches at the same rates as the dense phase: the state it had at that step.
        dense = replace(bench.dense_training(), stop=begin, stream="dense")
        bench.phase("early", settings.epochs, training=dense)
        start = snapshot(bench.model)
        bench.restore(trained)
        bench.trained = settings.epochs
    for name, masks in _rounds(bench):
        bench.restore(start, masks)
        bench.trained = begin / bench.epoch_steps  # what came later is undone
        bench.phase(name, settings.epochs, training=replace(bench.retraining(), begin=begin))


def learning_rate_rewinding(bench: Bench) -> None:
    """Prune a share of what is left and train as long as at first, from the full learning rate; in rounds."""
    for name, masks in _rounds(bench):
        bench.impose(masks)
        bench.phase(name, bench.settings.epochs)


def _rounds(bench: Bench) -> Iterator[tuple[str, sc.Masks]]:
    """Yield the name of each round's phase and the masks drawn from the weights that the round before left."""
    for n, level in enumerate(levels(bench), start=1):
        yield f"round{n}", choice(bench)(bench.targets(), level, within=bench.masks)
