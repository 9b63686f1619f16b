"""Keras models of every kind, pruned while they train: exact, held, saved, resumed. Runs on the backend in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secateur as sc
from secateur.vocabulary import BadTargetError, CollapseWarning, NothingPrunedWarning, SelectionError

keras = pytest.importorskip("keras")
from secateur.integrations import keras as sk  # noqa: E402 - after the skip

layers = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((256, 8, 8, 3)).astype("float32")
LABELS = RNG.integers(0, 5, 256)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STEPS = 8  # an epoch of batches of 32


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = layers.Conv2D(6, 3, activation="relu")
        self.blocks = [layers.Dense(8, activation="relu"), layers.Dense(8)]
        self.pool = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(5)

    def call(self, x: Any) -> Any:
        x = self.pool(self.convolution(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def sequential() -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(5),
        ]
    )


def functional() -> Any:
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(6, 3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    y = layers.add([y, layers.SeparableConv2D(6, 3, padding="same")(y)])
    y = layers.GlobalAveragePooling2D()(layers.ReLU()(y))
    return keras.Model(x, layers.Dense(5)(y))


def nested() -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), functional(), layers.Dense(5)])


MODELS = {"sequential": sequential, "functional": functional, "subclassed": Subclassed, "nested": nested}


def fit(model: Any, epochs: int = 2, callbacks: tuple[Any, ...] = (), **how: Any) -> Any:
    return model.fit(
        IMAGES, LABELS, batch_size=32, epochs=epochs, verbose=0, callbacks=[sk.UpdatePruningStep(), *callbacks], **how
    )


def kernels(model: Any) -> list[Any]:
    return [v for v in model.trainable_variables if "kernel" in v.name or "embeddings" in v.name]


def zeros(variable: Any) -> int:
    return int(np.sum(keras.ops.convert_to_numpy(variable) == 0))


class Watch(keras.callbacks.Callback):
    """After every step: the zeros in each kernel, and whether they are where the masks say."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[list[int]] = []
        self.apart = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        model = self.model
        masks = sk.masks_of(model)
        values = {v.path: keras.ops.convert_to_numpy(v) for v in kernels(model)}
        self.apart += sum(int(((values[name] == 0) != ~mask.numpy()).sum()) for name, mask in masks.items())
        self.counts.append([zeros(v) for v in kernels(model)])


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


def test_a_constraint_that_was_there_still_holds() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, kernel_constraint=keras.constraints.NonNeg())])
    sk.prune_low_magnitude(model, sk.ConstantSparsity(0.25, 0))
    model.compile("sgd", "mse")
    model.fit(IMAGES[:, 0, :, 0], RNG.standard_normal((256, 6)), verbose=0, callbacks=[sk.UpdatePruningStep()])
    assert (keras.ops.convert_to_numpy(model.layers[0].kernel) >= 0).all()
    sk.strip_pruning(model)
    assert isinstance(model.layers[0].kernel.constraint, keras.constraints.NonNeg)


def pruned_halfway(folder: Path) -> tuple[Any, sc.Masks, Path]:
    """A model killed after 10 of 16 steps of pruning, and its file."""
    model = sequential()
    sk.prune_low_magnitude(model, sk.PolynomialDecay(0.3, 0.8, begin_step=0, end_step=14, frequency=2))
    model.compile("adam", LOSS)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations) == 10:
                self.model.save(folder / "half.keras")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=(Stop(),))
    return model, sk.masks_of(model), folder / "half.keras"


