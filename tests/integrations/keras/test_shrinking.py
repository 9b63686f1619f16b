"""Keras models with dead units come out smaller, plain, and with the same outputs; what cannot go is named.

All of it runs on the torch backend. On the others every shrink takes a process of its own, so that only what is marked
runs there: KERAS_BACKEND=jax pytest tests/integrations/keras/test_shrinking.py.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sc
from secateur.graph import TraceError
from secateur.shrink import NothingShrunkWarning, Shrinkage
from secateur.vocabulary import BadTargetError, SelectionError

keras = pytest.importorskip("keras")
from models import MODELS, convolutions, example, nested, residual, roughen, words  # noqa: E402 - after the skip

from secateur.integrations import keras as sk  # noqa: E402

layers = keras.layers
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


class Block(layers.Layer):
    def __init__(self, filters: int, **options: Any) -> None:
        super().__init__(**options)
        self.convolution, self.norm = layers.Conv2D(filters, 3, padding="same"), layers.BatchNormalization()

    def call(self, x: Any, training: Any = None) -> Any:
        return keras.ops.relu(self.norm(self.convolution(x), training=training))


class Net(keras.Model):
    """Blocks of the user's, one of them called twice, operators, and a model inside."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block(6, name="one"), Block(6, name="two")]
        self.pool, self.body = layers.GlobalAveragePooling2D(), keras.Sequential([layers.Dense(7, "relu")])
        self.heads = {"a": layers.Dense(2), "b": layers.Dense(3)}

    def call(self, x: Any, training: Any = None) -> Any:
        x = self.blocks[0](x, training=training)
        x = x + self.blocks[1](x) * 0.5
        x = self.body(self.pool(self.blocks[1](x)))
        return {name: head(x) for name, head in self.heads.items()}


@on_torch
def test_a_subclassed_model_comes_back_functional(tmp_path: Path) -> None:
    model, x = Net(), np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype("float32")
    model(x)
    model.compile("adam", lambda _, found: keras.ops.mean(found))
    roughen(model, np.random.default_rng(0))
    kinds = [type(layer) for layer in model._flatten_layers()]
    small = sk.shrink(model, x)
    assert [type(layer) for layer in model._flatten_layers()] == kinds
    assert model.compiled
    assert not small.compiled
    assert small.count_params() < model.count_params()
    small.save(tmp_path / "small.keras")
    assert_alike(model, keras.saving.load_model(tmp_path / "small.keras"), x)
    with pytest.raises(BadTargetError, match="does not know the shapes of its inputs: give an example"):
        sk.shrink(model)


class Scaled(layers.Layer):
    """A layer with a variable of its own beside the layer inside."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.dense = units, layers.Dense(units)

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x) * self.scale


@on_torch
def test_what_a_config_does_not_count_stays_and_is_named() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(3)(Scaled(6, name="own")(layers.Dense(8, name="before")(inputs))))
    roughen(model, np.random.default_rng(0))
    small = sk.shrink(model)
    assert small.layers[1].units == 4
    assert small.layers[2].units == 6
    assert [name.split("/")[0] for name in record_of(small).refused] == ["own"]
    assert "insists on its size" in str(record_of(small))

    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(3)(keras.ops.sort(layers.Dense(6)(layers.Dense(7)(inputs)))))
    roughen(model, np.random.default_rng(0))
    small = sk.shrink(model)
    assert [layer.units for layer in small.layers if isinstance(layer, layers.Dense)] == [4, 6, 3]
    assert "not followed: sort" in str(record_of(small))


@on_torch
def test_a_model_with_nothing_dead_is_copied_whole() -> None:
    model = nested()
    with pytest.warns(NothingShrunkWarning, match="no unit of the model is dead"):
        small = sk.shrink(model)
    assert small is not model
    assert small.count_params() == model.count_params()
    assert [layer.name for layer in small.layers][1:] == [layer.name for layer in model.layers][1:]
    assert_alike(model, small, sk.example_for(model))
    assert model.get_layer("inner").compiled


class Branching(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(x) if float(keras.ops.sum(x)) > 0 else self.dense(-x)


class Forgetful(layers.Layer):
    """Computes with what no config and no variable says."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.factor = 1.0

    def call(self, x: Any) -> Any:
        return x * self.factor


