"""The moment in an optimizer's step when gradients are all there and none has been used yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

__all__ = ["loss_scale", "overflowed", "when_gradients_are_there"]


def when_gradients_are_there(optimizer: Optimizer, act: Callable[[], None]) -> RemovableHandle:
    """Call ``act`` in each step of the optimizer once gradients are computed, until the handle is removed.

    Without a closure that is when the step begins; a closure computes them in the step, perhaps more than once.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> handle = when_gradients_are_there(optimizer, lambda: print(weight.grad.item()))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     (3 * weight.sum()).backward()
        >>> optimizer.step(closure)
        3.0
    """

    def before_step(stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            act()
            return None

        def closing() -> Any:
            loss = closure()
            act()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": closing}
        return (args[0], closing, *args[2:]), kwargs

    return optimizer.register_step_pre_hook(before_step)


def loss_scale(optimizer: Optimizer) -> Tensor | float:
    """Return what gradients are still multiplied by: fused optimizers undo a GradScaler's scale inside their step."""
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else scale


def overflowed(optimizer: Optimizer) -> bool:
    """Tell whether a fused optimizer's step leaves all as it is, because a GradScaler found infinite gradients."""
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found.any())
