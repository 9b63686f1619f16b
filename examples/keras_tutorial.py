"""tfmot's "Pruning in Keras" tutorial on Keras 3: train a convnet, prune it from half to four fifths, strip, save.

    KERAS_BACKEND=torch python examples/keras_tutorial.py --data mnist --data-dir DATA

Any backend does. Without arguments it runs on scikit-learn's digits, which need no download. The code differs from the
tutorial's in two imports, the data, and that ``strip_pruning`` gives back the very model it was given. Its numbers are
for a set as small as the digits: Adam at 0.002 (the tutorial: 0.001), batches of one size in both phases, 128 unless
told otherwise (32, then 128), and masks drawn twenty times (every 100 steps).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

from secateur.integrations import keras as sk
from secateur.lab.data import load

BATCH = 128
EPOCHS, PRUNING_EPOCHS = 4, 2


def arrays(split: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return images with the channel last, as Keras has them, and labels."""
    return split.images.permute(0, 2, 3, 1).numpy(), split.labels.numpy()


def convnet(shape: tuple[int, ...], classes: int) -> keras.Model:
    """Return the tutorial's convnet: 20,410 parameters on images of 28 by 28."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(12, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(classes),
        ]
    )


def compile_(model: keras.Model) -> None:
    """Compile for classification with logits."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.002), loss=loss, metrics=["accuracy"])


def main() -> dict[str, float]:
    """Run the tutorial; return the accuracies, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--out", type=Path, help="where to save the stripped model, such as pruned.keras")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)

    data = load(options.data, options.data_dir, seed=options.seed, validation=0.1)
    train, validation, test = arrays(data.train), arrays(data.validation), arrays(data.test)
    model = convnet(train[0].shape[1:], data.classes)
    compile_(model)
    fitting: dict[str, Any] = {"batch_size": options.batch_size, "validation_data": validation, "verbose": 2}
    model.fit(*train, epochs=EPOCHS, **fitting)
    _, dense = model.evaluate(*test, verbose=0)

    end_step = -(-len(train[0]) // options.batch_size) * PRUNING_EPOCHS
    schedule = sk.PolynomialDecay(
        initial_sparsity=0.50, final_sparsity=0.80, begin_step=0, end_step=end_step, frequency=max(1, end_step // 20)
    )
    model = sk.prune_low_magnitude(model, pruning_schedule=schedule)
    compile_(model)
    with tempfile.TemporaryDirectory() as logs:
        callbacks = [sk.UpdatePruningStep(), sk.PruningSummaries(log_dir=logs)]
        model.fit(*train, epochs=PRUNING_EPOCHS, callbacks=callbacks, **fitting)
    _, pruned = model.evaluate(*test, verbose=0)

    model = sk.strip_pruning(model)
    print(sk.measure(model, test[0][:1], timing=None))
    print(f"test accuracy: dense {dense:.4f}, pruned {pruned:.4f} (backend {keras.backend.backend()})")
    if options.out:
        model.save(options.out)
    return {"dense": dense, "pruned": pruned}


if __name__ == "__main__":
    main()
