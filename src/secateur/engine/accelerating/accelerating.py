"""``accelerate``: the sparse layers of any model on the kernels of the engine, the rest as it is."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from secateur.engine.accelerating.encoders import at_once, inside, layer_by_layer
from secateur.engine.accelerating.layers import restored, takes_part, turned, why_not
from secateur.engine.accelerating.timing import Times, met, timed_layer, timed_model
from secateur.modules import unwrap
from secateur.native import load as kernels
from secateur.vocabulary import SecateurWarning, SelectionError

__all__ = ["Acceleration", "LayerChoice", "NothingAcceleratedWarning", "accelerate", "acceleration"]

_KEY = "_secateur_acceleration"


class NothingAcceleratedWarning(SecateurWarning):
    """No layer of a model was accelerated; it is returned as it is."""


@dataclass(frozen=True)
class LayerChoice:
    """What was decided for one layer.

    Attributes:
        name: of the layer in the model.
        kind: its class.
        shape: of its weight.
        sparsity: of its weight, in [0, 1].
        why_not: why it was left as it is; "" if it was accelerated.
        times: seconds for all its calls on the example, if it was timed.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sparsity: float
    why_not: str = ""
    times: Times | None = None


@dataclass(frozen=True)
class Acceleration:
    """What :func:`accelerate` did; prints as a table.

    Attributes:
        layers: the Linear and convolutional ones, and others that are as sparse, in the order of the model.
        model: seconds for the example, if one was given.
    """

    layers: tuple[LayerChoice, ...]
    model: Times | None = None

    @property
    def accelerated(self) -> tuple[str, ...]:
        """Names of the layers that run on the kernels."""
        return tuple(layer.name for layer in self.layers if not layer.why_not)

    def __str__(self) -> str:
        rows = [["layer", "kind", "weight", "sparsity", "dense µs", "sparse µs", ""]]
        for layer in self.layers:
            shape, times = "x".join(map(str, layer.shape)), _microseconds(layer.times)
            left = f"left: {layer.why_not}" if layer.why_not else "accelerated"
            rows.append([layer.name or "the model itself", layer.kind, shape, f"{layer.sparsity:.4f}", *times, left])
        if not any(layer.times for layer in self.layers):
            rows = [[*row[:4], row[6]] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths[:-1]] + [""])
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        told = f"{len(self.accelerated)} of {len(self.layers)} layers accelerated"
        if self.model is not None:
            dense, sparse = _microseconds(self.model)
            told += f"; on the example the model takes {sparse} µs, {dense} µs without"
        return "\n".join([*lines, told])


def _microseconds(times: Times | None) -> list[str]:
    return ["", ""] if times is None else [f"{1e6 * each:.0f}" for each in (times.dense, times.sparse)]


