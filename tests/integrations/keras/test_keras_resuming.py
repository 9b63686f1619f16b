"""Models of every kind are saved while they are pruned, and go on from the file on the masks in it.

Runs on the backend in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

keras = pytest.importorskip("keras")
from secateur.integrations import keras as sk  # noqa: E402 - after the skip

layers = keras.layers
SCHEDULE = sk.PolynomialDecay(0.4, 0.7, begin_step=1, end_step=4, frequency=1)


class Subclassed(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = [layers.Dense(8, activation="relu"), layers.Dense(8)]
        self.head = layers.Dense(1)

    def build(self, shape: Any) -> None:
        self.blocks[0].build(shape)
        self.blocks[1].build((None, 8))
        self.head.build((None, 8))

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def sequential(shape: tuple[int, ...], *inside: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *inside, layers.Flatten(), layers.Dense(1)])


def stack(units: int, *inside: Any) -> Any:
    return keras.Sequential([keras.Input((units,)), *inside])


def attention() -> Any:
    x = keras.Input((4, 6))
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(layers.MultiHeadAttention(2, 4)(x, x))))


def embedding() -> Any:
    tokens = keras.Input((4,), dtype="int32")
    return keras.Model(tokens, layers.Dense(1)(layers.Flatten()(layers.Embedding(20, 6)(tokens))))


def subclassed() -> Any:
    model = Subclassed()
    model.build((None, 6))
    return model


KINDS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "sequential": (lambda: sequential((6,), layers.Dense(8)), (6,)),
    "subclassed": (subclassed, (6,)),
    "nested": (lambda: sequential((6,), stack(6, stack(6, layers.Dense(8)), layers.Dense(4))), (6,)),
    "lstm": (lambda: sequential((4, 3), layers.LSTM(4)), (4, 3)),
    "bidirectional": (lambda: sequential((4, 3), layers.Bidirectional(layers.GRU(4))), (4, 3)),
    "attention": (attention, (4, 6)),
    "separable": (lambda: sequential((6, 6, 2), layers.SeparableConv2D(4, 3)), (6, 6, 2)),
    "distributed": (lambda: sequential((4, 3), layers.TimeDistributed(layers.Dense(4))), (4, 3)),
    "embedding": (embedding, (4,)),
}


def data(kind: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    shape = (16, *KINDS[kind][1])
    x = rng.integers(0, 10, shape) if kind == "embedding" else rng.standard_normal(shape)
    return x.astype("int32" if kind == "embedding" else "float32"), rng.standard_normal((16, 1)).astype("float32")


def marked(model: Any) -> Any:
    sk.prune_low_magnitude(model, SCHEDULE)
    if not model.compiled:
        model.compile("adam", "mse")
    return model


def trained(model: Any, kind: str) -> list[torch.Tensor]:
    """Train for two steps; return the masks, in the order of the layers."""
    model.fit(*data(kind), batch_size=8, verbose=0, callbacks=[sk.UpdatePruningStep()])
    return masks(model)


def masks(model: Any) -> list[torch.Tensor]:
    return [mask.clone() for mask in sk.masks_of(model).values()]


def sparsity(found: list[torch.Tensor]) -> float:
    return sum(int((~mask).sum()) for mask in found) / sum(mask.numel() for mask in found)


@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_come_back_from_a_file_and_training_goes_on_inside_them(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"half.{suffix}"
    model = marked(KINDS[kind][0]())
    before = trained(model, kind)
    assert 0.4 < sparsity(before) < 0.7
    if suffix == "keras":
        model.save(path)
        again = keras.saving.load_model(path, custom_objects={"Subclassed": Subclassed})
    else:
        model.save_weights(path)
        again = KINDS[kind][0]()
        again.compile("adam", "mse")
        again.optimizer.build(again.trainable_variables)  # so that the file's state has where to go
    assert not masks(again)
    marked(again).load_weights(path)
    assert all(torch.equal(a, b) for a, b in zip(before, masks(again), strict=True))
    assert int(again.optimizer.iterations) == 2
    after = trained(again, kind)
    assert [int((~mask).sum()) for mask in after] == [round(0.7 * mask.numel()) for mask in after]
    assert all((old | ~new).all() for old, new in zip(before, after, strict=True))
    held = [each for each in again.trainable_variables if "kernel" in each.name or "embeddings" in each.name]
    assert sum(int(np.sum(keras.ops.convert_to_numpy(each) == 0)) for each in held) == sum(
        int((~mask).sum()) for mask in after
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_embedding_is_trained_under_a_mask(optimizer: str) -> None:
    model = embedding()  # TensorFlow's gradients name the ten rows that occur; Adam moves others too
    rule = keras.optimizers.SGD(0.1, momentum=0.9) if optimizer == "sgd" else "adam"
    marked(model).compile(rule, "mse")
    table = next(each for each in model.trainable_variables if "embeddings" in each.name)
    before = np.array(keras.ops.convert_to_numpy(table))
    for epoch in range(2):
        found = trained(model, "embedding")[0].numpy()
        assert (~found).sum() == round(SCHEDULE(2 * epoch + 2) * 120)
        after = keras.ops.convert_to_numpy(table)
        assert ((after == 0) == ~found).all()
    assert (after[:10][found[:10]] != before[:10][found[:10]]).all()