@on_torch
def test_what_cannot_be_done_is_refused_with_the_way_out() -> None:
    with pytest.raises(BadTargetError, match="give an example of it"):
        sk.shrink(words())
    with pytest.raises(BadTargetError, match="give an example of it"):
        sk.shrink(keras.Sequential([keras.Input((None, 3)), layers.Conv1D(4, 3)]))
    branching = Branching()
    branching(np.ones((2, 4)))
    with pytest.raises(BadTargetError, match="write it as a functional model"):
        sk.shrink(branching, np.ones((2, 4), "float32"))
    model = keras.Sequential([keras.Input((4,)), Forgetful(), layers.Dense(2)])
    model.layers[0].factor = 2.0
    with pytest.raises(BadTargetError, match=r"cannot be made anew .* other outputs"):
        sk.shrink(model)


@on_torch
def test_a_model_that_cannot_be_traced_is_copied_whole() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    layer = layers.Lambda(lambda x: x if float(x.sum()) > 1e9 else x * 1.0, output_shape=(3,))
    model.add(layer)
    with pytest.warns(NothingShrunkWarning, match="the model is returned whole"):
        small = sk.shrink(model)
    assert small.count_params() == model.count_params()
    with pytest.raises(TraceError):
        sk.couple(model)


@on_torch
def test_names_that_torch_has_other_uses_for() -> None:
    dense = layers.Dense
    named = [dense(8, name="model"), dense(7, name="train"), dense(6, name="forward"), dense(2, name="layers")]
    model = keras.Sequential([keras.Input((4,)), *named], name="net")
    roughen(model, np.random.default_rng(0))
    small = sk.shrink(model)
    assert [layer.name for layer in small.layers] == ["model", "train", "forward", "layers"]
    assert [layer.units for layer in small.layers] == [4, 4, 3, 2]


@pytest.mark.parametrize("name", ["shrink", "couple", "measure", "prune", "prune_units", "pack"])
def test_the_cores_functions_name_the_adapters(name: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    given: tuple[Any, ...] = (tmp_path / "a.sct",) if name == "pack" else (torch.zeros(1, 4),)
    with pytest.raises(BadTargetError, match=rf"secateur\.integrations\.keras\.{name}"):
        getattr(sc, name)(model, *given)
    assert hasattr(sk, name)


@on_torch
def test_a_torch_module_around_a_keras_layer_is_not_cut() -> None:
    class Around(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 8), layers.Dense(2)
            self.second.build((None, 8))

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x))

    with pytest.raises(BadTargetError, match="Keras layers inside"):
        sc.shrink(Around(), torch.zeros(2, 4))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch needs no other process")
def test_units_are_followed_under_torch_alone() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(BadTargetError, match="KERAS_BACKEND=torch"):
        sk.couple(model)


def test_the_process_that_other_backends_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.integrations.keras.elsewhere import ask

    model = MODELS["sequence"]()
    roughen(model, np.random.default_rng(2))
    small, record = ask(model, sk.example_for(model))
    assert record.parameters == (model.count_params(), small.count_params())
    assert small.count_params() < 0.8 * model.count_params()
    assert_alike(model, small, sk.example_for(model), 5e-5)
    assert all(len(rows) for axes in record.kept.values() for rows in axes.values())
    assert "parameters ->" in str(record)
    inputs = keras.Input((4,))
    own = keras.Model(inputs, layers.Dense(2)(Scaled(3)(inputs)))
    with pytest.raises(BadTargetError, match=r"process under the torch backend .* custom objects are known"):
        ask(own, sk.example_for(own))
