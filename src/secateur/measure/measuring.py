"""One call that measures a model: sparsity, multiply-adds, bytes, latency, peak memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.choose.targets import prunable
from secateur.masks import unwrap
from secateur.measure.cost import Timing, latency, peak_memory, size_in_bytes
from secateur.measure.macs import count_macs
from secateur.measure.report import LayerReport, Macs, Report, Share
from secateur.vocabulary import BadTargetError, NamedTensors, near_matches

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
        example: a tensor or a tuple of positional inputs; the first axis is the batch. Without it only counts and
            bytes are measured.
        masks: what was pruned; zeros are compared with it, and a leak is noted.
        target_sparsity: what was asked for; a miss is noted.
        timing: how to time, or None not to.

    Raises:
        BadTargetError: ``masks`` names what the model does not have.

    Example:
        >>> import secateur as sc
        >>> net = nn.Linear(10, 10, bias=False)
        >>> report = measure(net, torch.zeros(1, 10), masks=sc.prune(net, sparsity=0.75), timing=None)
        >>> report.targets.kept, report.macs.effective
        (25, 25)
    """
    plain = unwrap(model)
    weights = _targets(plain, masks)
    inputs = None if example is None else example if isinstance(example, tuple) else (example,)
    leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    batch = leaves[0].shape[0] if leaves and leaves[0].ndim else 1
    notes: list[str] = []
    macs, speed, memory = None, None, None
    if inputs is not None:
        with _evaluating(model):
            macs = count_macs(model, inputs)
            memory = peak_memory(model, inputs)
            if timing is not None:
                with torch.inference_mode():
                    speed = latency(lambda: model(*inputs), timing, batch)
    layers = [_layer(plain, name, weight, masks, macs, batch) for name, weight in weights.items()]
    share = Share(sum(layer.weights for layer in layers), sum(layer.kept for layer in layers))
    everything = list(plain.parameters())
    counted = [layer for layer in layers if layer.macs is not None]
    notes += _notes(layers, share, weights, masks, target_sparsity)
    return Report(
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
        notes=tuple(notes),
    )


def _targets(model: nn.Module, masks: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = dict(prunable(model))
    except BadTargetError:
        weights = dict(NamedTensors({}))
    known = dict(model.named_parameters(remove_duplicate=False))
    same = {id(w) for w in weights.values()}
    for name in masks or {}:
        if name not in known:
            raise BadTargetError(f"the model has no parameter {name!r}; {near_matches(name, known)}")
        if id(known[name]) not in same:
            weights[name] = known[name]
    return weights


def _kept(tensor: Tensor) -> int:
    return int(torch.count_nonzero(tensor.detach()))


def _layer(
    model: nn.Module,
    name: str,
    weight: Tensor,
    masks: Mapping[str, Tensor] | None,
    macs: Mapping[int, int] | None,
    batch: int,
) -> LayerReport:
    module = model.get_submodule(name.rpartition(".")[0])
    mask = masks.get(name) if masks else None
    removed = None if mask is None else 1 - int(mask.sum()) / max(1, mask.numel())
    used = None if macs is None else macs.get(id(weight), 0) // max(1, batch)
    return LayerReport(name, type(module).__name__, tuple(weight.shape), weight.numel(), _kept(weight), removed, used)


def _notes(
    layers: list[LayerReport],
    share: Share,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None,
    target_sparsity: float | None,
) -> list[str]:
    notes = []
    if target_sparsity is not None and abs(share.weights - share.kept - target_sparsity * share.weights) > 0.5:
        notes.append(f"asked for sparsity {target_sparsity:g} of the targets, reached {share.sparsity:.6f}")
    for name, mask in (masks or {}).items():
        if name not in weights:
            continue
        zero = weights[name].detach() == 0
        leaked, idle = int((~mask & ~zero).sum()), int((mask & zero).sum())
        if leaked:
            notes.append(f"{name}: {leaked} weights that the mask removes are not zero (a leak)")
        if idle:
            notes.append(f"{name}: {idle} weights are zero although the mask keeps them")
    notes += [f"{layer.name} is all zeros: no signal passes it" for layer in layers if layer.weights and not layer.kept]
    unused = [layer.name for layer in layers if layer.macs == 0 and layer.kind not in ("Embedding", "EmbeddingBag")]
    if unused:
        notes.append(f"the example did not reach {', '.join(unused)}, or their kind is not counted")
    if share.weights and share.kept == share.weights:
        notes.append("nothing is sparse: no target weight is zero")
    return notes


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode and back into the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    # The fused inference path of transformer layers calls no submodule, so nothing could be counted.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode
