"""One side of ``tfmot.py``: the tutorial, its time, its files, and which layers can be pruned. Prints JSON.

``theirs`` runs in an environment with tfmot 0.8.1, tf-keras and TensorFlow (TF_USE_LEGACY_KERAS=1), without secateur;
``ours`` in one with secateur, Keras 3 and TensorFlow. Both do what tfmot's "Pruning in Keras" tutorial does, but
that they train in batches of 128 before pruning too (there 32), and evaluate on the test images alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

BATCH, EPOCHS, PRUNING_EPOCHS = 128, 4, 2


def kinds(layers: Any) -> dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]]:
    """Return networks of one layer to try, as functions of their input, with its shape."""
    return {
        "Dense": (layers.Dense(4), (8,)),
        "Conv1D": (layers.Conv1D(4, 3), (8, 4)),
        "Conv2D": (layers.Conv2D(4, 3), (8, 8, 4)),
        "Conv3D": (layers.Conv3D(4, 3), (8, 8, 8, 4)),
        "Conv2DTranspose": (layers.Conv2DTranspose(4, 3), (8, 8, 4)),
        "DepthwiseConv2D": (layers.DepthwiseConv2D(3), (8, 8, 4)),
        "SeparableConv1D": (layers.SeparableConv1D(4, 3), (8, 4)),
        "SeparableConv2D": (layers.SeparableConv2D(4, 3), (8, 8, 4)),
        "Embedding": (layers.Embedding(16, 8), (4,)),
        "LSTM": (layers.LSTM(4), (8, 4)),
        "GRU": (layers.GRU(4), (8, 4)),
        "Bidirectional LSTM": (layers.Bidirectional(layers.LSTM(4)), (8, 4)),
        "MultiHeadAttention": (lambda x, layer=layers.MultiHeadAttention(2, 4): layer(x, x), (8, 4)),  # noqa: B008
        "EinsumDense": (layers.EinsumDense("abc,cd->abd", output_shape=(8, 4)), (8, 4)),
        "Dense, then LayerNormalization": (
            lambda x, dense=layers.Dense(4), norm=layers.LayerNormalization(): norm(dense(x)),  # noqa: B008
            (8,),
        ),
    }


def convnet(keras: Any) -> Any:
    """Return the tutorial's convnet."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.InputLayer((28, 28, 1)),
            layers.Conv2D(12, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def subclassed(keras: Any) -> Any:
    """Return a model that is a class of its own."""

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 8), "float32"))
    return model


def try_all(keras: Any, prune: Callable[[Any], Any], count: Callable[[Any], int]) -> dict[str, str]:
    """Return, for every kind of layer and of model, how many weights would be pruned, or the error."""
    found = {}
    for name, (network, shape) in kinds(keras.layers).items():
        inputs = keras.Input(shape)
        found[name] = _tried(prune, count, keras.Model(inputs, network(inputs)))
    found["subclassed model"] = _tried(prune, count, subclassed(keras))
    return found


def _tried(prune: Callable[[Any], Any], count: Callable[[Any], int], model: Any) -> str:
    try:
        weights = count(prune(model))
    except Exception as error:
        return f"no: {type(error).__name__}"
    return f"{weights} weights" if weights else "no: taken, but nothing of it"


def count_theirs(model: Any) -> int:
    """Return how many weights tfmot's wrappers hold masks for."""
    held = [variables for layer in model.layers for variables in getattr(layer, "pruning_vars", [])]
    return sum(int(np.prod(weight.shape)) for weight, *_ in held)


def count_ours(model: Any) -> int:
    """Return how many weights have masks."""
    from secateur.integrations import keras as sk

    return sk.masks_of(model).count().total


def versions(theirs: bool) -> dict[str, str]:
    """Return the versions of what one side runs on."""
    packages = {"tfmot": "tensorflow-model-optimization", "tf-keras": "tf-keras"} if theirs else {"Keras": "keras"}
    return {name: version(package) for name, package in packages.items()} | {
        "TensorFlow": import_module("tensorflow").__version__
    }


