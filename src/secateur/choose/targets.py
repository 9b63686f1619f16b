"""Which tensors may be pruned, by name."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from secateur.modules import unwrap
from secateur.vocabulary import (
    BadTargetError,
    Layout,
    NothingPrunedWarning,
    SecateurWarning,
    Target,
    Weights,
    near_matches,
)

__all__ = ["bias_of", "matrix_of", "prunable", "register"]

Pattern: TypeAlias = str | type[nn.Module]

LayoutOf: TypeAlias = Callable[[nn.Parameter], Layout]

_WITH_WEIGHT = (nn.Linear, nn.Bilinear, _ConvNd)
_REGISTERED: dict[type[nn.Module], dict[str, LayoutOf]] = {}


def register(kind: type[nn.Module], layouts: Mapping[str, Layout | LayoutOf]) -> None:
    """Make the weights of a kind of module prunable from now on.

    Args:
        kind: a module class; subclasses are not meant.
        layouts: for each parameter, by its name in the module, how its axes count, or a function of the parameter
            that says so.

    Example:
        >>> import torch
        >>> class Scale(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.matrix = nn.Parameter(torch.ones(3, 2))
        >>> register(Scale, {"matrix": Layout(out_axis=1, in_axis=0)})
        >>> list(prunable(nn.Sequential(Scale())))
        ['0.matrix']
    """
    _REGISTERED[kind] = {
        name: layout if callable(layout) else partial(_always, layout) for name, layout in layouts.items()
    }


def _always(layout: Layout, _parameter: nn.Parameter) -> Layout:
    return layout


def matrix_of(module: nn.Module) -> tuple[nn.Parameter, int] | None:
    """Return the weight of a registered module that has one matrix, and how many outputs it has."""
    known = _REGISTERED.get(type(module), {})
    matrices = [(p, known[key](p)) for key, p in module.named_parameters(recurse=False) if key in known]
    if len(matrices) != 1 or matrices[0][0].ndim != 2:
        return None
    parameter, layout = matrices[0]
    return parameter, parameter.shape[layout.out_axis]


def prunable(
    model: nn.Module,
    include: Sequence[Pattern] | None = None,
    ignore: Sequence[Pattern] = (),
    biases: bool = False,
) -> Weights:
    """Return the tensors of ``model`` that may be pruned, by ``state_dict`` name, in model order.

    These are the weights of Linear, Bilinear, Conv1d/2d/3d and ConvTranspose1d/2d/3d, the projections of
    MultiheadAttention, the input and hidden weights of RNN, LSTM and GRU (cells too), and what was registered
    (:func:`secateur.register`). A parameter that is tied or reused appears once, under the first of its names.

    Args:
        model: any module; wrappers of ``torch.compile`` and DDP are looked through.
        include: if given, only what matches is a target. A pattern is the name of a module or parameter, a
            glob over those names (``"layer?.*.conv*"``), or a module type. Embeddings are targets only when
            included; a parameter of another kind of module only when named in full or by its module's type.
        ignore: patterns of what is left out; stronger than ``include``.
        biases: also the biases that belong to the targets.

    Returns:
        The parameters themselves (not copies), with their layouts.

    Raises:
        BadTargetError: nothing matched, a pattern of ``include`` matched nothing, or a target has no shape yet.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> list(prunable(net))
        ['0.weight', '3.weight']
        >>> list(prunable(net, ignore=[nn.Conv2d], biases=True))
        ['3.weight', '3.bias']
    """
    for name, patterns in (("include", include), ("ignore", ignore)):
        if isinstance(patterns, str | type):
            shown = repr(patterns) if isinstance(patterns, str) else patterns.__name__
            raise BadTargetError(f"{name}= is a list of patterns, as in [{shown}]")
    model = unwrap(model)
    places = list(_places(model))
    _check_patterns(places, include, ignore)
    # Every name of a tied parameter counts: it is left out when any of them is ignored.
    left_out = {id(place.parameter) for place in places if place.matched(ignore)}
    found: dict[str, _Place] = {}
    seen: set[int] = set()
    for place in places:
        if id(place.parameter) in seen | left_out or not _admitted(place, include, biases):
            continue
        if is_lazy(place.parameter):
            raise BadTargetError(f"{place.name!r} has no shape yet; run one batch through the model first")
        seen.add(id(place.parameter))
        found[place.name] = place
    if not found:
        kinds = sorted({type(place.module).__name__ for place in places})
        raise BadTargetError(
            f"no prunable tensor in {type(model).__name__}; it has "
            f"{[place.name for place in places][:20]} in "
            f"modules of kind {kinds}; name what you want in include="
        )
    _warn_of_computed(model, ignore)
    targets = {n: Target(_layout(p), weakref.ref(p.parameter)) for n, p in found.items()}
    return Weights({name: place.parameter for name, place in found.items()}, targets)


def bias_of(weight: str) -> str:
    """Return the name of the bias that belongs to a weight.

    Example:
        >>> bias_of("rnn.weight_ih_l0"), bias_of("attention.in_proj_weight")
        ('rnn.bias_ih_l0', 'attention.in_proj_bias')
    """
    owner, _, name = weight.rpartition(".")
    return (owner + "." if owner else "") + name.replace("weight", "bias")


@dataclass(frozen=True)
class _Place:
    """One name of a parameter and the module it stands in."""

    name: str
    module: nn.Module
    parameter: nn.Parameter

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]

    def matched(self, patterns: Sequence[Pattern]) -> list[Pattern]:
        return [pattern for pattern in patterns if self._matches(pattern)]

    def _matches(self, pattern: Pattern) -> bool:
        return _names(pattern, self.name, self.module)


def _places(model: nn.Module) -> Iterator[_Place]:
    for owner, module in model.named_modules(remove_duplicate=False):
        for key, parameter in module.named_parameters(recurse=False):
            yield _Place(f"{owner}.{key}" if owner else key, module, parameter)


def _kind_is_known(module: nn.Module, key: str) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return key in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return key.startswith(("weight_ih", "weight_hh", "weight_hr"))
    return (isinstance(module, _WITH_WEIGHT) and key == "weight") or key in _REGISTERED.get(type(module), {})


def _admitted(place: _Place, include: Sequence[Pattern] | None, biases: bool) -> bool:
    if not place.parameter.dtype.is_floating_point:
        return False
    known = _kind_is_known(place.module, place.key) or (
        biases and "bias" in place.key and _kind_is_known(place.module, place.key.replace("bias", "weight"))
    )
    if include is None:
        return known
    hits = place.matched(include)
    if not hits or known or place.name in hits:
        return bool(hits)
    embedding = isinstance(place.module, nn.Embedding | nn.EmbeddingBag)
    by_type = any(not isinstance(pattern, str) for pattern in hits)
    # Of kinds we do not know, vectors (norm weights, biases) are targets only when named in full.
    return place.parameter.ndim >= 2 and (embedding or by_type)


def _layout(place: _Place) -> Layout:
    module, registered = place.module, _REGISTERED.get(type(place.module), {})
    if place.key in registered:
        return registered[place.key](place.parameter)
    if isinstance(module, _ConvTransposeNd):
        return Layout(out_axis=1, in_axis=0, groups=module.groups)
    if isinstance(module, _ConvNd):
        return Layout(groups=module.groups)
    return Layout()


def _warn_of_computed(model: nn.Module, ignore: Sequence[Pattern]) -> None:
    """Name the layers that would be targets if their weights were parameters of their own."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _WITH_WEIGHT) and "weight" not in module._parameters and hasattr(module, "weight")
        if not any(_names(pattern, name, module) for pattern in ignore)
    ]
    if names:
        warnings.warn(
            f"the weights of {names} are computed, as by a parametrization, so they are no targets; make them plain "
            "first, as torch.nn.utils.parametrize.remove_parametrizations does",
            SecateurWarning,
            stacklevel=3,
        )


def _names(pattern: Pattern, name: str, module: nn.Module) -> bool:
    """Tell whether a pattern names a module, or what stands in it under ``name``."""
    if not isinstance(pattern, str):
        return isinstance(module, pattern)
    # "head" names the module and everything in it; a glob is tried on the name and on each owner.
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: i + 1]), pattern) for i in range(len(parts)))


def _check_patterns(places: Sequence[_Place], include: Sequence[Pattern] | None, ignore: Sequence[Pattern]) -> None:
    names = [place.name for place in places]
    for pattern in [*(include or ()), *ignore]:
        if any(place.matched([pattern]) for place in places):
            continue
        shown = pattern if isinstance(pattern, str) else pattern.__name__
        if pattern in ignore:
            warnings.warn(f"ignore={shown!r} matched no parameter", NothingPrunedWarning, stacklevel=3)
        else:
            raise BadTargetError(f"include={shown!r} matched no parameter; {near_matches(shown, names)}")
