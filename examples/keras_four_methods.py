"""The four methods of pruning courses on a Keras model: global, layer-wise, freeze and retrain, masked retraining.

    KERAS_BACKEND=torch python examples/keras_four_methods.py --sparsity 0.9

On scikit-learn's digits by default; ``--data fashion-mnist --data-dir DATA`` for more. Each method starts from the same
trained model; the best epoch is chosen on validation data, by Keras's own ``ModelCheckpoint``, at the final sparsity.
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

import secateur as sc
from secateur.integrations import keras as sk
from secateur.lab.data import load

Arrays = tuple[np.ndarray, np.ndarray]


def arrays(split: Any) -> Arrays:
    """Return images with the channel last, as Keras has them, and labels."""
    return split.images.permute(0, 2, 3, 1).numpy(), split.labels.numpy()


def convnet(shape: tuple[int, ...], classes: int) -> keras.Model:
    """Return a small convnet."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes),
        ]
    )


def train(model: keras.Model, data: tuple[Arrays, Arrays], epochs: int, rate: float) -> None:
    """Train, and end with the weights of the best epoch on validation data."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    with tempfile.TemporaryDirectory() as folder:
        best = Path(folder) / "best.weights.h5"
        keep = keras.callbacks.ModelCheckpoint(best, "val_accuracy", save_best_only=True, save_weights_only=True)
        model.fit(*data[0], validation_data=data[1], batch_size=64, epochs=epochs, verbose=0, callbacks=[keep])
        model.load_weights(best)


def freeze(model: keras.Model, names: tuple[str, ...]) -> None:
    """Let only the layers train that hold none of the named variables."""
    for layer in model.layers:
        layer.trainable = not {variable.path for variable in layer.weights} & set(names)


def main() -> dict[str, float]:
    """Run the four; return their test accuracies, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = load(options.data, options.data_dir, seed=0, validation=0.1)
    parts, test = (arrays(data.train), arrays(data.validation)), arrays(data.test)

    model = convnet(parts[0][0].shape[1:], data.classes)
    train(model, parts, options.epochs, 0.002)
    dense = model.get_weights()
    found = {"dense": model.evaluate(*test, verbose=0)[1]}

    # Weights and biases below one threshold for the whole model, then below one for each tensor.
    for name, scope in (("layer-wise", sc.PerTensor()), ("global", sc.Global())):
        sk.prune(model, options.sparsity, choice=sc.Choice(scope=scope), biases=True)
        found[name] = model.evaluate(*test, verbose=0)[1]
        if name == "layer-wise":
            sk.strip_pruning(model)
            model.set_weights(dense)

    # The layers that took the pruning stay as they are; the others make up for it.
    freeze(model, sc.pruned_layers(sk.masks_of(model)))
    train(model, parts, options.epochs, 0.001)
    found["freeze and retrain"] = model.evaluate(*test, verbose=0)[1]

    # Everything that is left trains on; what is zero stays zero.
    freeze(model, ())
    train(model, parts, options.epochs, 0.001)
    found["masked retraining"] = model.evaluate(*test, verbose=0)[1]

    sk.strip_pruning(model)
    print(sk.measure(model, test[0][:1], timing=None))
    for name, accuracy in found.items():
        print(f"{name:<20} {accuracy:.4f}")
    return found


if __name__ == "__main__":
    main()
