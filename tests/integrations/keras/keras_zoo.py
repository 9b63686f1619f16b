"""What tests of shrinking Keras models share: models of many kinds, weights with dead units for them, comparison."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

from secateur.integrations import keras as sk
from secateur.integrations.keras.targets import find
from secateur.shrink import NothingShrunkWarning, Shrinkage

layers = keras.layers


def images() -> Any:
    return keras.Input((10, 10, 3))


def convolutions(padding: str = "valid", activation: str = "relu") -> Any:
    x = inputs = images()
    for filters in (8, 6):
        x = layers.Conv2D(filters, 3, padding=padding, use_bias=filters == 8)(x)
        x = layers.BatchNormalization(scale=filters == 8)(x)
        x = layers.Activation(activation)(x)
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    x = layers.Dropout(0.5)(layers.Dense(9, activation=activation)(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def residual() -> Any:
    inputs = images()
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    y = layers.Conv2D(8, 1)(layers.Conv2D(6, 1, activation="relu")(x))
    x = layers.Add()([x, y])
    x = layers.Concatenate()([x, layers.Conv2D(4, 1, activation="relu")(x)])
    gate = layers.Conv2D(12, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling2D()(x * gate)))


def depthwise() -> Any:
    return keras.Sequential(
        [
            images(),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(6),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.LeakyReLU(),
            layers.SeparableConv2D(6, 2, activation="tanh"),
            layers.Conv2D(12, 1),
            layers.Conv2D(12, 1, groups=12, use_bias=False),  # depthwise by another name
            layers.PReLU(shared_axes=[1, 2]),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def sequence() -> Any:
    return keras.Sequential(
        [
            keras.Input((16, 3)),
            layers.Conv1D(8, 3, padding="causal"),
            layers.ReLU(),
            layers.MaxPooling1D(2),
            layers.Conv1D(6, 3, strides=2),
            layers.SeparableConv1D(7, 2, activation="swish"),
            layers.DepthwiseConv1D(2),
            layers.TimeDistributed(layers.Dense(6, activation="relu")),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


def grouped() -> Any:
    return keras.Sequential(
        [
            images(),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Conv2D(12, 3, groups=4, activation="relu"),
            layers.UpSampling2D(),
            layers.Permute((2, 1, 3)),
            layers.Cropping2D(1),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def generator() -> Any:
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(3 * 3 * 6, use_bias=False, activation="relu"),
            layers.Reshape((3, 3, 6)),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same", use_bias=False, activation="relu"),
            layers.Conv2D(3, 3, padding="same"),
        ]
    )


def words() -> Any:
    return keras.Sequential(
        [
            keras.Input((9,), dtype="int32"),
            layers.Embedding(20, 8),
            layers.Conv1D(6, 3, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(8, activation="relu"),
            layers.Dense(1),
        ]
    )


def shared() -> Any:
    """Two inputs, one layer called twice, two outputs by name."""
    a, b = keras.Input((5,), name="a"), keras.Input((6,), name="b")
    dense = layers.Dense(8, activation="relu")
    x, y = dense(a), dense(layers.Dense(5)(b))
    z = layers.Concatenate()([x, y, layers.Average()([x, y])])
    w = layers.Dense(4, activation="relu")(layers.Subtract()([x, y]))
    return keras.Model({"a": a, "b": b}, {"one": layers.Dense(2)(z), "two": layers.Dense(3)(w)})


def nested() -> Any:
    inner = keras.Sequential([keras.Input((10,)), layers.Dense(8, activation="relu"), layers.Dense(10)], name="inner")
    inner.compile("adam", lambda _, found: keras.ops.mean(found))  # a loss that no config can hold
    inputs = keras.Input((10,))
    x = keras.ops.relu(inner(inputs)) * 2
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, activation="relu")(inner(x) + x)))


def mixed() -> Any:
    return keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(16, activation="relu", dtype="mixed_float16"),
            layers.Dense(8, dtype="mixed_bfloat16"),
            layers.Dense(3, dtype="float32"),
        ]
    )


def recurrent() -> Any:
    return keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.Dense(8, activation="relu"),
            layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True)),
            layers.LSTM(5),
            layers.Dense(6, activation="relu"),
            layers.Dense(2),
        ]
    )


def attention() -> Any:
    inputs = keras.Input((6, 8))
    x = layers.LayerNormalization()(inputs)
    x = layers.MultiHeadAttention(2, 4)(x, x) + inputs
    x = x + layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3)(x[:, 0]))


def sums() -> Any:
    """Einstein sums: units are along the first axis that an equation makes new."""
    inputs = keras.Input((6, 8))
    x = layers.EinsumDense("...x,xyz->...yz", output_shape=(8, 6), bias_axes="yz")(inputs)
    x = layers.EinsumDense("abcd,cde->abe", output_shape=(None, 7), bias_axes="e", activation="relu")(x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 9), bias_axes="d")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.EinsumDense("abc,cd->abd", output_shape=(None, 5))(x)))


def normalized() -> Any:
    return keras.Sequential(
        [
            images(),
            layers.Rescaling(0.5),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 2.0, 3.0]),
            layers.Conv2D(8, 3),
            layers.GroupNormalization(4),
            layers.Conv2D(6, 3, activation="softmax"),
            layers.Flatten(),
            layers.Dense(6),
            layers.Lambda(lambda x: x * 2),
            layers.Dense(4),
        ]
    )


def same_padding() -> Any:
    return convolutions("same", "gelu")


MODELS = {
    each.__name__: each
    for each in (
        convolutions, residual, depthwise, sequence, grouped, generator, words, shared, nested, mixed, recurrent,
        attention, sums, normalized, same_padding,
    )
}  # fmt: skip


def example(kind: str, rng: np.random.Generator, batch: int = 4) -> Any:
    """Return what a model takes, or None where it can be made up."""
    if kind == "words":
        return rng.integers(0, 20, (batch, 9)).astype("int32")
    return None


def roughen(model: Any, rng: np.random.Generator, dead: float = 0.5) -> None:
    """Draw all weights, biases and statistics anew, and set whole neurons and filters of every layer to zero.

    Of a grouped convolution they are the same in every group.
    """
    for variable in model.weights:
        draw = rng.random if "variance" in variable.name else rng.standard_normal
        variable.assign(draw(tuple(variable.shape)) * 0.5 + (0.5 if "variance" in variable.name else 0.0))
    for target in find(model):
        value = target.value().clone()
        rows = value.unflatten(0, (1 if target.depthwise else getattr(target.layer, "groups", 1), -1))
        rows[:, rng.permutation(rows.shape[1])[: int(dead * rows.shape[1])]] = 0
        target.variable.assign(target.from_core(value).numpy())


on_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="a process for each shrink: too long")


def outputs(model: Any, inputs: Any) -> list[Any]:
    found = model(inputs, training=False)
    return [keras.ops.convert_to_numpy(each).astype("float64") for each in keras.tree.flatten(found)]


def assert_alike(one: Any, other: Any, inputs: Any, tolerance: float = 2e-5) -> None:
    pairs = zip(outputs(one, inputs), outputs(other, inputs), strict=True)
    for a, b in pairs:
        assert np.abs(a - b).max() <= tolerance * max(np.ptp(a), 1e-3)


def record_of(model: Any) -> Shrinkage:
    record = sk.shrinkage(model)
    assert record is not None
    return record


def kept_of(model: Any) -> dict[str, int]:
    """Return the units left of every layer, by its name."""
    record = record_of(model)
    return {name.split("/")[-2]: units - record.removed[name] for name, units in record.units.items()}


def shrunk(model: Any, inputs: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingShrunkWarning)
        return sk.shrink(model, inputs)
