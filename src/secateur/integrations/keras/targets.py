"""The prunable variables of a Keras model, and how each is laid out as the core sees weights: outputs first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import keras
import numpy as np
import torch
from torch import Tensor

from secateur.vocabulary import BadTargetError, NamedTensors, near_matches

__all__ = ["Pattern", "Variable", "as_array", "as_tensor", "find", "prunable", "read"]

Pattern: TypeAlias = str | type
Order: TypeAlias = Callable[[Any, int], tuple[int, ...]]


def _reversed(_layer: Any, _rank: int) -> tuple[int, ...]:
    return (1, 0)


def _kernel(_layer: Any, rank: int) -> tuple[int, ...]:
    """(kernel..., in, out) of a convolution."""
    return (rank - 1, rank - 2, *range(rank - 2))


def _transposed(_layer: Any, rank: int) -> tuple[int, ...]:
    """(kernel..., out, in) of a transposed convolution; (kernel..., in, multiplier) of a depthwise one."""
    return (rank - 2, rank - 1, *range(rank - 2))


def _as_is(_layer: Any, rank: int) -> tuple[int, ...]:
    return tuple(range(rank))


def _einsum(layer: Any, rank: int) -> tuple[int, ...]:
    """Axes that the equation keeps (outputs) ahead of those that it sums over (inputs)."""
    outs = _einsum_outputs(layer)
    return (*outs, *(axis for axis in range(rank) if axis not in outs))


def _einsum_outputs(layer: Any) -> list[int]:
    operands, _, result = str(layer.equation).partition("->")
    return [axis for axis, letter in enumerate(operands.partition(",")[2]) if letter in result]


# Variable names by layer class, with the order that puts output axes first. Cells stand for their recurrent layers.
KINDS: tuple[tuple[str, dict[str, Order]], ...] = (
    ("Dense", {"kernel": _reversed}),
    ("EinsumDense", {"kernel": _einsum}),
    ("Conv1D", {"kernel": _kernel}),
    ("Conv2D", {"kernel": _kernel}),
    ("Conv3D", {"kernel": _kernel}),
    ("Conv1DTranspose", {"kernel": _transposed}),
    ("Conv2DTranspose", {"kernel": _transposed}),
    ("Conv3DTranspose", {"kernel": _transposed}),
    ("DepthwiseConv1D", {"kernel": _transposed}),
    ("DepthwiseConv2D", {"kernel": _transposed}),
    ("SeparableConv1D", {"depthwise_kernel": _transposed, "pointwise_kernel": _kernel}),
    ("SeparableConv2D", {"depthwise_kernel": _transposed, "pointwise_kernel": _kernel}),
    ("Embedding", {"embeddings": _as_is}),
    ("LSTMCell", {"kernel": _reversed, "recurrent_kernel": _reversed}),
    ("GRUCell", {"kernel": _reversed, "recurrent_kernel": _reversed}),
    ("SimpleRNNCell", {"kernel": _reversed, "recurrent_kernel": _reversed}),
)
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")


@dataclass(frozen=True)
class Variable:
    """A prunable variable, the layer it belongs to and its attribute there.

    Attributes:
        name: its path, such as "sequential/dense/kernel".
        layer: a ``keras.Layer``.
        key: attribute of the layer.
        variable: the ``keras.Variable``.
        order: of its axes, outputs first.
        depthwise: whether each input has filters of its own.
        outs: how many leading axes of the order count outputs, where several do; they become one, and so do the rest.
    """

    name: str
    layer: Any
    key: str
    variable: Any
    order: tuple[int, ...]
    depthwise: bool = False
    outs: int = 0

    def to_core(self, array: Tensor) -> Tensor:
        """Return a tensor shaped as the variable as (out, in, kernel...)."""
        moved = array.permute(self.order)
        if self.depthwise:  # every input times its multiplier is an output that reads one input
            return moved.flatten(0, 1).unsqueeze(1)
        return moved.flatten(self.outs).flatten(0, self.outs - 1) if self.outs else moved

    def from_core(self, tensor: Tensor) -> Tensor:
        """Undo :meth:`to_core`."""
        shape = tuple(self.variable.shape)
        back = sorted(range(len(shape)), key=lambda axis: self.order[axis])
        return tensor.reshape([shape[axis] for axis in self.order]).permute(back)

    def value(self) -> Tensor:
        """Return the values as the core sees them, on the CPU unless the backend is torch."""
        return self.to_core(read(self.variable))


def read(variable: Any) -> Tensor:
    """Return the value of a ``keras.Variable`` as a torch tensor: its own on the torch backend, else a copy."""
    if keras.backend.backend() == "torch":
        value: Tensor = variable.value.detach()
        return value
    return as_tensor(variable.value)


def as_tensor(value: Any) -> Tensor:
    """Return a torch tensor on the CPU of any array of Keras's backend, or of NumPy."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if array.dtype.name == "bfloat16":  # of ml_dtypes: torch does not know it
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array))


