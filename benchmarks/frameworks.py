"""One net in every framework: the same data, schedule and sparsities, zeros counted by each framework's own means.

    python benchmarks/frameworks.py --data-dir DATA [--keras PYTHON]

Plain torch, Lightning, transformers and Keras on torch run in this environment; Keras on JAX and TensorFlow in that of
``--keras`` (``pip install secateur[lab,keras] jax tensorflow-cpu``). Every part is a process of its own, one thread;
one is killed half-way and started again. Resumable. Writes ``benchmarks/results/frameworks.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import common
from frameworks_worker import BATCH, DENSE_EPOCHS, PRUNE_EPOCHS, RATE

from secateur.files import write_json, write_text
from secateur.lab.environment import environment

WORKER = Path(__file__).with_name("frameworks_worker.py")
SPARSITIES, SEEDS = (0.8, 0.95), (0, 1, 2)
# Name, what the worker calls it, Keras' backend.
WAYS = (
    ("torch, a loop by hand", "torch", ""),
    ("Lightning", "lightning", ""),
    ("transformers", "transformers", ""),
    ("Keras on torch", "keras", "torch"),
    ("Keras on JAX", "keras", "jax"),
    ("Keras on TensorFlow", "keras", "tensorflow"),
)


def part(way: tuple[str, str, str], mode: str, sparsity: float, seed: int, options: argparse.Namespace) -> Any:
    """Run one part, or return what it gave when it was run before."""
    _, worker, backend = way
    folder = options.out / "frameworks" / f"{worker}{backend}-{sparsity:g}-{seed}"
    result = folder / f"{mode}.json"
    if result.exists():
        return json.loads(result.read_text(encoding="utf-8"))
    python = options.keras if backend in ("jax", "tensorflow") else sys.executable
    command = [python, str(WORKER), worker, mode, "--sparsity", str(sparsity), "--seed", str(seed)]
    command += ["--folder", str(folder), *(["--data-dir", str(options.data_dir)] if options.data_dir else [])]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "KERAS_BACKEND": backend or "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if mode == "killed":
        found: Any = {"killed": done.returncode == -9}
    elif done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    else:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    write_json(result, found)
    print(folder.name, mode, found, flush=True)
    return found


def row(way: tuple[str, str, str], sparsity: float, options: argparse.Namespace) -> list[str]:
    """Return what one framework did at one sparsity."""
    whole = [part(way, "whole", sparsity, seed, options) for seed in SEEDS]
    assert part(way, "killed", sparsity, SEEDS[0], options)["killed"]
    resumed = part(way, "resumed", sparsity, SEEDS[0], options)
    exact = all(each["zeros"] == each["asked"] for each in [*whole, resumed])
    ratios = sorted(each["ratio"] for each in whole)
    same = "to the last bit" if resumed["digest"] == whole[0]["digest"] else "zeros exact, values differ"
    return [
        way[0],
        f"{sparsity:g}",
        f"{whole[0]['zeros']:,} of {whole[0]['weights']:,}{'' if exact else ' (**not what was asked**)'}",
        common.accuracy([each["accuracy"] for each in whole]),
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        same,
    ]


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sweeps"))
    parser.add_argument("--keras", help="python of an environment with Keras, JAX and TensorFlow")
    options = parser.parse_args()
    ways = [way for way in WAYS if options.keras or way[2] not in ("jax", "tensorflow")]
    rows = [row(way, sparsity, options) for sparsity in SPARSITIES for way in ways]
    machine = environment()
    made = common.paragraph(f"""Made by `python benchmarks/frameworks.py --keras PYTHON` on {machine["date"]},
        {machine["processor"]}, one thread a process; secateur {machine["secateur"]}, torch {machine["torch"]}, Python
        {machine["python"]}. The tutorial's convnet (20,410 parameters) on MNIST: {DENSE_EPOCHS} epochs dense,
        {PRUNE_EPOCHS} of pruning with one ranking for both kernels, batches of {BATCH}, Adam at {RATE:g}; accuracy on
        the test images, mean ± standard deviation over seeds {", ".join(map(str, SEEDS))}. A step's time is the median
        of a pruning phase over that of the dense phase of the same process, masks drawn anew included in the
        phase. Then a run was killed in the middle of the second pruning epoch and started again.""")
    head = ["framework", "sparsity", "zeros", "test accuracy %", "step over dense step", "killed and resumed"]
    text = f"# One net in every framework\n\n{made}\n\n{common.markdown(head, rows)}\n"
    write_text(common.RESULTS / "frameworks.md", text)
    print(common.RESULTS / "frameworks.md")


if __name__ == "__main__":
    main()