def test_a_file_saved_halfway_is_a_plain_model_and_brings_its_masks_back(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    _, masks, path = pruned_halfway(tmp_path)
    assert 0.3 < masks.sparsity < 0.8
    model = keras.saving.load_model(path)
    assert not [w for w in recwarn if "Skipping variable loading" in str(w.message)]
    assert int(model.optimizer.iterations) == 10 and sk.masks_of(model) == sc.Masks({})
    sk.prune_low_magnitude(model, sk.PolynomialDecay(0.3, 0.8, begin_step=0, end_step=14, frequency=2))
    model.load_weights(path)
    assert sk.masks_of(model).sparsity == masks.sparsity
    resumed = [mask for _, mask in sorted(sk.masks_of(model).items())]
    assert all(torch.equal(a, b) for a, b in zip(resumed, [m for _, m in sorted(masks.items())], strict=True))
    watch = Watch()
    fit(model, 1, (watch,))
    sizes = [int(np.prod(v.shape)) for v in kernels(model)]
    assert watch.counts[-1] == [round(0.8 * size) for size in sizes] and watch.apart == 0
    final = [mask for _, mask in sorted(sk.masks_of(model).items())]
    assert all((old | ~new).all() for old, new in zip(resumed, final, strict=True))
    sk.strip_pruning(model)
    model.save(tmp_path / "done.keras")
    again = keras.saving.load_model(tmp_path / "done.keras")
    assert np.array_equal(again.predict(IMAGES[:4], verbose=0), model.predict(IMAGES[:4], verbose=0))


def test_backup_and_restore_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    def model() -> Any:
        keras.utils.set_random_seed(0)
        made = sequential()
        sk.prune_low_magnitude(made, sk.PolynomialDecay(0.3, 0.8, begin_step=0, end_step=14, frequency=2))
        made.compile("adam", LOSS)
        return made

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    def backup() -> Any:
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    killed = model()
    with pytest.raises(KeyboardInterrupt):
        fit(killed, 2, (backup(), Kill()))
    before = sk.masks_of(killed)
    again, watch = model(), Watch()
    fit(again, 2, (backup(), watch))
    assert len(watch.counts) == STEPS and int(again.optimizer.iterations) == 2 * STEPS
    after = sk.masks_of(again)
    kept = [mask for _, mask in sorted(after.items())]
    assert all((old | ~new).all() for old, new in zip([m for _, m in sorted(before.items())], kept, strict=True))
    assert after.count().removed == sum(round(0.8 * m.numel()) for m in kept)


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


def test_masks_go_to_a_file_and_to_another_model(tmp_path: Path) -> None:
    model = sequential()
    sk.prune(model, 0.5)
    sk.masks_of(model).save(tmp_path / "m.safetensors")
    weights = model.get_weights()
    other = keras.models.clone_model(model)
    other.set_weights([w + 1 for w in weights])
    masks = sc.Masks.load(tmp_path / "m.safetensors")
    renamed = dict(zip(sk.prunable(other), [masks[name] for name in sk.prunable(model)], strict=True))
    sk.apply_masks(other, renamed)
    assert [zeros(v) for v in kernels(other)] == [int((~m).sum()) for m in renamed.values()]
    with pytest.raises(BadTargetError, match="no prunable variable"):
        sk.apply_masks(other, {"nonsense": next(iter(renamed.values()))})
    with pytest.raises(BadTargetError, match="shape"):
        sk.apply_masks(other, {next(iter(renamed)): torch.ones(2, dtype=torch.bool)})


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


@pytest.mark.parametrize("make", [sequential, functional])
def test_a_packed_model_comes_back(tmp_path: Path, make: Any) -> None:
    model, other = make(), make()
    sk.prune(model, 0.8)
    packed = sk.pack(model, tmp_path / "x.sct", metadata={"by": "keras"})
    assert packed.metadata == {"by": "keras"} and packed.nbytes > packed.size
    assert sk.unpack(tmp_path / "x.sct", into=other) is other
    assert np.array_equal(model.predict(IMAGES, verbose=0), other.predict(IMAGES, verbose=0))
    small = sk.pack(model, tmp_path / "y.sct", bits=3)
    assert small.size < packed.size
    sk.unpack(tmp_path / "y.sct", into=other)
    kernel = keras.ops.convert_to_numpy(other.layers[-1].kernel)
    assert len(np.unique(kernel[kernel != 0])) <= 8


def test_a_packed_model_of_another_architecture_is_refused(tmp_path: Path) -> None:
    sk.pack(sequential(), tmp_path / "x.sct")
    with pytest.raises(BadTargetError, match="variables"):
        sk.unpack(tmp_path / "x.sct", into=functional())
    other = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(6, 2), layers.Flatten(), layers.Dense(5)])
    with pytest.raises(BadTargetError, match="does not fit"):
        sk.unpack(tmp_path / "x.sct", into=other)
