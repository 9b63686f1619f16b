"""What tests of pruning Keras models share: models, data, training, and a callback that looks at every step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from secateur.integrations import keras as sk

layers = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((256, 8, 8, 3)).astype("float32")
LABELS = RNG.integers(0, 5, 256)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


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
