"""Keep whole layers as they are while the others train."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from torch import nn

from secateur.masks import Masks
from secateur.modules import unwrap
from secateur.vocabulary import BadTargetError, near_matches

__all__ = ["Freeze", "freeze", "pruned_layers"]


class Freeze:
    """Layers that do not train until released; a context manager that is active from its creation."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._before = [(parameter, parameter.requires_grad) for parameter in parameters]
        for parameter, _ in self._before:
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimizer skips what has no gradient, weight decay and momentum included

    def release(self) -> None:
        """Let the layers train again as before."""
        while self._before:
            parameter, trained = self._before.pop()
            parameter.requires_grad_(trained)

    def __enter__(self) -> Freeze:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def pruned_layers(masks: Masks, above: float | None = None) -> tuple[str, ...]:
    """Return the weights whose layers took the pruning: a larger share of zeros than ``above``.

    By default that is the share of the whole model: the layers above it gave more than their part, and what is left of
    them is what the ranking trusts; the layers below it have the capacity to adapt. If all layers lie above the limit
    none is returned, as nothing would be left to train.

    Args:
        masks: biases among them are passed over.
        above: share of zeros, in [0, 1].

    Example:
        >>> import torch
        >>> masks = Masks({"a": torch.tensor([[True, False]]), "b": torch.tensor([[True, True]])})
        >>> pruned_layers(masks)
        ('a',)
    """
    limit = masks.sparsity if above is None else above
    weights = [name for name in masks if masks[name].ndim > 1]
    over = tuple(name for name in weights if masks.count(name).sparsity > limit)
    return over if len(over) < len(weights) else ()


def freeze(model: nn.Module, names: Iterable[str]) -> Freeze:
    """Freeze the layers that hold the named tensors: all parameters of those modules, biases included.

    Source: of convolutional and dense layers in turn, Han et al. 2015 (arXiv 1506.02626), section 3.3.

    Args:
        model: the network; wrappers of ``torch.compile`` and DDP are looked through.
        names: parameter names (as in masks) or module names.

    Raises:
        BadTargetError: a name is neither a parameter nor a module.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> with freeze(net, ["0.weight"]):
        ...     print([name for name, p in net.named_parameters() if p.requires_grad])
        ['1.weight', '1.bias']
    """
    model = unwrap(model)
    modules = dict(model.named_modules())
    found: dict[nn.Parameter, None] = {}
    for name in names:
        owner, _, key = (name, "", "") if name in modules else name.rpartition(".")
        if owner not in modules or (key and key not in modules[owner]._parameters):
            known = [each for each, _ in model.named_parameters()]
            raise BadTargetError(f"the model has no layer {name!r}; {near_matches(name, known)}")
        # A tensor that stands beside whole layers, such as an embedding of positions, does not freeze them.
        found |= dict.fromkeys(modules[owner].parameters(recurse=not key))
    return Freeze(found)
