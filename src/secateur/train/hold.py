"""Keep pruned weights, their gradients and their optimizer state at zero while anyone's loop trains.

The gradient is masked as soon as it is accumulated. An optimizer that works weight by weight then leaves a zero
weight with zero state at zero by its own arithmetic, so nothing has to be rewritten after the step.
"""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.masks import Masks, bind
from secateur.modules import innermost
from secateur.train.stepping import when_gradients_are_there, wrappers_with_hooks
from secateur.vocabulary import BadTargetError, SecateurWarning

__all__ = ["Hold", "hold"]

# Their update of a weight is 0 when weight, gradient and state are 0. Exact types: a subclass may do anything.
_ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.RMSprop,
)
_SMALL = 1 << 20
_ACTIVE: weakref.WeakSet[Hold] = weakref.WeakSet()
_BY_DTYPE = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def hold(optimizer: Optimizer, masks: Mapping[str, Tensor], model: nn.Module | None = None) -> Hold:
    """Hold masked weights at exactly zero from now on, until the returned :class:`Hold` is released.

    Zeroes the weights and the optimizer's state of them at once. Names, ``state_dict`` keys, ``deepcopy``,
    ``torch.compile``, AMP and gradient accumulation are not affected. With optimizers known to work weight by
    weight (SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop) the only cost is one pass over
    each gradient; with any other, and with one around another (Lookahead), the weights and state are also zeroed after
    each step. What is written into ``grad`` of a parameter after ``backward``, as noise is, has to leave the masked
    places at zero.

    Warns (:class:`SecateurWarning`) of masked weights that want a gradient and that the optimizer does not train, for
    another one might bring them back; and of those that another hold or pruner still holds.

    Args:
        optimizer: the optimizer that trains the masked weights.
        masks: masks made by ``prune``, ``select`` or ``apply`` on a live model, or any others with ``model``.
        model: needed only when the masks do not know their parameters, as after ``Masks.load``.

    Raises:
        BadTargetError: the masks are not tied to a model and none is given, or do not fit it.
        TypeError: the optimizer is not a ``torch.optim.Optimizer``.

    Example:
        >>> import secateur as sc
        >>> net = nn.Linear(4, 1)
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> with sc.hold(optimizer, sc.prune(net, sparsity=0.5)):
        ...     net(torch.randn(8, 4)).sum().backward()
        ...     optimizer.step()
        >>> int((net.weight == 0).sum())
        2
    """
    return Hold(optimizer, masks if model is None else bind(model, masks))


