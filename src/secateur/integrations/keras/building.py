"""New Keras models from a model: with other sizes, or of keras's own layers where it was made of the user's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from torch import Tensor

from secateur.integrations.keras.targets import as_array, read
from secateur.vocabulary import BadTargetError, first_line

__all__ = ["assign", "graph_of", "is_composite", "is_graph", "resized"]


def is_graph(model: Any) -> bool:
    """Say if a model is sequential or functional, through and through, so that it can be copied layer by layer."""
    inside = model._flatten_layers(include_self=False, recursive=False)
    return _of_keras(model) and not any(map(is_composite, inside))


def graph_of(model: Any, example: Any) -> Any:
    """Return a functional model of the layers that a subclassed model calls, with the same weights.

    What the model, and layers of the user's classes that only call others, do in ``call`` becomes the graph; any other
    layer is copied.

    Args:
        model: a built ``keras.Model``; it is not changed.
        example: what it takes.

    Raises:
        BadTargetError: ``call`` cannot be followed with symbolic tensors, or a layer cannot be copied.
    """
    copies: dict[int, Any] = {}
    pairs: list[tuple[Any, Any]] = []

    def copy(layer: Any) -> Any:
        if id(layer) not in copies:
            if isinstance(layer, keras.Model):
                made, inner = resized(layer, {})
                pairs.extend(inner)
            else:
                taken = {each.name for each in copies.values()}
                name = next(each for each in _alternatives(layer.name) if each not in taken)
                made = type(layer).from_config({**layer.get_config(), "name": name})
                pairs.append((layer, made))
            copies[id(layer)] = made
        return copies[id(layer)]

    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=(None, *x.shape[1:]), dtype=keras.backend.standardize_dtype(x.dtype)), example
    )
    try:
        with _routed(model, copy):
            outputs = model(inputs)
        made = keras.Model(inputs, outputs, name=model.name)
        for old, new in pairs:
            for variable, fresh in zip(old.weights, new.weights, strict=True):
                assign(fresh, read(variable))
    except Exception as error:  # whatever the user's code raises on symbols
        raise BadTargetError(
            f"{model.name} is a {type(model).__name__} whose call cannot be followed to make a model of Keras's own "
            f"layers of it ({first_line(error)}); write it as a functional model"
        ) from error
    return made


def resized(model: Any, changes: Mapping[int, Mapping[str, Any]]) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return a new model of the same graph, weights undefined, and its layers beside those they were made from.

    Layers inside a wrapper such as ``TimeDistributed`` are altered with it.

    Args:
        model: sequential or functional.
        changes: what is other in the config of a layer, by its ``id``.
    """
    pairs: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        config = {**_unbuilt(layer.get_config()), **changes.get(id(layer), {})}
        if isinstance(layer, keras.layers.Wrapper):
            config["layer"]["config"].update(changes.get(id(layer.layer), {}))
        # The function of a Lambda is the user's own, here in this process: nothing to be wary of.
        trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
        made = type(layer).from_config(config, **trusted)
        if isinstance(layer, keras.Layer):  # an operation such as a slice has no weights
            pairs.append((layer, made))
        return made

    with _uncompiled(model):
        return keras.models.clone_model(model, clone_function=clone, recursive=True), pairs


def _unbuilt(config: Any) -> Any:
    """Return a config in which no layer says what shape it was built for."""
    if isinstance(config, list | tuple):
        return type(config)(map(_unbuilt, config))
    if not isinstance(config, dict):
        return config
    return {key: _unbuilt(value) for key, value in config.items() if key != "build_config"}


def assign(variable: Any, value: Tensor) -> None:
    """Set a variable to a value of its shape."""
    variable.assign(as_array(value))


def _of_keras(layer: Any) -> bool:
    return type(layer).__module__.partition(".")[0] == "keras"


def is_composite(layer: Any) -> bool:
    """Say if a layer is of the user's class and does nothing but call others."""
    inside = layer._flatten_layers(include_self=False, recursive=False)
    if isinstance(layer, keras.Model):
        return not is_graph(layer)
    held = {id(variable) for inner in inside for variable in inner.weights}
    return bool(inside) and not _of_keras(layer) and all(id(variable) in held for variable in layer.weights)


@contextlib.contextmanager
def _routed(model: Any, copy: Callable[[Any], Any]) -> Iterator[None]:
    """Let every layer of a model that is called be its copy, and composites be what they call."""
    kinds: dict[int, tuple[Any, type]] = {}

    def dissolved(self: Any, *args: Any, **keywords: Any) -> Any:
        return self.call(*args, **keywords)

    def copied(self: Any, *args: Any, **keywords: Any) -> Any:
        routed = type(self)
        object.__setattr__(self, "__class__", kinds[id(self)][1])
        try:
            return copy(self)(*args, **keywords)
        finally:
            object.__setattr__(self, "__class__", routed)

    pending = [model]
    try:
        while pending:
            layer = pending.pop()
            if id(layer) in kinds:
                continue
            kind, composite = type(layer), layer is model or is_composite(layer)
            kinds[id(layer)] = layer, kind
            if composite:
                pending += layer._flatten_layers(include_self=False, recursive=False)
            # A call looks for __call__ on the class, so each of them gets one of its own for the while.
            parts = {"__call__": dissolved if composite else copied, "__module__": kind.__module__}
            object.__setattr__(layer, "__class__", type(kind.__name__, (kind,), parts))
        yield
    finally:
        for layer, kind in kinds.values():
            object.__setattr__(layer, "__class__", kind)


def _alternatives(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{count}" for count in range(1, 1_000_000))


@contextlib.contextmanager
def _uncompiled(model: Any) -> Iterator[None]:
    """Let no model be compiled for a while: a copy would be too, and losses of the user's cannot be copied."""
    models = [each for each in model._flatten_layers() if getattr(each, "compiled", False)]
    for each in models:
        each.compiled = False
    try:
        yield
    finally:
        for each in models:
            each.compiled = True
