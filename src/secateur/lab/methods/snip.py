"""SNIP: pruning before training (Lee et al. 2019, arXiv 1810.02340)."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch.nn import functional

import secateur as sc
from secateur.lab.bench import Bench, Pruning
from secateur.lab.data import batches

__all__ = ["snip"]

IMAGES = 2048  # that the sensitivities are averaged over


def snip(bench: Bench) -> None:
    """Prune the untrained model by connection sensitivity, then train what is left."""
    settings = bench.settings
    bench.start_over()
    generator = torch.Generator().manual_seed(settings.seed)
    data = batches(bench.data.train, settings.batch_size, generator)
    sample = itertools.islice(data, -(-IMAGES // settings.batch_size))
    torch.manual_seed(settings.seed)  # dropout is on, and a resumed run must draw the same
    bench.model.train()
    stats = sc.stats.gradients(bench.model, sample, functional.cross_entropy, bench.targets())
    way = sc.Choice(criterion=partial(sc.criteria.snip, stats=stats))
    epochs = settings.epochs + settings.prune_epochs
    # It is trained as the dense net is: there is nothing yet to retrain.
    bench.phase("prune", epochs, Pruning(sc.OneShotSchedule(settings.sparsity), way), bench.dense_training())
