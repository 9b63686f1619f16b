"""Neuron and filter pruning: the least important units go, in rounds with retraining in between."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn import functional

import secateur as sc
from secateur.lab.bench import Bench
from secateur.lab.data import batches
from secateur.lab.data.lookup import LabError
from secateur.lab.methods.parts import rounds

__all__ = ["check_neurons", "neurons", "units_by_lot"]

IMAGES = 4096  # that activations and gradients are averaged over


def neurons(bench: Bench) -> None:
    """Prune the least important neurons and filters of the hidden layers, in rounds, and retrain what is left."""
    settings = bench.settings
    pairs = _pairs(bench)
    bench.asked = None  # it counts units, and removes the weights on both sides of each
    for n, (name, epochs) in enumerate(rounds(bench), start=1):
        masks = _cut(bench, pairs, settings.sparsity * n / settings.rounds)
        bench.impose(masks)
        bench.phase(name, epochs)
    masks = bench.masks or sc.Masks({})
    left = {pair.writer: int(masks[pair.writer].flatten(1).any(1).sum()) for pair in pairs}
    bench.facts["units"] = {name: [left[name], len(masks[name])] for name in left}


def check_neurons(bench: Bench) -> None:
    """Raise a LabError for what neuron pruning cannot do."""
    _pairs(bench)


def _pairs(bench: Bench) -> list[sc.Chain]:
    settings, targets = bench.settings, bench.targets()
    found = sc.chains(bench.model, bench.data.train.images[:2])
    pairs = [pair for pair in found if pair.writer in targets and pair.reader in targets]
    if not pairs:
        kind = "target layer" if found else "layer"
        raise LabError(f"no {kind} of {settings.model} is read by one other {kind} alone, so no neuron can be removed")
    if settings.sparsity == 1:
        raise LabError("without any neuron left nothing reaches the output; give a sparsity below 1")
    return pairs


def _cut(bench: Bench, pairs: list[sc.Chain], sparsity: float) -> sc.Masks:
    """Mask the incoming and outgoing weights, and the biases, of the units with the lowest scores."""
    targets = bench.targets(biases=True)
    scores, whole_layers = _ranked(bench, pairs, targets)
    within = {} if bench.masks is None else {name: bench.masks[name] for name in scores}
    scores = _spared(scores, whole_layers, within)
    units = sum(len(score) for score in scores.values())
    stay = sum(len(score) if name in whole_layers else 1 for name, score in scores.items())
    sparsity = min(sparsity, 1 - stay / units)
    rows = sc.select(scores, sparsity, granularity=sc.Row(reduce="max"), within=within or None)
    whole = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in targets.items()}
    masks, _ = sc.drop_dead(sc.Masks(whole | dict(rows), targets.targets), pairs)
    return masks


def units_by_lot(bench: Bench, masks: sc.Masks) -> sc.Masks:
    """Return masks that leave every layer as many units as ``masks`` does, drawn by lot: the control."""
    pairs = [p for p in sc.chains(bench.model, bench.data.train.images[:2]) if {p.writer, p.reader} <= masks.keys()]
    generator = torch.Generator().manual_seed(bench.settings.seed)
    drawn = {name: torch.ones_like(mask) for name, mask in masks.items()}
    for pair in pairs:
        rows = masks[pair.writer].flatten(1).any(1)
        order = torch.randperm(len(rows), generator=generator)
        drawn[pair.writer][order[: int((~rows).sum())].to(rows.device)] = False
    return sc.drop_dead(sc.Masks(drawn, masks.targets), pairs)[0]


def _spared(scores: sc.Scores, whole_layers: Collection[str], within: Mapping[str, Tensor]) -> sc.Scores:
    """Raise layers that stay whole, and the best unit of each other, above all: without any unit nothing passes."""
    raised = {}
    for name, score in scores.items():
        best = score.flatten(1).amax(1)
        if name in within:
            best = best.masked_fill(~within[name].flatten(1).any(1), -torch.inf)
        raised[name] = score.clone()
        raised[name][slice(None) if name in whole_layers else best.argmax()] = torch.inf
    return sc.Scores(raised, scores.targets)


def _ranked(bench: Bench, pairs: list[sc.Chain], targets: sc.Weights) -> tuple[sc.Scores, list[str]]:
    """Return scores of units as the settings ask, and the layers of which those say nothing."""
    kind, rules = bench.settings.neuron_score, sc.criteria.neurons
    if kind not in ("activity", "taylor"):
        rule = {"incoming": rules.incoming, "outgoing": rules.outgoing, "product": rules.product}[kind]
        return rule(targets, pairs), []
    generator = torch.Generator().manual_seed(bench.settings.seed)
    data = batches(bench.data.train, bench.settings.batch_size, generator)
    sample = itertools.islice(data, -(-IMAGES // bench.settings.batch_size))
    stats = sc.stats.units(bench.model, sample, functional.cross_entropy, pairs)
    if kind == "taylor":
        return rules.taylor(targets, pairs, stats), []
    always = [name for name, active in stats.active.items() if bool((active == 1).all())]
    if always:
        bench.note(
            [f"activations of {', '.join(always)} are never zero, so activity ranks none of their units: all stay"]
        )
    return rules.activity(targets, pairs, stats), always
