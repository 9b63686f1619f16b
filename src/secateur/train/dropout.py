"""Dropout that eases as the layers it feeds lose connections."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from secateur.modules import in_eval_mode, unwrap

__all__ = ["Dropouts"]


class Dropouts:
    """The dropout modules of a model, their rates when this was made, and the target each of them feeds.

    Sparse layers have less capacity, so dropout must be weaker: ``D_r = D_o * sqrt(C_r / C_o)`` for rates D and
    connection counts C of the layer that reads the dropped units, o before pruning, r while retraining.

    Source: Han et al. 2015 (arXiv 1506.02626), section 3.2, eq. 2.

    Args:
        model: the network; dropout modules and targets are paired in the order in which ``example`` passes them.
        example: an input of the model, a batch.

    Example:
        >>> import secateur as sc
        >>> net = nn.Sequential(nn.Dropout(0.5), nn.Linear(100, 10))
        >>> dropouts = Dropouts(net, torch.zeros(1, 100))
        >>> dropouts.rescale(sc.prune(net, sparsity=0.75)), net[0].p
        ({'0': 0.25}, 0.25)
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        model = unwrap(model)
        self._modules = {n: m for n, m in model.named_modules() if isinstance(m, _DropoutNd)}
        self._rates = {name: module.p for name, module in self._modules.items()}
        self._feeds = _next_weights(model, example) if self._modules else {}

    def rescale(self, masks: Mapping[str, Tensor]) -> dict[str, float]:
        """Set every rate by the masks of the target it feeds, from the rate at the start; return the rates."""
        rates = {}
        for name, module in self._modules.items():
            mask = masks.get(self._feeds.get(name, ""))
            kept = 1.0 if mask is None else float(mask.sum()) / max(1, mask.numel())
            rates[name] = module.p = self._rates[name] * math.sqrt(kept)
        return rates

    def restore(self) -> None:
        """Put the rates back to those at the start."""
        for name, module in self._modules.items():
            module.p = self._rates[name]


def _next_weights(model: nn.Module, example: Tensor) -> dict[str, str]:
    """Return the weight of the layer that runs next after each dropout module."""
    order: list[tuple[str, nn.Module]] = []
    # Tied weights have one name among the targets, that of the first.
    first = {id(parameter): name for name, parameter in model.named_parameters()}

    def note(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(lambda *_: order.append((name, module)))

    watched = [(n, m) for n, m in model.named_modules() if isinstance(m, _DropoutNd) or _reading(m)]
    handles = [note(name, module) for name, module in watched]
    try:
        with in_eval_mode(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    feeds: dict[str, str] = {}
    waiting: list[str] = []
    for name, module in order:
        if isinstance(module, _DropoutNd):
            waiting.append(name)
        else:
            weight = first[id(module._parameters[_reading(module)])]
            feeds |= {each: weight for each in waiting if each not in feeds}
            waiting.clear()
    return feeds


def _reading(module: nn.Module) -> str:
    """Return the key of the weight that reads a module's input, the first matrix of that name; "" if there is none."""
    weights = ((key, p) for key, p in module._parameters.items() if "weight" in key and p is not None)
    return "" if isinstance(module, nn.LayerNorm) else next((key for key, p in weights if p.ndim > 1), "")
