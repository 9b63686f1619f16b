"""The words every other file speaks: named tensors, their layout, errors and warnings.

Shape suffixes used on tensor names throughout the project:

====== ==========================================================
suffix meaning
====== ==========================================================
B      batch
O, I   output and input units of a weight (features or channels)
C      channels of an activation
H, W   height and width of an image or of a kernel
N      elements of a flattened tensor
U      units (what one granularity removes together)
====== ==========================================================
"""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The readers of packed files use these words in a Python that has no torch.
    from torch import Tensor

__all__ = [
    "BadTargetError",
    "CollapseWarning",
    "CorruptFileError",
    "Layout",
    "MissingExtraError",
    "MissingKernelsError",
    "NamedTensors",
    "NothingPrunedWarning",
    "Scores",
    "SecateurError",
    "SecateurWarning",
    "SelectionError",
    "Target",
    "UnfinishedWarning",
    "Weights",
    "first_line",
    "near_matches",
]


class SecateurError(Exception):
    """Base of every error this package raises on purpose; its text names the input and the way out."""


class BadTargetError(SecateurError, ValueError):
    """A name, glob or type matched no tensor, or a mask does not fit the tensor it names."""


class SelectionError(SecateurError, ValueError):
    """Scores, sparsity, granularity, scope and allocation that cannot go together."""


class CorruptFileError(SecateurError, ValueError):
    """A file is truncated, damaged or not of the format it should be."""


class MissingExtraError(SecateurError, ImportError):
    """A dependency that not every use needs is missing; the text names what brings it."""


class MissingKernelsError(SecateurError, ImportError):
    """The compiled kernels are not there; the text says why and what to do."""


class SecateurWarning(UserWarning):
    """Base of every warning this package gives."""


class NothingPrunedWarning(SecateurWarning):
    """A step that was asked to prune changed nothing."""


class CollapseWarning(SecateurWarning):
    """A target lost all its weights: no signal passes it any more."""


class UnfinishedWarning(SecateurWarning):
    """A schedule was ended before it reached its final sparsity."""


@dataclass(frozen=True)
class Layout:
    """Which axes of a weight count outputs and inputs.

    Linear and convolution weights are ``(out, in / groups, ...)``; transposed convolutions are
    ``(in, out / groups, ...)``, so their ``out_axis`` is 1. A stacked weight holds one matrix for each of its
    ``groups`` along an axis of its own ahead of the two, as fused experts do: ``(groups, out, in)``.

    Example:
        >>> Layout()
        Layout(out_axis=0, in_axis=1, groups=1, stacked=False)
    """

    out_axis: int = 0
    in_axis: int = 1
    groups: int = 1
    stacked: bool = False


@dataclass(frozen=True)
class Target:
    """What is known of a prunable tensor beyond its values: its layout and, weakly, its parameter."""

    layout: Layout = Layout()
    parameter: weakref.ref[Tensor] | None = None


class NamedTensors(dict[str, "Tensor"]):
    """A dict from ``state_dict`` name to tensor that remembers what its tensors are in the model.

    A plain dict is accepted wherever this is; every tensor is then laid out as a Linear weight.

    Example:
        >>> import torch
        >>> NamedTensors({"fc.weight": torch.tensor([-2.0, 1.0])}).map(torch.abs)
        {'fc.weight': tensor([2., 1.])}
    """

    def __init__(self, tensors: Mapping[str, Tensor], targets: Mapping[str, Target] | None = None) -> None:
        super().__init__(tensors)
        known = targets if targets is not None else getattr(tensors, "targets", {})
        self.targets: Mapping[str, Target] = MappingProxyType(dict(known))

    def layout(self, name: str) -> Layout:
        """Return the layout of the tensor ``name``."""
        return self.targets.get(name, Target()).layout

    def map(self, function: Callable[[Tensor], Tensor]) -> NamedTensors:
        """Return the same names with ``function`` applied to each tensor."""
        return NamedTensors({name: function(tensor) for name, tensor in self.items()}, self.targets)

    def map_named(self, function: Callable[[str, Tensor], Tensor]) -> NamedTensors:
        """Return the same names with ``function(name, tensor)`` applied to each tensor."""
        return NamedTensors({name: function(name, tensor) for name, tensor in self.items()}, self.targets)


Weights = NamedTensors
Scores = NamedTensors


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type if it says nothing.

    Example:
        >>> first_line(ValueError("\\n no such size\\nmore")), first_line(KeyError())
        ('no such size', 'KeyError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def near_matches(wrong: str, known: Iterable[str]) -> str:
    """Return a clause that names the closest known words, or all of them when none is close.

    Example:
        >>> near_matches("lenet-300", ["lenet-300-100", "mlp"])
        "did you mean 'lenet-300-100'?"
    """
    known = list(known)
    close = difflib.get_close_matches(wrong, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(word) for word in close) + "?"
    shown = ", ".join(known[:20]) + (f", ... ({len(known)} in all)" if len(known) > 20 else "")
    return f"known: {shown}" if shown else "there are none"