def steps(ticks: list[list[float]]) -> dict[str, float]:
    """Return the seconds of a step from the times at which steps ended, epoch by epoch: median, and mean of all.

    Few steps draw masks, so that the median leaves drawing out and the mean counts it. The first step of a phase is in
    neither: it compiles.
    """
    taken = [float(end - begin) for epoch in ticks for begin, end in pairwise(epoch)]
    return {"median": statistics.median(taken), "mean": statistics.fmean(taken)}


def trained(keras: Any, model: Any, images: Any, epochs: int, *callbacks: Any) -> dict[str, float]:
    """Compile and train a model; return :func:`steps`."""
    ticks: list[list[float]] = []

    class Tick(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            ticks.append([time.perf_counter()] if epoch else [])

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            ticks[-1].append(time.perf_counter())

    compile_(keras, model)
    model.fit(*images, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[*callbacks, Tick()])
    return steps(ticks)


def compile_(keras: Any, model: Any) -> None:
    """Compile as the tutorial does."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.001), loss)


def accuracy(model: Any, images: Any, labels: Any) -> float:
    """Return the share of images classified right.

    Counted here: tf-keras, told to count "accuracy", takes class numbers for logits once a compiled model was saved.
    """
    return float((model.predict(images, verbose=0).argmax(1) == labels).mean())


def size(keras: Any, model: Any, path: Path) -> dict[str, int]:
    """Save a model without the state of its optimizer; return the bytes of the file, and gzipped."""
    compile_(keras, model)  # a new optimizer, which has none: Keras 3 has no other way to leave it out
    model.save(path)
    content = path.read_bytes()
    return {"plain": len(content), "gzipped": len(gzip.compress(content, 6))}


def main() -> None:
    """Do one side with one seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("theirs", "ours"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="arrays, from tfmot.py")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    theirs = options.side == "theirs"
    keras: Any = import_module("tf_keras" if theirs else "keras")
    kit: Any = import_module("tensorflow_model_optimization" if theirs else "secateur.integrations.keras")
    kit, suffix = (kit.sparsity.keras, "h5") if theirs else (kit, "keras")
    keras.utils.set_random_seed(options.seed)
    with np.load(options.data) as data:
        train, test = (data["train_x"], data["train_y"]), (data["test_x"], data["test_y"])

    model = convnet(keras)
    before = trained(keras, model, train, EPOCHS)
    dense = accuracy(model, *test)
    sizes = {"dense": size(keras, model, options.folder / f"dense.{suffix}")}
    end = -(-len(train[0]) // BATCH) * PRUNING_EPOCHS
    schedule = kit.PolynomialDecay(0.50, 0.80, begin_step=0, end_step=end)
    model = kit.prune_low_magnitude(model, pruning_schedule=schedule)
    under_way = trained(keras, model, train, PRUNING_EPOCHS, kit.UpdatePruningStep())
    sizes["under way"] = size(keras, model, options.folder / f"under_way.{suffix}")
    model = kit.strip_pruning(model)
    sizes["stripped"] = size(keras, model, options.folder / f"stripped.{suffix}")
    pruned = accuracy(model, *test)
    kernels = [np.asarray(weight) for weight in model.get_weights() if weight.ndim > 1]
    print(
        json.dumps(
            {
                "versions": versions(theirs),
                "dense": dense,
                "pruned": pruned,
                "step_over_dense": {which: under_way[which] / before[which] for which in before},
                "bytes": sizes,
                "zeros": [int((kernel == 0).sum()) for kernel in kernels],
                "weights": [kernel.size for kernel in kernels],
                "prunes": try_all(keras, kit.prune_low_magnitude, count_theirs if theirs else count_ours),
            }
        )
    )


if __name__ == "__main__":
    main()