class Hold:
    """Active masks on an optimizer's parameters; a context manager that is active from its creation.

    Args:
        optimizer: as for :func:`hold`.
        masks: tied to a model.
        learn: called with the optimizer in each of its steps while gradients are there and not masked yet.
    """

    def __init__(
        self, optimizer: Optimizer, masks: Mapping[str, Tensor], learn: Callable[[Optimizer], None] | None = None
    ) -> None:
        self._optimizer = innermost(optimizer)
        self._around = wrappers_with_hooks(optimizer)
        self._learn = learn  # from whole gradients, before they are masked
        self._arrived: set[nn.Parameter] = set()  # whose gradients were masked on arrival
        self._strangers: frozenset[str] = frozenset()
        # One list for good: who has it can take the hooks away when this object is gone.
        self.handles: list[torch.utils.hooks.RemovableHandle] = []
        self._after_step: list[nn.Parameter] = []
        self._kept_bits: dict[nn.Parameter, Tensor] = {}
        self.masks = Masks({})
        self._warn_of_others(_live_parameters(masks))
        self.update(masks)
        _ACTIVE.add(self)

    def update(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks; newly masked weights and their state become zero at once."""
        parameters = _live_parameters(masks)
        self.release()
        self.masks = masks if isinstance(masks, Masks) else Masks(masks)
        for name, parameter in parameters.items():
            self._kept_bits[parameter] = _kept_bits(masks[name], parameter.dtype)
            self._zero(parameter)
            if parameter.requires_grad and self._learn is None:
                hook = _gradient_hook(self._kept_bits[parameter], self._arrived)
                self.handles.append(parameter.register_post_accumulate_grad_hook(hook))
            if not parameter.requires_grad or not _leaves_zeros(self._optimizer, parameter.dtype):
                # A frozen parameter may be thawed while it is held, and would have no gradient hook.
                self._after_step.append(parameter)
        self.handles.append(when_gradients_are_there(self._optimizer, self._mask_the_rest))
        if self._after_step:
            self.handles.append(self._optimizer.register_step_post_hook(self._zero_after_step))
        for wrapper in self._around:
            self.handles.append(wrapper.register_step_post_hook(self._zero_all))
        self._warn_of_strangers(parameters)

    def release(self) -> None:
        """Take all hooks away; the weights stay as they are."""
        while self.handles:
            self.handles.pop().remove()
        self._after_step.clear()
        self._kept_bits.clear()
        self._arrived.clear()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @torch.no_grad()
    def _mask_the_rest(self) -> None:
        """Mask the gradients that came by another way than ``backward``, or that something was to be learned from."""
        if self._learn is not None:
            self._learn(self._optimizer)
        for parameter, kept_bits in self._kept_bits.items():
            if parameter not in self._arrived:
                _clear_gradient(parameter, kept_bits)
        self._arrived.clear()

    def _warn_of_others(self, parameters: Mapping[str, nn.Parameter]) -> None:
        held = {id(parameter) for other in _ACTIVE for parameter in other._kept_bits}
        twice = [name for name, parameter in parameters.items() if id(parameter) in held]
        if twice:
            warnings.warn(
                f"{twice} are held already, and stay so under both masks; release the hold, or finalize the pruner, "
                "that was left from before",
                SecateurWarning,
                stacklevel=4,
            )

    def _warn_of_strangers(self, parameters: Mapping[str, nn.Parameter]) -> None:
        own = {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}
        strangers = frozenset(name for name, p in parameters.items() if p.requires_grad and id(p) not in own)
        if strangers - self._strangers:
            warnings.warn(
                f"the optimizer does not train {sorted(strangers)}, whose zeros are to be held: where another one "
                "trains them they come back; give that one, or the targets of each optimizer to a hold of its own",
                SecateurWarning,
                stacklevel=4,
            )
        self._strangers = strangers

    def _zero_after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        for parameter in self._after_step:
            self._zero(parameter)

    def _zero_all(self, wrapper: Optimizer, args: object, kwargs: object) -> None:
        for parameter in self._kept_bits:
            self._zero(parameter)

    @torch.no_grad()
    def _zero(self, parameter: nn.Parameter) -> None:
        states = [each.state.get(parameter, {}).values() for each in (self._optimizer, *self._around)]
        _clear_gradient(parameter, self._kept_bits[parameter])
        # Detached it shares the counter of versions: who holds a copy of the weights can see that they changed.
        for tensor in itertools.chain([parameter.detach()], *states):
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                _clear(tensor, self._kept_bits[parameter])


def _live_parameters(masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    masks = masks if isinstance(masks, Masks) else Masks(masks)
    targets, parameters = masks.targets, {}
    for name, mask in masks.stored.items():
        reference = targets[name].parameter if name in targets else None
        parameter = reference() if reference is not None else None
        if parameter is None:
            raise BadTargetError(f"the mask of {name!r} is not tied to a live model; pass hold(..., model=model)")
        if parameter.shape != mask.shape:
            raise BadTargetError(
                f"the mask of {name!r} has shape {list(mask.shape)}, the parameter {list(parameter.shape)}"
            )
        parameters[name] = cast(nn.Parameter, parameter)
    return parameters


def _leaves_zeros(optimizer: Optimizer, dtype: torch.dtype) -> bool:
    """Return whether a step leaves a weight of zero value, gradient and state at zero by its own arithmetic."""
    if type(optimizer) not in _ELEMENTWISE:
        return False
    # An eps that is 0 in the weight's dtype, as 1e-8 is in float16, makes 0 / 0 of it.
    divides = any(
        float(torch.tensor(float(group.get("eps", 1.0)), dtype=dtype)) == 0 for group in optimizer.param_groups
    )
    return not divides


def _kept_bits(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as integers with all bits set (-1) where kept, none where removed.

    Integers as wide as the gradient's elements make the AND some two and a half times faster, which shows in the steps
    of small networks only; large tensors have one byte a weight.
    """
    integer = _BY_DTYPE.get(dtype, torch.int8) if mask.numel() <= _SMALL else torch.int8
    return mask.to(integer).neg_()


def _gradient_hook(kept_bits: Tensor, arrived: set[nn.Parameter]) -> Callable[[nn.Parameter], None]:
    """Return the hook that masks a gradient. It runs for every target at every step, so it is kept short."""

    def mask(parameter: nn.Parameter) -> None:
        _clear_gradient(parameter, kept_bits)
        arrived.add(parameter)

    return mask


def _clear_gradient(parameter: Tensor, kept_bits: Tensor) -> None:
    gradient = parameter.grad
    if gradient is None:
        return
    if gradient.layout == torch.sparse_coo:
        # Of an embedding: only its own rows are there, some of them more than once until they are summed.
        parameter.grad = gradient = gradient.detach().coalesce()
        gradient.values().masked_fill_(kept_bits[tuple(gradient.indices())] == 0, 0.0)
    else:
        _clear(gradient.detach(), kept_bits)


def _clear(tensor: Tensor, kept_bits: Tensor) -> None:
    """Set the removed elements of a tensor to zero.

    A bitwise AND is many times faster than ``masked_fill_`` on CPU and, unlike multiplication by the mask, turns
    infinities and NaN into zero as well.
    """
    integer = _BY_DTYPE.get(tensor.dtype)
    if integer is None or tensor.layout != torch.strided:
        # State of other dtypes.
        tensor.mul_(kept_bits.abs())
    else:
        tensor.view(integer).bitwise_and_(kept_bits)