def as_array(tensor: Tensor) -> Any:
    """Return a tensor as a NumPy array; bfloat16, which NumPy does not know, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def find(
    model: Any, include: Sequence[Pattern] | None = None, ignore: Sequence[Pattern] = (), biases: bool = False
) -> list[Variable]:
    """Return the prunable variables of a built layer or model, each once, in the order of its layers.

    Args:
        model: a ``keras.Layer`` or ``keras.Model``.
        include: names or globs of layers and variables, or layer classes; everything that can be pruned if None.
        ignore: the same, for what to leave out.
        biases: also the biases of those layers.

    Raises:
        BadTargetError: an ``include`` matches nothing.
    """
    every = list(_walk(model, biases, set()))
    for pattern in include or ():
        if not any(_matches(each, pattern) for each in every):
            shown = pattern if isinstance(pattern, str) else pattern.__name__
            raise BadTargetError(f"include={shown!r} matched nothing; {near_matches(shown, [v.name for v in every])}")
    return [
        each
        for each in every
        if (include is None or any(_matches(each, pattern) for pattern in include))
        and not any(_matches(each, pattern) for pattern in ignore)
    ]


def prunable(
    model: Any, include: Sequence[Pattern] | None = None, ignore: Sequence[Pattern] = (), biases: bool = False
) -> NamedTensors:
    """Return the prunable weights of a Keras model by path, laid out as the core sees them (outputs first).

    Args:
        model: a built ``keras.Model`` or ``keras.Layer``.
        include: names or globs of layers and variables, or layer classes; everything that can be pruned if None.
        ignore: the same, for what to leave out.
        biases: also the biases of those layers.

    Raises:
        BadTargetError: there is nothing to prune.
    """
    found = find(model, include, ignore, biases)
    if not found:
        kinds = sorted({type(layer).__name__ for layer in model._flatten_layers(include_self=True)})
        raise BadTargetError(f"nothing to prune in {model.name}: its layers are {kinds}, built: {model.built}")
    return NamedTensors({each.name: each.value() for each in found})


def _walk(layer: Any, biases: bool, seen: set[int]) -> Iterator[Variable]:
    for kind, orders in KINDS:
        if isinstance(layer, getattr(keras.layers, kind)):
            for key, order in {**orders, **({"bias": _as_is} if biases else {})}.items():
                variable = getattr(layer, f"_{key}", None) if key == "kernel" else None
                variable = variable if isinstance(variable, keras.Variable) else getattr(layer, key, None)
                if isinstance(variable, keras.Variable) and id(variable) not in seen:
                    seen.add(id(variable))
                    yield _described(layer, kind, key, variable, order)
            break
    for each in layer._flatten_layers(include_self=False, recursive=False):
        yield from _walk(each, biases, seen)


def _described(layer: Any, kind: str, key: str, variable: Any, order: Order) -> Variable:
    depthwise = kind in DEPTHWISE and key in ("kernel", "depthwise_kernel")
    axes = order(layer, len(variable.shape))
    outs = len(_einsum_outputs(layer)) if kind == "EinsumDense" and key == "kernel" else 0
    return Variable(variable.path, layer, key, variable, axes, depthwise, outs)


def _matches(each: Variable, pattern: Pattern) -> bool:
    if not isinstance(pattern, str):
        return isinstance(each.layer, pattern)
    parts = each.name.split("/")
    owners = ["/".join(parts[first:last]) for last in range(1, len(parts) + 1) for first in (0, last - 1)]
    return any(fnmatchcase(owner, pattern) for owner in {*owners, each.layer.name, f"{each.layer.name}/{each.key}"})