def accelerate(model: nn.Module, *, above: float = 0.8, example: Any = None, threads: int | None = None) -> nn.Module:
    """Run the sparse Linear, Conv1d and Conv2d layers of a model on the engine's kernels; the rest stays torch's.

    For inference with models that :func:`secateur.compile` cannot take as a whole, or that are to stay modules of
    torch: it works for inputs of any shape, under ``torch.compile`` and in ``torch.export``. Outputs differ in their
    last digits, and beside infinities, for zeros are left out where that is faster.

    The modules are copied, the memory of their weights is not: names, ``state_dict`` and sharing stay as they are, and
    what is written to the weights of one model is seen by both. Layers keep their dense weights, and beside them the
    programs they have needed so far, each of some 8 bytes for every weight that is not zero: three for a matrix at
    most, one for each size of images for a convolution, of which the last eight are kept. No parameter of the copy
    requires gradients. Where gradients are to flow all the same (an input requires them, or a parameter was made to),
    and under autocast, for other types than float32 and on other devices than the CPU, an accelerated layer computes
    with its dense weights, as torch always did. Torch's transformer encoders compute layer by layer, as in training,
    where they hold an accelerated one; positions of padding then are not zero. What traces networks (shrinking,
    compiling) is for the model that was given.

    Args:
        model: any module; it is not changed.
        above: sparsity of the weight from which on a layer is accelerated, in [0, 1].
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name, as in use later; each layer is
            timed on what reaches it, and accelerated only if that is faster. Takes about half a second a layer.
        threads: on how many threads the layers compute; as many as torch does, whenever it is called, if None.

    Returns:
        the copy, in the mode of the model; :func:`acceleration` says what was done.

    Raises:
        SelectionError: ``above`` is outside [0, 1], or ``threads`` below 1.
        MissingKernelsError: Secateur was installed without its compiled kernels.

    Warns:
        NothingAcceleratedWarning: no layer was accelerated.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        >>> masks = net[0].weight.data[:, 4:].zero_()
        >>> fast = accelerate(net.eval())
        >>> x = torch.randn(3, 64)
        >>> bool((fast(x) - net(x)).abs().max() < 1e-5)
        True
        >>> print(acceleration(fast))
        layer  kind    weight  sparsity
        -----  ------  ------  --------
        0      Linear  64x64   0.9375    accelerated
        2      Linear  8x64    0.0000    left: its sparsity is below 0.8
        1 of 2 layers accelerated
    """
    if not 0 <= above <= 1:
        raise SelectionError(f"above={above:g} is no sparsity: zeros over weights, from 0 to 1")
    if threads is not None and threads < 1:
        raise SelectionError(f"threads={threads}: at least one computes")
    kernels()  # before anything that takes long
    fast = _copied(unwrap(model))
    names = {module: name for name, module in fast.named_modules()}
    at_once(fast)
    for module in names:
        restored(module)
    layers = {module: choice for module, name in names.items() if (choice := _choice(module, name, above))}
    chosen = [module for module, choice in layers.items() if not choice.why_not]
    times = None
    if example is not None and chosen:
        layers |= _timed(fast, {module: layers[module] for module in chosen}, example, threads)
        chosen = [module for module, choice in layers.items() if not choice.why_not]
        times = timed_model(fast, chosen, example, threads)
        if times.sparse >= times.dense and (slower := inside(fast, chosen)):
            layers |= {each: replace(layers[each], why_not="its encoder is faster at once") for each in slower}
            chosen = [module for module in chosen if module not in slower]
            times = timed_model(fast, chosen, example, threads)
    for module in chosen:
        turned(module, threads)
    layer_by_layer(fast, chosen)
    if not chosen:
        reasons = "; ".join(dict.fromkeys(layer.why_not for layer in layers.values())) or "it has none with weights"
        text = f"no layer of {type(fast).__name__} was accelerated: {reasons}"
        warnings.warn(text, NothingAcceleratedWarning, stacklevel=2)
    object.__setattr__(fast, _KEY, Acceleration(tuple(layers.values()), times))
    return fast


def acceleration(model: nn.Module) -> Acceleration | None:
    """Return what was done to a model by :func:`accelerate`; None if it never was accelerated."""
    found = getattr(unwrap(model), _KEY, None)
    return found if isinstance(found, Acceleration) else None


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy of the modules over the same memory, whose parameters require no gradients."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        if type(parameter) is nn.Parameter:
            same = nn.Parameter(parameter.detach(), requires_grad=False)
            same.__dict__.update(parameter.__dict__)
            memo[id(parameter)] = same
    for module in model.modules():
        # Weights that are computed anew for every call, as torch.nn.utils.prune does, cannot be copied with gradients.
        computed = [each for each in vars(module).values() if isinstance(each, Tensor) and not each.is_leaf]
        memo |= {id(each): each.detach() for each in computed}
    return copy.deepcopy(model, memo).requires_grad_(False)


def _choice(module: nn.Module, name: str, above: float) -> LayerChoice | None:
    """Return what is decided for a module by what it is; None if it has no weights to speak of."""
    own = [each for each in module.parameters(recurse=False) if not is_lazy(each) and each.ndim > 1]
    if not own or not own[0].is_floating_point() or isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return None
    weight, reason = own[0], why_not(module)
    counted = weight.layout == torch.strided and weight.device.type != "meta"
    sparsity = 1.0 - int(torch.count_nonzero(weight)) / max(1, weight.numel()) if counted else 0.0
    if sparsity < above:
        if not takes_part(module):
            return None
        reason = reason or f"its sparsity is below {above:g}"
    return LayerChoice(name, type(module).__name__, tuple(weight.shape), sparsity, reason)


def _timed(
    model: nn.Module, layers: dict[nn.Module, LayerChoice], example: Any, threads: int | None
) -> dict[nn.Module, LayerChoice]:
    """Return the choices for layers after a trial."""
    calls = met(model, layers, example)
    tried = {}
    for module, choice in layers.items():
        if not calls[module]:
            tried[module] = replace(choice, why_not="the example brings no float32 to it")
            continue
        times = timed_layer(module, calls[module], threads)
        slower = "" if times.sparse < times.dense else "it is no faster"
        tried[module] = replace(choice, times=times, why_not=slower)
    return tried
