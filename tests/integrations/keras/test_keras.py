"""Keras models of every kind, pruned while they train: exact, held, measured. Runs on the backend in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import secateur as sc
from secateur.vocabulary import BadTargetError, CollapseWarning, NothingPrunedWarning, SelectionError

keras = pytest.importorskip("keras")
from keras_training import (  # noqa: E402 - after the skip
    IMAGES,
    LOSS,
    MODELS,
    RNG,
    Watch,
    fit,
    functional,
    kernels,
    sequential,
    zeros,
)

from secateur.integrations import keras as sk  # noqa: E402

layers = keras.layers


keras = pytest.importorskip("keras")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("kind", MODELS)
def test_training_keeps_to_the_schedule_step_by_step(kind: str, optimizer: str) -> None:
    model = MODELS[kind]()
    schedule = sk.PolynomialDecay(0.3, 0.8, begin_step=2, end_step=12, frequency=3)
    assert sk.prune_low_magnitude(model, schedule) is model
    rule = keras.optimizers.SGD(0.01, momentum=0.9) if optimizer == "sgd" else optimizer
    model.compile(rule, LOSS)
    watch = Watch()
    fit(model, callbacks=(watch,))
    sizes = [int(np.prod(v.shape)) for v in kernels(model)]
    drawn = 0.0
    for step, counts in enumerate(watch.counts, start=1):
        drawn = schedule(step) if schedule.due(step) else drawn
        assert counts == [round(drawn * size) for size in sizes], f"step {step}"
    assert watch.apart == 0
    sk.strip_pruning(model)
    assert [zeros(v) for v in kernels(model)] == [round(0.8 * size) for size in sizes]


def test_weights_and_their_names_stay_what_they_are() -> None:
    model = functional()
    before = [(v.path, id(v)) for v in model.weights]
    model.compile("adam", LOSS)
    config = model.to_json()
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 0))
    fit(model, 1)
    assert [(v.path, id(v)) for v in model.weights] == before and model.to_json() == config
    sk.strip_pruning(model)
    assert all(v.constraint is None for v in model.weights)
    assert not [name for layer in model.layers for name in vars(layer) if "pruning" in name or "secateur" in name]


def test_global_scope_ranks_all_layers_together() -> None:
    model = sequential()
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.6, 0), scope="global", ignore=["dense*"])
    model.compile("sgd", LOSS)
    fit(model, 1)
    assert sum(map(zeros, kernels(model))) == round(0.6 * int(np.prod(kernels(model)[0].shape)))

    model = sequential()
    expected = sc.Choice()(sk.prunable(model), 0.6)
    sk.prune(model, 0.6)
    assert {name: zeros(v) for name, v in zip(expected, kernels(model), strict=True)} == {
        name: expected.count(name).removed for name in expected
    }


def test_layers_marked_one_by_one_have_schedules_of_their_own() -> None:
    model = keras.Sequential(
        [
            sk.prune_low_magnitude(layers.Conv2D(6, 3), sk.ConstantSparsity(0.5, 0)),
            layers.Flatten(),
            sk.prune_low_magnitude(layers.Dense(16), sk.ConstantSparsity(0.25, 4), criterion=sc.criteria.random),
            layers.Dense(5),
        ]
    )
    model.compile("adam", LOSS)
    watch = Watch()
    fit(model, 1, (watch,))
    assert watch.counts[0] == [81, 0, 0] and watch.counts[-1] == [81, 864, 0]


def test_a_constraint_that_was_there_still_holds() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, kernel_constraint=keras.constraints.NonNeg())])
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.25, 0))
    model.compile("sgd", "mse")
    model.fit(IMAGES[:, 0, :, 0], RNG.standard_normal((256, 6)), verbose=0, callbacks=[sk.UpdatePruningStep()])
    assert (keras.ops.convert_to_numpy(model.layers[0].kernel) >= 0).all()
    sk.strip_pruning(model)
    assert isinstance(model.layers[0].kernel.constraint, keras.constraints.NonNeg)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on torch")
def test_several_steps_at_a_time_draw_what_was_due_among_them() -> None:
    model = sequential()
    schedule = sk.PolynomialDecay(0.3, 0.8, begin_step=1, end_step=13, frequency=3)
    sk.prune_low_magnitude(model, schedule)
    model.compile("sgd", LOSS, steps_per_execution=4)
    fit(model)
    assert [zeros(v) for v in kernels(model)] == [round(0.8 * int(np.prod(v.shape))) for v in kernels(model)]


def test_gradient_accumulation_counts_steps_of_the_optimizer() -> None:
    model = sequential()
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 4))
    model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2), LOSS)
    watch = Watch()
    fit(model, 2, (watch,))
    assert [sum(counts) for counts in watch.counts[:7]] == [0] * 7
    assert watch.counts[7] == [round(0.5 * int(np.prod(v.shape))) for v in kernels(model)]
    assert watch.apart == 0


def test_averages_of_weights_are_pruned_too() -> None:
    model = sequential()
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 4))
    model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.5), LOSS)
    fit(model, 2)
    sk.strip_pruning(model)
    assert all(zeros(v) == round(0.5 * int(np.prod(v.shape))) for v in kernels(model))


def test_mixed_precision() -> None:
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(16, dtype="mixed_bfloat16"), layers.Dense(5)]
    )
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 2), scope="global")
    model.compile("adam", LOSS)
    fit(model, 1)
    assert sum(map(zeros, kernels(model))) == round(0.5 * sum(int(np.prod(v.shape)) for v in kernels(model)))


def test_summaries_say_the_sparsity_of_every_variable(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = sequential()
    sk.prune_low_magnitude(model, sk.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=12, frequency=1))
    model.compile("adam", LOSS)
    fit(model, 2, (sk.PruningSummaries(tmp_path),))
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [each.step for each in events.Scalars("sparsity")] == [0, 1]
    assert events.Scalars("sparsity")[-1].value == pytest.approx(0.8, abs=0.003)
    assert len([tag for tag in events.Tags()["scalars"] if tag.startswith("sparsity/")]) == 2


def test_pruning_again_stays_inside_what_is_pruned() -> None:
    model = sequential()
    first, second = sk.prune(model, 0.5), sk.prune(model, 0.8)
    assert second.sparsity == pytest.approx(0.8, abs=0.005)
    assert all((first[name] | ~second[name]).all() for name in first)


def test_measure_counts_zeros_bytes_and_multiply_adds() -> None:
    model = functional()
    sk.prune(model, 0.5)
    report = sk.measure(model, IMAGES[:2], target_sparsity=0.5, timing=sc.Timing(warmup=1, repeats=3))
    total = sum(int(np.prod(v.shape)) for v in kernels(model))
    assert (report.targets.weights, report.targets.kept) == (total, total - round(0.5 * total))
    macs = [64 * 162, 64 * 54, 64 * 36, 30]
    assert report.macs is not None and report.macs.dense == sum(macs)
    assert report.parameters.weights == model.count_params() and not report.notes
    assert report.bytes.dense > 4 * model.count_params() and report.latency is not None
    assert report.latency.batch == 2 and "Conv2D" in str(report)
    recurrent = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4)])
    assert (
        sk.measure(recurrent, np.zeros((1, 5, 3)), timing=None).macs
        == sc.measure(torch.nn.LSTM(3, 4, batch_first=True), torch.zeros(1, 5, 3), timing=None).macs
    )
    transposed = keras.Sequential([keras.Input((5, 5, 2)), layers.Conv2DTranspose(4, 3)])
    assert sk.measure(transposed, np.zeros((1, 5, 5, 2)), timing=None).macs.dense == 25 * 72  # type: ignore[union-attr]


def test_what_cannot_be_done_is_said() -> None:
    empty = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    with pytest.raises(BadTargetError, match=r"nothing to prune.*ReLU"):
        sk.prune_low_magnitude(empty)
    model = sequential()
    model.compile("sgd", LOSS)
    with pytest.raises(BadTargetError, match="not marked"):
        fit(model, 1)
    with pytest.raises(SelectionError, match="AVG"):
        sk.prune_low_magnitude(model, None, (2, 2), "MIN")  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="scope"):
        sk.prune_low_magnitude(model, None, scope="all")  # type: ignore[arg-type]
    with pytest.raises(BadTargetError, match=r"include='dens'.*dense"):
        sk.prune(model, 0.5, include=["dens"])
    with pytest.raises(BadTargetError, match=r"include='dens'.*dense"):
        sk.prune_low_magnitude(model, include=["dens"])
    sk.prune_low_magnitude(model)
    with pytest.warns(NothingPrunedWarning, match="UpdatePruningStep"):
        sk.strip_pruning(model)
    with pytest.warns(CollapseWarning, match="all weights"):
        sk.prune(keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Dense(100)]), 0.98)


def test_a_frozen_layer_is_pruned_and_stays_so() -> None:
    model = sequential()
    model.layers[0].trainable = False
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.5, 3))
    model.compile("adam", LOSS)
    fit(model, 1)
    assert zeros(model.layers[0].kernel) == 81


def test_biases_are_targets_if_asked() -> None:
    model = sequential()
    assert sk.prune(model, 0.5, choice=sc.Choice(scope=sc.PerTensor()), biases=True).count().total == 162 + 6 + 270 + 5
    assert [int(np.sum(keras.ops.convert_to_numpy(mask))) for mask in sk.masks_of(model).values()] == [81, 3, 135, 3]
    sk.strip_pruning(model)
    assert sk.masks_of(model) == sc.Masks({}) and all(v.constraint is None for v in model.weights)
