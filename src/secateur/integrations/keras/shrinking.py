"""``shrink`` for Keras: from a model with dead units to a smaller Keras model with the same outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import keras
import torch
from torch import Tensor

from secateur.graph.coupling import Coupling
from secateur.graph.following import TraceError
from secateur.integrations.keras.building import assign, graph_of, is_graph, resized
from secateur.integrations.keras.elsewhere import ask
from secateur.integrations.keras.sizes import changes
from secateur.integrations.keras.targets import as_array
from secateur.integrations.keras.tracing import Traced, couple, example_for, given
from secateur.shrink.checking import TOLERANCES, differences, inputs_like
from secateur.shrink.cutting import Kept, kept_along, named_tensors
from secateur.shrink.dead import DeadUnits
from secateur.shrink.searching import Attempt, search
from secateur.shrink.shrinking import NothingShrunkWarning, Shrinkage, note, record
from secateur.vocabulary import BadTargetError

__all__ = ["shrink"]

# How far a smaller model's outputs are apart from the model's, and if that is agreement.
Comparison: TypeAlias = Callable[[Any], tuple[float, bool]]


def shrink(model: Any, example: Any = None) -> Any:
    """Delete every dead unit of a Keras model; return a plain, smaller, dense Keras model with the same outputs.

    What is dead is decided as by :func:`secateur.shrink`: a unit that nothing reads, or that does not depend on the
    inputs and whose constant can be folded into what is added behind its readers. The new model is made from the
    configs of the layers, so that a ``.keras`` file of it loads anywhere without Secateur. Outputs are compared on the
    example and on random inputs before it is returned. Layers that cannot be followed stay whole;
    ``print(sk.shrinkage(small))`` names them.

    A subclassed model comes back as a functional one, of the layers that its ``call`` calls. The new model is not
    compiled, and carries no masks. Under JAX and TensorFlow a process of its own does the work under the torch backend,
    from files, and what it gives is compared again here.

    Args:
        model: a built ``keras.Model``; it is not changed.
        example: an array, or what else the model takes, its first axis the batch; real data are best. Made up for a
            model that knows the shapes of its inputs, if left out.

    Returns:
        A new ``keras.Model``.

    Raises:
        BadTargetError: an example is needed, a subclassed model cannot be followed, or layers cannot be made anew from
            their configs.

    Warns:
        NothingShrunkWarning: nothing could be removed, or the model could not be traced.

    Example:
        >>> import keras
        >>> from secateur import Choice, Row
        >>> from secateur.integrations import keras as sk
        >>> dense = keras.layers.Dense
        >>> model = keras.Sequential([keras.Input((4,)), dense(8, name="a"), dense(2, name="b")], name="net")
        >>> masks = sk.prune(model, 0.5, choice=Choice(granularity=Row()), ignore=["b"])
        >>> small = sk.shrink(model)
        >>> small.layers[0].units
        4
        >>> print(sk.shrinkage(small))
        written by    units  kept
        net/a/kernel      8     4
        net/b/kernel      2     2
        58 parameters -> 30; outputs differ by ... of their range at most
    """
    example = example_for(model) if example is None else example
    whole = model if is_graph(model) else graph_of(model, given(example))
    inputs = [given(example), *(inputs_like(given(example), seed) for seed in (0, 1))]
    compared = _comparison(model, inputs)
    if keras.backend.backend() == "torch":
        small, new = _shrunk(whole, inputs[0], compared)
    else:
        small, new = ask(whole, example)
        worst, agree = compared(small)
        if not agree:
            raise BadTargetError(
                f"on {keras.backend.backend()} the smaller {model.name} differs by {worst:.1e} of the outputs' range, "
                "which it does not under the torch backend"
            )
        new = replace(new, worst=worst)
    note(small, new)
    return small


def _shrunk(whole: Any, example: Any, compared: Comparison) -> tuple[Any, Shrinkage]:
    """Return a smaller model and the record of what was removed; on the torch backend."""
    try:
        coupling = couple(whole, example)
    except TraceError as error:
        warnings.warn(f"{error}; the model is returned whole", NothingShrunkWarning, stacklevel=3)
        coupling = Coupling({}, (), {}, (), (), {}, (str(error),))
    traced = Traced(whole)

    def attempt(dead: DeadUnits) -> tuple[Any, Kept, float] | None:
        kept = kept_along(coupling, set(dead.units))
        try:
            small = _cut(traced, dead, kept, _counted(coupling, dead), example)
            worst, agree = compared(small) if small is not None else (float("inf"), False)
        except Exception:  # whatever layers raise at a size they do not expect
            return None
        return (small, kept, worst) if agree else None

    _copied(traced, attempt, example)
    found = search(coupling, named_tensors(traced), attempt)
    if not found.kept and not coupling.unknown:
        warnings.warn("no unit of the model is dead: it is returned whole", NothingShrunkWarning, stacklevel=3)
    return found.small, record(coupling, found, (whole.count_params(), found.small.count_params()), {})


def _comparison(model: Any, inputs: Sequence[Any]) -> Comparison:
    """Return how to compare what a smaller model computes with what the model computes now."""
    expected = [_outputs(model, each) for each in inputs]
    # Layers may compute in less precision than the outputs have.
    kinds = {getattr(torch, str(layer.compute_dtype), torch.float32) for layer in model._flatten_layers()}
    tolerance = max(TOLERANCES.get(kind, 0.0) for kind in {*kinds, torch.float32})

    def compared(small: Any) -> tuple[float, bool]:
        worst, _ = differences(expected, [_outputs(small, each) for each in inputs])
        return worst, worst <= tolerance

    return compared


def _copied(traced: Traced, attempt: Attempt, example: Any) -> None:
    """Make sure that a model agrees with its own copy, before anything is cut.

    Raises:
        BadTargetError: it cannot be copied, or its copy computes something else.
    """
    nothing, model = DeadUnits(frozenset()), traced.model
    if attempt(nothing) is not None:
        return
    reason = "the copy gives other outputs: is there state outside its variables, or chance?"
    try:
        _cut(traced, nothing, {}, {}, example)
    except Exception as error:  # whatever a layer raises that cannot be made from its config
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    raise BadTargetError(f"{model.name} cannot be made anew from the configs of its layers: {reason}")


def _outputs(model: Any, inputs: Any) -> Any:
    return given(model(_arrays(inputs), training=False))


def _arrays(inputs: Any) -> Any:
    return keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(as_array(leaf)), inputs)


def _cut(traced: Traced, dead: DeadUnits, kept: Kept, sizes: Mapping[str, dict[int, int]], example: Any) -> Any:
    """Return a smaller model, or None if the configs of its layers have no room for what it should be."""
    values = {
        id(traced.variables[name]): _sliced(tensor, dead.folds.get(name), kept.get(name, {}))
        for name, tensor in named_tensors(traced).items()
    }
    altered = {}
    for name, layer in traced.layers.items():
        both = {v.path: (tuple(v.shape), tuple(values[id(v)].shape)) for v in layer.weights}
        cut = {tuple(path.split("/")): shapes for path, shapes in both.items() if shapes[0] != shapes[1]}
        shapes = {"/".join(parts[-n:]): shapes for parts, shapes in cut.items() for n in (1, 2)}
        altered[id(layer)] = changes(layer, shapes, sizes.get(name, {}))
    small, pairs = resized(traced.model, altered)
    if not small.built:
        small(_arrays(example))
    for old, new in pairs:
        for variable, fresh in zip(old.weights, new.weights, strict=True):
            value = values[id(variable)]
            if tuple(fresh.shape) != tuple(value.shape):
                return None
            assign(fresh, value)
    return small


def _sliced(tensor: Tensor, moved: Tensor | None, kept: Mapping[int, Tensor]) -> Tensor:
    value = tensor.detach() if moved is None else (tensor.detach().double() + moved).to(tensor.dtype)
    for dim, indices in kept.items():
        value = value.index_select(dim, indices)
    return value


def _counted(coupling: Coupling, dead: DeadUnits) -> dict[str, dict[int, int]]:
    """Return what numbers that count units become, by layer."""
    found: dict[str, dict[int, int]] = {}
    for size in coupling.sizes:
        left = size.left(set(dead.units))
        if left != size.old:
            found.setdefault(size.module, {})[size.old] = left
    return found
