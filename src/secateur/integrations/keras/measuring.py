"""A Keras model measured as :func:`secateur.measure` measures a torch one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from secateur.integrations.keras.pruning import masks_of
from secateur.integrations.keras.targets import DEPTHWISE, Variable, find, read
from secateur.measure.cost import Timing, bytes_of, latency
from secateur.measure.report import LayerReport, Macs, Report, Share
from secateur.vocabulary import SelectionError

__all__ = ["measure"]

READ_BY_INPUT = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
Shape = tuple[int, ...]


def measure(
    model: Any,
    example: Any = None,
    *,
    target_sparsity: float | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - a frozen value
) -> Report:
    """Measure a Keras model on any backend, as it stands; nothing about it is changed.

    Args:
        model: a built ``keras.Model``.
        example: an array, or what else the model takes, its first axis the batch; without it only counts and bytes
            are measured.
        target_sparsity: what was asked for; a miss is noted.
        timing: how to time ``model(example)``, or None not to.

    Returns:
        The report; multiply-adds are those of layers whose kernels can be pruned, peak memory is left out.

    Raises:
        SelectionError: ``target_sparsity`` is outside [0, 1].
    """
    if target_sparsity is not None and not 0 <= target_sparsity <= 1:
        raise SelectionError(f"target_sparsity is a share between 0 and 1, got {target_sparsity}")
    targets = find(model)
    batch = 1 if example is None else int(keras.tree.flatten(example)[0].shape[0])
    uses = None if example is None else _uses(model, targets, example, batch)
    held = masks_of(model)
    layers = []
    for each in targets:
        value = read(each.variable)
        removed = held.count(each.name).sparsity if each.name in held else None
        macs = None if uses is None else uses.get(each.name, 0) * value.numel()
        kept = int(value.count_nonzero())
        kind = type(each.layer).__name__
        layers.append(LayerReport(each.name, kind, tuple(value.shape), value.numel(), kept, removed, macs))
    everything = [read(variable) for variable in model.weights]
    share = Share(sum(layer.weights for layer in layers), sum(layer.kept for layer in layers))
    speed = None
    if example is not None and timing is not None:
        speed = latency(lambda: keras.ops.convert_to_numpy(_first(model(example, training=False))), timing, batch)
    return Report(
        targets=share,
        parameters=Share(sum(v.numel() for v in everything), sum(int(v.count_nonzero()) for v in everything)),
        layers=tuple(layers),
        bytes=bytes_of({v.path: read(v).cpu().contiguous() for v in model.weights}),
        target_sparsity=target_sparsity,
        macs=None
        if uses is None
        else Macs(sum(x.macs or 0 for x in layers), sum(x.macs_effective or 0 for x in layers)),
        latency=speed,
        notes=tuple(_notes(layers, share, target_sparsity)),
    )


def _first(outputs: Any) -> Any:
    return keras.tree.flatten(outputs)[0]


def _notes(layers: list[LayerReport], share: Share, asked: float | None) -> Iterator[str]:
    if asked is not None and abs(share.weights - share.kept - asked * share.weights) > 0.5 + 1e-6:
        yield f"asked for sparsity {asked:g} of the targets, reached {share.sparsity:.6f}"
    for layer in layers:
        if layer.weights and not layer.kept:
            yield f"{layer.name} is all zeros: no signal passes it"


def _uses(model: Any, targets: list[Variable], example: Any, batch: int) -> dict[str, int]:
    """Return how often each weight of a variable is used for one example."""
    shapes: dict[int, tuple[Shape, Shape]] = {}
    layers = {id(layer): layer for layer in model._flatten_layers(include_self=False)}
    with contextlib.ExitStack() as stack:
        for layer in layers.values():
            stack.enter_context(_watched(layer, shapes))
        model(example, training=False)
    steps = {id(layer.cell): layer for layer in layers.values() if isinstance(layer, keras.layers.RNN)}
    return {each.name: _used(each, shapes, steps) // max(1, batch) for each in targets}


def _used(target: Variable, shapes: Mapping[int, tuple[Shape, Shape]], steps: Mapping[int, Any]) -> int:
    layer: Any = target.layer
    if id(layer) in steps:  # a cell runs once for each step of its layer
        read_, _ = shapes.get(id(steps[id(layer)]), ((0, 0), ()))
        return math.prod(read_[:2])
    if isinstance(layer, keras.layers.Embedding) or id(layer) not in shapes:
        return 0  # looking up multiplies nothing
    inputs, outputs = shapes[id(layer)]
    shape = target.to_core(read(target.variable)).shape
    if isinstance(layer, tuple(getattr(keras.layers, kind) for kind in READ_BY_INPUT)):
        return math.prod(inputs) // shape[1]
    if isinstance(layer, tuple(getattr(keras.layers, kind) for kind in DEPTHWISE[2:])):
        return math.prod(outputs) // int(target.layer.pointwise_kernel.shape[-1])
    return math.prod(outputs) // shape[0]


@contextlib.contextmanager
def _watched(layer: Any, shapes: dict[int, tuple[Shape, Shape]]) -> Iterator[None]:
    """Note the shapes of what a layer reads and writes."""
    call = layer.call

    def noting(*args: Any, **keywords: Any) -> Any:
        outputs = call(*args, **keywords)
        flat = keras.tree.flatten((args, keywords))
        read_ = next((x.shape for x in flat if hasattr(x, "shape")), ())
        shapes[id(layer)] = (tuple(map(int, read_)), tuple(map(int, _first(outputs).shape)))
        return outputs

    layer.__dict__["call"] = noting
    try:
        yield
    finally:
        del layer.__dict__["call"]
