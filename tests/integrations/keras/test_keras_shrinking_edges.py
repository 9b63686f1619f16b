"""Models of the user's classes, what stays and why, what is refused; and other backends' way to shrink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secateur as sc
from secateur.graph import TraceError
from secateur.shrink import NothingShrunkWarning
from secateur.vocabulary import BadTargetError

keras = pytest.importorskip("keras")
from keras_zoo import (  # noqa: E402 - after the skip
    MODELS,
    assert_alike,
    nested,
    on_torch,
    record_of,
    roughen,
    words,
)

from secateur.integrations import keras as sk  # noqa: E402

layers = keras.layers


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
    with pytest.raises(TraceError, match=f"cannot trace {model.name}"):
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
