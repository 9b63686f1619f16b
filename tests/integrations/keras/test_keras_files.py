"""Keras models saved, killed, resumed and packed, and masks in files. Runs on the backend in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secateur as sc
from secateur.vocabulary import BadTargetError

keras = pytest.importorskip("keras")
from keras_training import (  # noqa: E402 - after the skip
    IMAGES,
    LOSS,
    Watch,
    fit,
    functional,
    kernels,
    sequential,
    zeros,
)

from secateur.integrations import keras as sk  # noqa: E402

layers = keras.layers
STEPS = 8  # an epoch of batches of 32


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
