"""Keras models with dead units come out smaller, plain, and with the same outputs; what cannot go is named.

All of it runs on the torch backend. On the others every shrink takes a process of its own, so that a few tests must do:
KERAS_BACKEND=jax pytest tests/integrations/keras.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.vocabulary import SelectionError

keras = pytest.importorskip("keras")
from keras_zoo import (  # noqa: E402 - after the skip
    MODELS,
    assert_alike,
    convolutions,
    example,
    kept_of,
    on_torch,
    record_of,
    residual,
    roughen,
    shrunk,
)

from secateur.integrations import keras as sk  # noqa: E402

layers = keras.layers


@on_torch
@pytest.mark.parametrize("kind", MODELS)
def test_models_of_every_kind_keep_their_outputs_and_lose_weights(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = MODELS[kind]()
    roughen(model, rng)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]
    inputs = example(kind, rng)
    small = sk.shrink(model, inputs)
    assert all(np.array_equal(a, keras.ops.convert_to_numpy(v)) for a, v in zip(before, model.weights, strict=True))
    assert small.count_params() < (0.95 if kind == "recurrent" else 0.8) * model.count_params()
    tolerance = 2e-2 if kind == "mixed" else 2e-5
    inputs = sk.example_for(model, batch=5) if inputs is None else inputs
    assert_alike(model, small, inputs, tolerance)
    assert record_of(small).parameters == (model.count_params(), small.count_params())
    if kind != "normalized":  # which holds a lambda, as the model it came from does
        small.save(tmp_path / "small.keras")
        again = keras.saving.load_model(tmp_path / "small.keras")
        assert_alike(model, again, inputs, tolerance)
        assert type(again) is type(model)


@pytest.mark.parametrize("kind", ["convolutions", "shared"])
def test_under_any_backend_the_result_is_a_plain_model_of_that_backend(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    roughen(model, np.random.default_rng(1))
    small = sk.shrink(model)
    assert small.count_params() < 0.8 * model.count_params()
    assert_alike(model, small, sk.example_for(model), 5e-5)
    small.save(tmp_path / "small.keras")
    with zipfile.ZipFile(tmp_path / "small.keras") as file:
        assert "secateur" not in json.dumps(json.loads(file.read("config.json")))
    assert_alike(model, keras.saving.load_model(tmp_path / "small.keras"), sk.example_for(model), 5e-5)
    small.compile("sgd", "mse" if kind == "convolutions" else {"one": "mse", "two": "mse"})
    assert np.isfinite(small.evaluate(sk.example_for(model), small(sk.example_for(model)), verbose=0)).all()


@on_torch
@settings(max_examples=12)
@given(st.integers(0, 2**16), st.floats(0, 1), st.sampled_from(["relu", "tanh", "sigmoid"]))
def test_masks_of_any_sparsity(seed: int, sparsity: float, activation: str) -> None:
    """Against what can be read off the masks: a neuron stays if it reads something and something reads it."""
    rng = np.random.default_rng(seed)
    dense = layers.Dense
    model = keras.Sequential([keras.Input((6,)), dense(7, activation), dense(5, activation), dense(2)])
    masks = {}
    for variable in model.weights:
        variable.assign(rng.standard_normal(tuple(variable.shape)))
        if variable.name == "kernel":
            masks[variable.path] = torch.from_numpy(rng.random(tuple(variable.shape)) >= sparsity)
    sk.apply_masks(model, masks)
    a, b, c = (mask.numpy() for mask in masks.values())
    first, second = a.any(0), np.zeros(5, dtype=bool)
    while True:  # what is a constant feeds nothing, what nothing reads needs nothing
        second_now = (b & first[:, None]).any(0) & c.any(1)
        first_now = a.any(0) & (b & second_now[None, :]).any(1)
        if (first_now == first).all() and (second_now == second).all():
            break
        first, second = first_now, second_now
    small = shrunk(model)
    if first.any() and second.any():  # of a layer that is dead altogether one unit stays, with all it reads
        assert [layer.units for layer in small.layers] == [first.sum(), second.sum(), 2]
    assert_alike(model, small, rng.standard_normal((6, 6)).astype("float32"))
    assert all(variable.constraint is None for variable in small.weights)  # masks are not carried along


@on_torch
def test_exactly_the_dead_filters_go() -> None:
    model = convolutions()
    roughen(model, np.random.default_rng(0), dead=0.0)
    first, second, dense, _ = (each for each in model.layers if isinstance(each, layers.Conv2D | layers.Dense))
    for layer, gone in ((first, [0, 5]), (second, [1, 2, 3]), (dense, [8])):
        kernel = np.array(keras.ops.convert_to_numpy(layer.kernel))
        kernel[..., gone] = 0
        layer.kernel.assign(kernel)
    small = sk.shrink(model)
    left = [each for each in small.layers if isinstance(each, layers.Conv2D | layers.Dense)]
    assert [each.filters if isinstance(each, layers.Conv2D) else each.units for each in left] == [6, 3, 8, 4]
    assert [each.name for each in left] == [each.name for each in model.layers if each in (first, second)] + [
        each.name for each in model.layers if isinstance(each, layers.Dense)
    ]
    kernel = np.delete(np.delete(keras.ops.convert_to_numpy(second.kernel), [0, 5], axis=2), [1, 2, 3], axis=3)
    assert np.array_equal(keras.ops.convert_to_numpy(left[1].kernel), kernel)
    assert {name.split("/")[-1] for name in record_of(small).folded} == {"moving_mean", "bias"}
    assert np.array_equal(record_of(small).kept[second.kernel.path][2], [1, 2, 3, 4, 6, 7])


@on_torch
def test_units_chosen_over_coupled_layers_are_deleted() -> None:
    model = residual()
    roughen(model, np.random.default_rng(0), dead=0.0)
    masks = sk.prune_units(model, 0.5)
    assert all(tuple(mask.shape) == tuple(v.shape) for v in model.weights for n, mask in masks.items() if n == v.path)
    small = sk.shrink(model)
    total, left = sum(record_of(small).units.values()) - 3, sum(kept_of(small).values()) - 3
    assert left < 0.65 * total
    assert not record_of(small).stays
    assert_alike(model, small, sk.example_for(model))
    with pytest.raises(SelectionError, match="between 0 and 1"):
        sk.prune_units(model, 1.5)


@on_torch
def test_recurrent_layers_keep_their_units() -> None:
    model = MODELS["recurrent"]()
    masks = sk.prune_units(model, 0.5)
    assert all(bool(mask.all()) for name, mask in masks.items() if name.endswith("recurrent_kernel"))
    small = sk.shrink(model)
    assert small.layers[1].forward_layer.units == 4
    assert small.layers[2].units == 5
    assert small.layers[0].units + small.layers[3].units == 7


@on_torch
def test_heads_are_the_units_of_attention() -> None:
    model = MODELS["attention"]()
    sk.prune_units(model, 0.5)
    small = sk.shrink(model)
    attention = next(layer for layer in small.layers if isinstance(layer, layers.MultiHeadAttention))
    assert (attention.num_heads, attention.key_dim) == (1, 4)
    assert_alike(model, small, sk.example_for(model))
