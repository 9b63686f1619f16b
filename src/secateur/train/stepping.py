"""The moments of an optimizer's step: gradients are all there and not used yet; and what wrappers add to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from secateur.modules import wrappers
from secateur.vocabulary import SecateurWarning

__all__ = ["loss_scale", "overflowed", "when_gradients_are_there", "wrappers_with_hooks"]


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


def wrappers_with_hooks(optimizer: Optimizer) -> list[Optimizer]:
    """Return the wrappers around an optimizer that may move weights after it has stepped, as Lookahead does.

    Warns (:class:`SecateurWarning`) of those that never call the hooks of their steps, and leaves them out.
    """
    found = []
    for wrapper in wrappers(optimizer):
        if getattr(type(wrapper).step, "hooked", False) and hasattr(wrapper, "_optimizer_step_post_hooks"):
            found.append(wrapper)
            continue
        warnings.warn(
            f"{type(wrapper).__name__} calls no hooks after its steps, for it never called "
            "torch.optim.Optimizer.__init__: should it move weights that the optimizer inside left in place, that "
            "goes unnoticed",
            SecateurWarning,
            stacklevel=4,
        )
    return found


def loss_scale(optimizer: Optimizer) -> Tensor | float:
    """Return what gradients are still multiplied by: fused optimizers undo a GradScaler's scale inside their step."""
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else scale


def overflowed(optimizer: Optimizer) -> bool:
    """Tell whether a fused optimizer's step leaves all as it is, because a GradScaler found infinite gradients."""
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found.any())
