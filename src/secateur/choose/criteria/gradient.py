"""Importance by what the loss says: first-order Taylor and SNIP. Statistics come from ``choose.stats``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.choose.stats import Gradients
from secateur.vocabulary import BadTargetError, NamedTensors, Scores, near_matches

__all__ = ["gradient", "snip"]


def gradient(weights: Mapping[str, Tensor], stats: Gradients) -> Scores:
    """Score every weight by the first-order Taylor estimate of what its removal does to the loss.

    The mean over batches of ``|w * dL/dw|``, each batch taken by itself so that opposite signs do not cancel.

    Source: Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference"
    (arXiv 1611.06440), eq. 7, per weight.

    Args:
        weights: tensors by name.
        stats: statistics of the same names, from :func:`secateur.choose.stats.gradients`.

    Returns:
        Scores in [0, inf), of the shapes of the weights.

    Raises:
        BadTargetError: the statistics lack a tensor.

    Example:
        >>> import torch
        >>> products = {"w": torch.tensor([2.0, 3.0])}
        >>> stats = Gradients(mean={}, mean_product=products, batches=2)
        >>> gradient({"w": torch.ones(2)}, stats)["w"]
        tensor([2., 3.])
    """
    return NamedTensors(weights).map_named(lambda name, _: _of(stats.mean_product, name))


@torch.no_grad()
def snip(weights: Mapping[str, Tensor], stats: Gradients) -> Scores:
    """Score every weight by its connection sensitivity, ``|w * mean dL/dw|``, normalised to sum 1.

    Meant for a network at initialisation, with statistics over one large batch or several small ones.

    Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning based on Connection Sensitivity"
    (arXiv 1810.02340), eq. 5 and 6.

    Args:
        weights: tensors by name.
        stats: statistics of the same names, from :func:`secateur.choose.stats.gradients`.

    Returns:
        Scores in [0, 1], of the shapes of the weights; they sum to 1 over all tensors unless all are 0.

    Raises:
        BadTargetError: the statistics lack a tensor.

    Example:
        >>> import torch
        >>> stats = Gradients(mean={"w": torch.tensor([1.0, -3.0])}, mean_product={}, batches=1)
        >>> snip({"w": torch.ones(2)}, stats)["w"]
        tensor([0.2500, 0.7500])
    """
    raw = NamedTensors(weights).map_named(lambda name, w: (w.detach() * _of(stats.mean, name)).abs())
    total = sum(float(score.double().sum()) for score in raw.values())
    return raw.map(lambda score: score / total) if total > 0 else raw


def _of(stats: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in stats:
        raise BadTargetError(f"the statistics lack {name!r}; {near_matches(name, stats)}; gather them for all targets")
    return stats[name]
