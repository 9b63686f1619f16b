"""One call that measures a model: sparsity, multiply-adds, bytes, latency, peak memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.choose.targets import prunable
from secateur.masks import bind, parameters_of
from secateur.measure.cost import Timing, latency, peak_memory, size_in_bytes
from secateur.measure.macs import count_macs, has_rule
from secateur.measure.report import LayerReport, Macs, Report, Share
from secateur.modules import in_eval_mode, refuse_keras, refuse_valueless, unwrap
from secateur.vocabulary import BadTargetError, SelectionError

__all__ = ["measure"]

Example = Tensor | tuple[Any, ...]


def measure(
    model: nn.Module,
    example: Example | None = None,
    *,
    masks: Mapping[str, Tensor] | None = None,
    target_sparsity: float | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - a frozen value
) -> Report:
    """Measure what a model is and costs, as it stands; nothing about it is changed.

    Effective multiply-adds are the dense ones times the kept share of each layer (Blalock et al. 2020, "What is the
    State of Neural Network Pruning?", arXiv 2003.03033): what a perfect sparse engine would do, not what dense
    kernels do. Latency is that of the model as it stands, in eval mode.

    Args:
        model: any module; the targets are those of :func:`secateur.prunable`, and any others that ``masks`` names.
        example: a tensor or a tuple of positional inputs; the first axis of its first tensor is the batch (a recurrent
            or attention layer that is itself the model goes by its ``batch_first``). Without it only counts and bytes
            are measured.
        masks: what was pruned; zeros are compared with it, and a leak is noted.
        target_sparsity: what was asked for, of the targets that ``masks`` names if given; a miss is noted.
        timing: how to time, or None not to.

    Raises:
        BadTargetError: ``masks`` names what the model does not have or does not fit it, or a parameter holds no
            values (a lazy layer, the meta device), or the model is one of Keras.
        SelectionError: ``target_sparsity`` is outside [0, 1].

    Example:
        >>> import secateur as sc
        >>> net = nn.Linear(10, 10, bias=False)
        >>> report = measure(net, torch.zeros(1, 10), masks=sc.prune(net, sparsity=0.75), timing=None)
        >>> report.targets.kept, report.macs.effective
        (25, 25)
    """
    refuse_keras(model, "measure")
    plain = unwrap(model)
    _check(plain, target_sparsity)
    weights, fitted = _targets(plain, masks)
    inputs = None if example is None else example if isinstance(example, tuple) else (example,)
    batch = _batch(plain, inputs)
    macs, speed, memory = None, None, None
    if inputs is not None:
        with in_eval_mode(model):
            with _unfused():
                macs = count_macs(plain, inputs)
                memory = peak_memory(plain, inputs)
            if timing is not None:
                with torch.inference_mode():
                    speed = latency(lambda: model(*inputs), timing, batch)
    layers = [_layer(plain, name, weight, fitted.get(name), macs, batch) for name, weight in weights.items()]
    share = Share(sum(layer.weights for layer in layers), sum(layer.kept for layer in layers))
    everything = list(plain.parameters())
    counted = [layer for layer in layers if layer.macs is not None]
    report = Report(
        targets=share,
        parameters=Share(sum(p.numel() for p in everything), sum(_kept(p) for p in everything)),
        layers=tuple(layers),
        bytes=size_in_bytes(plain),
        target_sparsity=target_sparsity,
        macs=macs
        if macs is None
        else Macs(sum(x.macs or 0 for x in counted), sum(x.macs_effective or 0 for x in counted)),
        latency=speed,
        peak_memory_bytes=memory,
    )
    notes = [*_count_notes(report), *_mask_notes(weights, fitted), *(_macs_notes(plain, report) if inputs else [])]
    return dataclasses.replace(report, notes=tuple(notes))


def _check(model: nn.Module, target_sparsity: float | None) -> None:
    if target_sparsity is not None and not 0 <= target_sparsity <= 1:
        raise SelectionError(f"target_sparsity is a share between 0 and 1, got {target_sparsity}")
    refuse_valueless(dict(model.named_parameters()), "measure")


def _batch(model: nn.Module, inputs: tuple[Any, ...] | None) -> int:
    """Return how many examples the inputs hold."""
    shape = next((leaf.shape for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)), torch.Size())
    if isinstance(model, nn.RNNBase | nn.MultiheadAttention):
        return 1 if len(shape) < 3 else shape[0 if model.batch_first else 1]
    return shape[0] if shape else 1


def _targets(model: nn.Module, masks: Mapping[str, Tensor] | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the targets, and the masks under the names of their targets (a tied tensor has several names)."""
    try:
        weights: dict[str, Tensor] = dict(prunable(model))
    except BadTargetError:
        weights = {}
    names = {id(weight): name for name, weight in weights.items()}
    fitted: dict[str, Tensor] = {}
    if masks:
        parameters = parameters_of(model, masks)
        for name, mask in bind(model, masks).items():
            own = names.setdefault(id(parameters[name]), name)
            weights[own] = parameters[name]
            fitted[own] = fitted[own] & mask if own in fitted else mask
    return weights, fitted


def _kept(tensor: Tensor) -> int:
    return int(torch.count_nonzero(tensor.detach()))


def _layer(
    model: nn.Module, name: str, weight: Tensor, mask: Tensor | None, macs: Mapping[int, int] | None, batch: int
) -> LayerReport:
    owner, _, key = name.rpartition(".")
    module = model.get_submodule(owner)
    removed = None if mask is None else int((~mask).sum()) / max(1, mask.numel())
    used = None
    # Adding a bias multiplies nothing; of a kind without a rule nothing is known.
    if macs is not None and (id(weight) in macs or "bias" in key or has_rule(module)):
        used = macs.get(id(weight), 0) // max(1, batch)
    return LayerReport(name, type(module).__name__, tuple(weight.shape), weight.numel(), _kept(weight), removed, used)


def _count_notes(report: Report) -> Iterator[str]:
    reached, asked = report.reached, report.target_sparsity
    if asked is not None and abs(reached.weights - reached.kept - asked * reached.weights) > 0.5 + 1e-6:
        yield f"asked for sparsity {asked:g} of the targets, reached {reached.sparsity:.6f}"
    apart = [layer.name for layer in report.layers if layer.mask_sparsity is None]
    if apart and len(apart) < len(report.layers):
        yield f"without a mask: {', '.join(apart)}"
    for layer in report.layers:
        if layer.weights and not layer.kept:
            yield f"{layer.name} is all zeros: no signal passes it"
    if not report.layers:
        yield "there is no target: no tensor of a kind that secateur.prunable knows"
    elif report.targets.weights and report.targets.kept == report.targets.weights:
        yield "nothing is sparse: no target weight is zero"


def _mask_notes(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Iterator[str]:
    for name, mask in masks.items():
        zero = weights[name].detach() == 0
        leaked, idle = int((~mask & ~zero).sum()), int((mask & zero).sum())
        if leaked:
            yield f"{name}: {leaked} weights that the mask removes are not zero (a leak)"
        if idle:
            yield f"{name}: {idle} weights are zero although the mask keeps them"


def _macs_notes(model: nn.Module, report: Report) -> Iterator[str]:
    """Say which work is missing from the multiply-adds."""
    looked_up = ("Embedding", "EmbeddingBag")
    unused = [x.name for x in report.layers if x.macs == 0 and x.kind not in looked_up and "bias" not in x.name]
    if unused:
        yield f"the example did not reach {', '.join(unused)}"
    unknown = {layer.name: layer.kind for layer in report.layers if layer.macs is None}
    for owner, module in model.named_modules():
        if has_rule(module) or isinstance(module, nn.LayerNorm):
            continue
        for key, parameter in module.named_parameters(recurse=False):
            # Vectors scale or shift; anything larger may be multiplied in a way nobody told us.
            if parameter.ndim > 1:
                unknown[f"{owner}.{key}" if owner else key] = type(module).__name__
    if unknown:
        yield f"kinds not counted in the MACs: {', '.join(f'{name} ({kind})' for name, kind in unknown.items())}"
    if any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        yield "products of queries, keys and values have no weights and are not counted in the MACs"


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Keep transformer layers off their fused inference path: it calls no submodule, so nothing could be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
