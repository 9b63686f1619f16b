"""What every room does with a module: look through wrappers, and evaluate it without leaving a trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.vocabulary import BadTargetError

__all__ = ["in_eval_mode", "innermost", "refuse_keras", "refuse_valueless", "unwrap", "wrappers"]

_HANDING_ON = ("accelerate", "lightning", "lightning_fabric", "pytorch_lightning")


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's module inside ``torch.compile`` and (Distributed)DataParallel wrappers.

    Names then stay those of the plain model's ``state_dict`` whatever it is wrapped in.
    """
    while True:
        if hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = cast(nn.Module, model.module)
        else:
            return model


def refuse_keras(model: Any, name: str, inside: bool = False) -> None:
    """Refuse a Keras model, which on the torch backend is a module too but reads weights from variables of its own.

    Args:
        model: of any kind.
        name: of the function that was called; the adapter has one of the same name.
        inside: refuse a torch module that holds a layer of Keras too.

    Raises:
        BadTargetError: the model is one of Keras.
    """
    layer = getattr(getattr(sys.modules.get("keras"), "layers", None), "Layer", None)
    if layer is None:
        return
    if isinstance(model, layer):
        raise BadTargetError(f"secateur.{name} takes a torch module; for Keras: secateur.integrations.keras.{name}")
    if inside and isinstance(model, nn.Module) and any(isinstance(module, layer) for module in model.modules()):
        raise BadTargetError(f"secateur.{name} cannot follow the Keras layers inside this torch module")


def refuse_valueless(tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuse tensors that have a place but no values: those of a lazy layer, or on the meta device.

    Args:
        tensors: by name.
        name: of the function that was called.

    Raises:
        BadTargetError: one is such.
    """
    for each, tensor in tensors.items():
        if isinstance(tensor, nn.UninitializedParameter) or tensor.is_meta:
            raise BadTargetError(f"{each!r} holds no values yet: load weights, or call a lazy model once, then {name}")


def innermost(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer that steps, inside wrappers such as accelerate's: hooks on those would never be called.

    Raises:
        TypeError: it is no ``torch.optim.Optimizer``, which alone has hooks and state in known places.
    """
    if not isinstance(optimizer, Optimizer):
        kind = f"{type(optimizer).__module__}.{type(optimizer).__name__}"
        raise TypeError(f"{kind} is not a torch.optim.Optimizer; wrap it in a subclass of torch.optim.Optimizer")
    return _nested(optimizer)[-1]


def wrappers(optimizer: Optimizer) -> list[Optimizer]:
    """Return what is around an optimizer and may move weights after it, as Lookahead does, the outermost last.

    Those of accelerate and Lightning only hand the step on.
    """
    around = _nested(optimizer)[-2::-1]
    return [each for each in around if type(each).__module__.partition(".")[0] not in _HANDING_ON]


def _nested(optimizer: Optimizer) -> list[Optimizer]:
    nested = [optimizer]
    while isinstance(inner := getattr(nested[-1], "optimizer", None), Optimizer):
        nested.append(inner)
    return nested


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluate a model inside a ``with``; afterwards each of its modules is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
