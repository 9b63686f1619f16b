"""One framework's part of ``frameworks.py``: train, prune, count and time one net; be killed, go on. Prints JSON.

Needs nothing but that framework beside secateur; ``frameworks.py`` calls it in an environment that has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
from frameworks_loops import FRAMEWORKS, PRUNE_EPOCHS, Work

from secateur.lab.data import load

# Of what a part tells; parts that told less are run again.
FORMAT = 2
TOLD = ("keras", "jax", "tensorflow", "lightning", "transformers", "torch")


def main() -> None:
    """Do one part and print what came of it."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("mode", choices=("whole", "killed", "resumed"))
    parser.add_argument("--sparsity", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, help="train on no more than these, to try the worker out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    if options.framework == "keras":
        import keras

        keras.utils.set_random_seed(options.seed)
    data = load("mnist", options.data_dir, seed=options.seed, validation=0.1)
    train, test = ((s.images.permute(0, 2, 3, 1).numpy(), s.labels.numpy()) for s in (data.train, data.test))
    if options.images:
        train = train[0][: options.images], train[1][: options.images]
    work = Work(train, test, options.sparsity, options.seed, options.folder, options.mode)
    if options.mode != "resumed" and work.kept.exists():
        shutil.rmtree(work.kept)  # or the last checkpoint of another run would be gone on from
    work.kept.mkdir(parents=True, exist_ok=True)
    kernels, accuracy, zeros = FRAMEWORKS[options.framework](work)
    total = sum(kernel.size for kernel in kernels.values())
    held = b"".join(np.ascontiguousarray(kernel).tobytes() for kernel in kernels.values())
    found = {
        "format": FORMAT,
        "zeros": zeros,
        "weights": total,
        "asked": round(options.sparsity * total),
        "accuracy": accuracy,
        "dense": work.dense,
        "digest": hashlib.sha256(held).hexdigest(),
        "began": work.began,
        "end": PRUNE_EPOCHS * work.epoch,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {name: sys.modules[name].__version__ for name in TOLD if name in sys.modules},
    }
    if work.times["dense"]:
        found["step"] = {
            name: {phase: average(times) for phase, times in work.times.items()}
            for name, average in (("mean", statistics.fmean), ("median", statistics.median))
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
