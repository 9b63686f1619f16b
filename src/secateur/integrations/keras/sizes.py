"""What a layer's config must say for its variables to be smaller: the number of its units, filters, groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from secateur.integrations.keras.building import is_composite

__all__ = ["changes", "counted"]

Shape = tuple[int, ...]

# By layer class: the variable and the axis that hold what the layer writes, and the key of the config that counts it.
COUNTED: tuple[tuple[str, str, int, str], ...] = (
    ("Dense", "kernel", 1, "units"),
    ("Conv1D", "kernel", -1, "filters"),
    ("Conv2D", "kernel", -1, "filters"),
    ("Conv3D", "kernel", -1, "filters"),
    ("Conv1DTranspose", "kernel", -2, "filters"),
    ("Conv2DTranspose", "kernel", -2, "filters"),
    ("Conv3DTranspose", "kernel", -2, "filters"),
    ("SeparableConv1D", "pointwise_kernel", -1, "filters"),
    ("SeparableConv2D", "pointwise_kernel", -1, "filters"),
    ("Embedding", "embeddings", 1, "output_dim"),
)


def changes(layer: Any, shapes: Mapping[str, tuple[Shape, Shape]], left: Mapping[int, int]) -> dict[str, Any]:
    """Return what is other in the config of a layer whose variables lose some of their units.

    What is not known here stays as it is; the layer then comes out with other shapes, which shows.

    Args:
        layer: any ``keras.Layer``.
        shapes: of the variables that change, before and after, by their names in the layer; those of a layer inside
            by its name too, as in "query/kernel".
        left: numbers that count units in what the layer does, and what they become.
    """
    return dict(_changes(layer, shapes, left))


def counted(model: Any) -> set[int]:
    """Return the variables of a model, by ``id``, whose units a config counts, so that they can be fewer."""
    found: set[int] = set()
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if isinstance(layer, keras.Model | keras.layers.Wrapper) or is_composite(layer):
            found |= counted(layer)
        names = [name for kind, name, *_ in COUNTED if isinstance(layer, getattr(keras.layers, kind))]
        if isinstance(layer, keras.layers.EinsumDense | keras.layers.MultiHeadAttention):
            names = ["kernel"]
        found |= {id(variable) for variable in layer.weights if variable.name in names}
    return found


def _changes(
    layer: Any, shapes: Mapping[str, tuple[Shape, Shape]], left: Mapping[int, int]
) -> Iterator[tuple[str, Any]]:
    for kind, name, axis, key in COUNTED:
        if isinstance(layer, getattr(keras.layers, kind)) and name in shapes:
            before, after = (shape[axis] for shape in shapes[name])
            yield key, after
            if getattr(layer, "groups", 1) == _inputs(layer) > 1:  # a depthwise convolution: a group for each input
                yield "groups", layer.groups * after // before
    if isinstance(layer, keras.layers.MultiHeadAttention) and "query/kernel" in shapes:
        yield "num_heads", shapes["query/kernel"][1][1]
    if isinstance(layer, keras.layers.EinsumDense) and "kernel" in shapes:
        yield from _einsum(layer, shapes["kernel"])
    if isinstance(layer, keras.layers.Reshape) and left:
        yield "target_shape", tuple(left.get(size, size) for size in layer.target_shape)


def _einsum(layer: Any, shapes: tuple[Shape, Shape]) -> Iterator[tuple[str, Any]]:
    """Yield the output shape of an einsum layer whose kernel has lost some of the axis that it writes."""
    operands, _, out = layer.equation.replace("...", "").partition("->")
    config = layer.get_config()["output_shape"]
    sizes = [config] if isinstance(config, int) else list(config)
    for letter, before, after in zip(operands.partition(",")[2], *shapes, strict=True):
        if letter in out and before != after:
            sizes[out.index(letter) - len(out)] = after
            yield "output_shape", tuple(sizes)


def _inputs(layer: Any) -> int:
    """Return how many channels a convolution reads."""
    if not hasattr(layer, "groups"):
        return 0
    return int(layer.kernel.shape[-2]) * int(layer.groups)
