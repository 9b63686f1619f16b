"""Zeros hold in whatever training follows, in models that were trained before too. Runs on the backend in use.

JAX and TensorFlow keep a compiled train step from one fit to the next, so that these tests fail there first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

keras = pytest.importorskip("keras")
from secateur.integrations import keras as sk  # noqa: E402 - after the skip

layers = keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 8)).astype("float32")
Y = RNG.standard_normal((16, 6)).astype("float32")
HALF = sk.ConstantSparsity(0.5, 0)


def dense(name: str | None = None) -> Any:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)], name=name)
    model.compile("adam", "mse")
    return model


def around(inner: Any) -> Any:
    """A model that trains another."""
    model = keras.Sequential([keras.Input((8,)), inner, layers.Dense(6)])
    model.compile("adam", "mse")
    return model


def fit(model: Any, *callbacks: Any) -> None:
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=list(callbacks))


def on_batches(model: Any) -> None:
    for _ in range(2):
        model.train_on_batch(X, Y)


def zeros(model: Any) -> int:
    return int(np.sum(keras.ops.convert_to_numpy(model.layers[0].kernel) == 0))


def masked(model: Any) -> None:
    (name,) = sk.prunable(model)
    sk.apply_masks(model, {name: torch.arange(48).reshape(8, 6) % 2 == 0})


@pytest.mark.parametrize("train", [fit, on_batches])
@pytest.mark.parametrize("cut", [lambda model: sk.prune(model, 0.5), masked], ids=["prune", "apply_masks"])
def test_a_model_that_was_trained_before(cut: Callable[[Any], Any], train: Callable[[Any], None]) -> None:
    model = dense()
    train(model)
    cut(model)
    train(model)
    assert zeros(model) == 24
    sk.strip_pruning(model)
    train(model)
    assert zeros(model) == 0  # nothing is held any more


def test_what_is_pruned_again_after_training() -> None:
    model = dense()
    sk.prune(model, 0.25)
    fit(model)
    step = model.train_function  # someone may have kept it
    sk.prune(model, 0.5)
    fit(model)
    assert zeros(model) == 24 and step is not None


def test_marked_after_training_and_trained_with_and_without_the_callback() -> None:
    model = dense()
    fit(model)
    sk.prune_low_magnitude(model, HALF)
    fit(model)
    fit(model, sk.UpdatePruningStep())
    assert zeros(model) == 24
    fit(model)
    assert zeros(model) == 24
    sk.strip_pruning(model)
    fit(model)
    assert zeros(model) == 0


def test_marked_before_it_is_built_and_trained_first_without_the_callback() -> None:
    model = sk.prune_low_magnitude(keras.Sequential([layers.Dense(6)]), HALF)
    model.compile("adam", "mse")
    fit(model)
    fit(model, sk.UpdatePruningStep())
    assert zeros(model) == 24


def test_marked_again_after_stripping() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(8), layers.Dense(6)])
    model.compile("adam", "mse")
    for index in (0, 1):  # of one shape: to JAX, the second step looks like the first
        sk.prune_low_magnitude(model.layers[index], HALF)
        fit(model, sk.UpdatePruningStep())
        sk.strip_pruning(model)
    fit(model)
    sk.prune_low_magnitude(model.layers[0], HALF)
    fit(model, sk.UpdatePruningStep())
    assert zeros(model) == 32


@pytest.mark.parametrize("part", [lambda inner: inner, lambda inner: inner.layers[0]], ids=["model", "layer"])
def test_a_part_of_a_model_that_was_trained_before(part: Callable[[Any], Any]) -> None:
    inner = dense()
    outer = around(inner)
    fit(outer)
    sk.prune(part(inner), 0.5)
    fit(outer)
    assert zeros(inner) == 24
    sk.strip_pruning(inner)
    fit(outer)
    assert zeros(inner) == 0
    sk.prune_low_magnitude(part(inner), HALF)
    fit(outer, sk.UpdatePruningStep())
    assert zeros(inner) == 24
    fit(outer)
    fit(inner)
    assert zeros(inner) == 24


def test_a_part_trained_with_the_callback_and_then_in_its_whole() -> None:
    inner = dense()
    outer = around(inner)
    sk.prune_low_magnitude(inner, HALF)
    fit(outer)
    fit(inner, sk.UpdatePruningStep())
    fit(outer)
    assert zeros(inner) == 24


def test_pruned_by_a_callback_while_it_trains() -> None:
    class Cut(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch:
                sk.prune(self.model, 0.5)

    model = dense()
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[Cut()])
    assert zeros(model) == 24


def test_callbacks_called_by_hand() -> None:
    model = dense()
    on_batches(model)
    sk.prune_low_magnitude(model, HALF)
    callbacks = keras.callbacks.CallbackList([sk.UpdatePruningStep()], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(3):
        model.train_on_batch(X, Y)
        callbacks.on_train_batch_end(batch)
    callbacks.on_train_end()
    assert zeros(model) == 24


def test_a_loop_of_ones_own_that_applies_gradients_with_a_keras_optimizer() -> None:
    model = dense()
    optimizer = keras.optimizers.SGD(0.1)
    sk.prune(model, 0.5)
    for _ in range(2):
        optimizer.apply([keras.ops.ones(v.shape) for v in model.trainable_variables], model.trainable_variables)
    assert zeros(model) == 24


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of torch's own optimizers")
def test_a_loop_of_ones_own_with_an_optimizer_of_torch() -> None:
    model = dense()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sk.prune(model, 0.5)
    for _ in range(2):
        model(X).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        sk.apply_masks(model, sk.masks_of(model))
    assert zeros(model) == 24


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of JAX's compiled functions")
def test_a_stateless_loop_that_is_compiled_after_pruning() -> None:
    import jax

    model = dense()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    for sparsity in (0.25, 0.5):
        sk.prune(model, sparsity)
        step = jax.jit(lambda state, weights: optimizer.stateless_apply(state, weights, weights))
        weights, _ = step([v.value for v in optimizer.variables], [v.value + 1 for v in model.trainable_variables])
        assert int((weights[0] == 0).sum()) == 48 * sparsity


def test_scaled_losses_of_half_precision() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, dtype="mixed_float16")])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)), "mse")
    fit(model)
    sk.prune_low_magnitude(model, HALF)
    fit(model, sk.UpdatePruningStep())
    assert zeros(model) == 24
    fit(model)
    assert zeros(model) == 24


def test_averages_of_the_optimizer_end_pruned() -> None:
    model = sk.prune_low_magnitude(keras.Sequential([keras.Input((8,)), layers.Dense(6)]), sk.ConstantSparsity(0.5, 2))
    model.compile(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9), "mse")
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[sk.UpdatePruningStep()])
    assert zeros(model) == 24
