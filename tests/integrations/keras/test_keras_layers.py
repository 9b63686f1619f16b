"""Keras layers of every kind, by single weights, in patterns and in blocks. Runs on the backend in use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import secateur as sc

keras = pytest.importorskip("keras")
from keras_training import (  # noqa: E402 - after the skip
    LOSS,
    RNG,
    Watch,
    fit,
    kernels,
    sequential,
    zeros,
)

from secateur.integrations import keras as sk  # noqa: E402

layers = keras.layers
LAYERS: dict[str, tuple[Any, tuple[int, ...], list[int]]] = {
    "dense": (lambda: layers.Dense(4), (6,), [24]),
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", output_shape=(3, 2, 4)), (3, 6), [48]),
    "attention": (lambda: SelfAttention(2), (3, 8), [64, 64, 64, 64]),
    "conv1d": (lambda: layers.Conv1D(4, 3), (8, 2), [24]),
    "conv3d": (lambda: layers.Conv3D(4, 2), (4, 4, 4, 2), [64]),
    "transposed": (lambda: layers.Conv2DTranspose(4, 3), (5, 5, 2), [72]),
    "transposed 1-d": (lambda: layers.Conv1DTranspose(4, 3), (5, 2), [24]),
    "transposed 3-d": (lambda: layers.Conv3DTranspose(4, 2), (3, 3, 3, 2), [64]),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), [72]),
    "depthwise 1-d": (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), (5, 4), [24]),
    "separable": (lambda: layers.SeparableConv1D(6, 3), (8, 4), [12, 24]),
    "grouped": (lambda: layers.Conv2D(4, 3, groups=2), (5, 5, 4), [72]),
    "rnn": (lambda: layers.SimpleRNN(4), (5, 3), [12, 16]),
    "lstm": (lambda: layers.LSTM(4), (5, 3), [48, 64]),
    "gru": (lambda: layers.Bidirectional(layers.GRU(4)), (5, 3), [36, 48, 36, 48]),
}


class SelfAttention(keras.layers.Layer):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(heads, 4)

    def build(self, shape: Any) -> None:
        self.attention.build(shape, shape)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_every_kind(kind: str) -> None:
    make, shape, sizes = LAYERS[kind]
    model = keras.Sequential([keras.Input(shape), make(), layers.Flatten(), layers.Dense(1)])
    assert [each.numel() for each in sk.prunable(model).values()][:-1] == sizes
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 0))
    model.compile("adam", "mse")
    x = RNG.standard_normal((16, *shape)).astype("float32")
    watch = Watch()
    model.fit(x, RNG.standard_normal((16, 1)), verbose=0, batch_size=8, callbacks=[sk.UpdatePruningStep(), watch])
    assert watch.apart == 0
    assert all(zeros(v) == round(0.5 * int(np.prod(v.shape))) for v in kernels(model))


def test_an_embedding_is_pruned_and_norms_are_passed_over() -> None:
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(20, 8), layers.LayerNormalization()])
    model.add(layers.GlobalAveragePooling1D())
    model.add(layers.Dense(1))
    names = list(sk.prunable(model))
    assert [name.split("/")[-1] for name in names] == ["embeddings", "kernel"]
    assert sk.prune(model, 0.75, include=[layers.Embedding]).count().total == 160


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind not in ("gru", "attention")])
def test_the_core_sees_outputs_first(kind: str) -> None:
    from secateur.integrations.keras.targets import find

    make, shape, _ = LAYERS[kind]
    model = keras.Sequential([keras.Input(shape), make()])
    for target in find(model):
        value = target.value()
        back = target.from_core(value)
        assert torch.equal(back, torch.from_numpy(np.array(keras.ops.convert_to_numpy(target.variable))))
    if kind in ("dense", "conv1d", "conv3d", "grouped", "einsum"):
        # A row of zeros is an output that is its bias whatever comes in.
        target = find(model)[0]
        masks = sc.Masks({target.name: torch.ones_like(target.value(), dtype=torch.bool)})
        masks[target.name][1] = False
        sk.apply_masks(model, {target.name: target.from_core(masks[target.name])})
        outputs = keras.ops.convert_to_numpy(model(RNG.standard_normal((4, *shape)).astype("float32")))
        flat = outputs.reshape(-1, 8) if kind == "einsum" else outputs.reshape(-1, outputs.shape[-1])
        assert (flat[:, 1] == 0).all() and (flat[:, 0] != 0).any()


def test_two_of_four_along_the_inputs() -> None:
    model = sequential()
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 0), sparsity_m_by_n=(2, 4))
    model.compile("adam", LOSS)
    fit(model, 1)
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)  # (54, 5)
    runs = (kernel[:52] != 0).reshape(13, 4, 5).sum(1)
    assert (runs == 2).all()


def convolution(shape: tuple[int, ...], layer: Any, **how: Any) -> tuple[Any, Any]:
    """The kernel of a convolution, as outputs by inputs by places, before and after half of it is pruned."""
    model = keras.Sequential([keras.Input(shape), layer])
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 0), **how)
    model.compile("sgd", "mse")
    x = np.zeros((8, *shape), "float32")
    kernels = [np.array(keras.ops.convert_to_numpy(layer.kernel))]
    model.fit(x, model.predict(x, verbose=0), verbose=0, callbacks=[sk.UpdatePruningStep()])
    kernels.append(np.array(keras.ops.convert_to_numpy(layer.kernel)))
    before, after = (np.moveaxis(each, (-1, -2), (0, 1)).reshape(*each.shape[:-3:-1], -1) for each in kernels)
    return before, after


@pytest.mark.parametrize("kind", ["conv1d", "conv2d"])
def test_two_of_four_input_channels_at_every_place_of_a_convolution(kind: str) -> None:
    shape, layer = ((6, 8), layers.Conv1D(3, 2)) if kind == "conv1d" else ((5, 5, 8), layers.Conv2D(3, 2))
    before, after = convolution(shape, layer, sparsity_m_by_n=(2, 4))
    windows = np.abs(before).reshape(3, 2, 4, -1)
    assert np.array_equal((after != 0).reshape(windows.shape), windows >= np.sort(windows, axis=2)[:, :, 2:3])


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
def test_blocks_of_convolutions_are_of_the_matrix_with_a_column_for_each_filter(pooling: Any) -> None:
    before, after = convolution((5, 5, 4), layers.Conv2D(6, 3), block_size=(6, 2), block_pooling_type=pooling)
    blocks = np.abs(before).reshape(3, 2, 6, 6).transpose(0, 2, 1, 3).reshape(18, 12)  # (in * places) / 6, of 2 filters
    scores = blocks.mean(1) if pooling == "AVG" else blocks.max(1)
    kept = (after != 0).reshape(3, 2, 6, 6).transpose(0, 2, 1, 3).reshape(18, 12)
    assert (kept.sum(1) == np.where(scores >= np.sort(scores)[9], 12, 0)).all()


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
def test_blocks_are_of_rows_by_columns_of_the_kernel(pooling: Any) -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 0), (4, 2), pooling)
    model.compile("sgd", "mse")
    kernel = np.array(keras.ops.convert_to_numpy(model.layers[0].kernel))
    model.fit(np.zeros((8, 8)), np.zeros((8, 6)), verbose=0, callbacks=[sk.UpdatePruningStep()])
    after = keras.ops.convert_to_numpy(model.layers[0].kernel)
    blocks = (after != 0).reshape(2, 4, 3, 2).transpose(0, 2, 1, 3).reshape(6, 8)
    assert sorted(blocks.sum(1)) == [0, 0, 0, 8, 8, 8]
    pooled = np.abs(kernel).reshape(2, 4, 3, 2).transpose(0, 2, 1, 3).reshape(6, 8)
    pooled = pooled.mean(1) if pooling == "AVG" else pooled.max(1)
    assert pooled[blocks.any(1)].min() > pooled[~blocks.any(1)].max()
