"""One net in every framework: the same data, schedule and sparsities, zeros counted by each framework's own means.

    python benchmarks/frameworks.py --data-dir DATA [--keras PYTHON]

Plain torch, Lightning, transformers and Keras on torch run in this environment; Keras on JAX and TensorFlow in that of
``--keras`` (``pip install secateur[lab,keras] jax tensorflow-cpu``). Every part is a process of its own on one core;
one is killed half-way and started again. Resumable. Writes ``benchmarks/results/frameworks.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
from frameworks_loops import BATCH, DENSE_EPOCHS, PRUNE_EPOCHS, RATE
from frameworks_worker import FORMAT

from secateur.files import write_json, write_text
from secateur.lab.environment import environment

WORKER = Path(__file__).with_name("frameworks_worker.py")
SPARSITIES, SEEDS = (0.8, 0.95), (0, 1, 2)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
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
        known = json.loads(result.read_text(encoding="utf-8"))
        if known.get("format") == FORMAT:
            return known
    python = options.keras if backend in ("jax", "tensorflow") else sys.executable
    command = [python, str(WORKER), worker, mode, "--sparsity", str(sparsity), "--seed", str(seed)]
    command += ["--folder", str(folder), *(["--data-dir", str(options.data_dir)] if options.data_dir else [])]
    variables = {**os.environ, **ONE_THREAD, "KERAS_BACKEND": backend or "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode != (-signal.SIGKILL if mode == "killed" else 0):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found = {"format": FORMAT} if mode == "killed" else json.loads(done.stdout.strip().splitlines()[-1])
    write_json(result, found)
    print(folder.name, mode, found, flush=True)
    return found


def row(way: tuple[str, str, str], parts: Sequence[dict[str, Any]], sparsity: float) -> list[str]:
    """Return what one framework did at one sparsity: the whole runs, one a seed, and the one that was resumed."""
    *whole, resumed = parts
    exact = all(each["zeros"] == each["asked"] for each in parts)
    same = "to the last bit" if resumed["digest"] == whole[0]["digest"] else "zeros exact, values differ"
    return [
        way[0],
        f"{sparsity:g}",
        f"{whole[0]['zeros']:,} of {whole[0]['weights']:,}{'' if exact else ' (**not what was asked**)'}",
        common.accuracy([each["dense"] for each in whole]),
        common.accuracy([each["accuracy"] for each in whole]),
        ratio([each["step"]["mean"] for each in whole]),
        ratio([each["step"]["median"] for each in whole]),
        f"{same}, from step {resumed['began']} of {resumed['end']}",
    ]


def ratio(steps: Sequence[dict[str, float]]) -> str:
    """Return pruned over dense times of a step: median, least and largest over the seeds."""
    return common.spread([each["pruned"] / each["dense"] for each in steps])


def parts_of(way: tuple[str, str, str], sparsity: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is missing of one framework at one sparsity."""
    whole = [part(way, "whole", sparsity, seed, options) for seed in SEEDS]
    part(way, "killed", sparsity, SEEDS[0], options)
    resumed = part(way, "resumed", sparsity, SEEDS[0], options)
    began = [each["began"] for each in whole]
    if any(began) or not 0 < resumed["began"] < resumed["end"]:
        raise SystemExit(
            f"{way[0]} at {sparsity:g}: whole runs began at steps {began}, the resumed one at {resumed['began']} of "
            f"{resumed['end']}: that tells nothing; remove its folders in {options.out / 'frameworks'} and start again"
        )
    return [*whole, resumed]


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sweeps"))
    parser.add_argument("--keras", help="python of an environment with Keras, JAX and TensorFlow")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        # The workers inherit it. Frameworks have thread pools of their own beside OpenMP's, as large as cores they see.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ways = [way for way in WAYS if options.keras or way[2] not in ("jax", "tensorflow")]
    found = {(way, sparsity): parts_of(way, sparsity, options) for sparsity in SPARSITIES for way in ways}
    rows = [row(way, parts, sparsity) for (way, sparsity), parts in found.items()]
    every = [each for parts in found.values() for each in parts]
    versions = sorted({f"{name} {version}" for each in every for name, version in each["versions"].items()})
    cores = max(each["cores"] for each in every)
    machine = environment()
    made = common.paragraph(f"""Made by `python benchmarks/frameworks.py{" --keras PYTHON" if options.keras else ""}` on
        {machine["date"]}, {machine["processor"]}, every process pinned to {cores} core{"s" if cores > 1 else ""};
        secateur {machine["secateur"]}, Python {machine["python"]}; as the workers report them: {", ".join(versions)}.
        The tutorial's convnet (20,410 parameters) on MNIST: {DENSE_EPOCHS} epochs dense, then {PRUNE_EPOCHS} of
        pruning with one ranking for both kernels, batches of {BATCH}, Adam at {RATE:g}; accuracy on the test images
        before pruning (dense) and after, mean ± standard deviation over seeds {", ".join(map(str, SEEDS))}. A step's
        time is that of the pruning phase over that of the dense phase of the same process: of the means over the
        phases, so that the steps at which masks are drawn anew (twenty an epoch, in two epochs of three) count with
        their share; and of the medians, which hardly see these steps. The first step of an epoch is in neither. Ratios
        are the median over the seeds, and the least and largest. Then a run was killed in the middle of the second
        pruning epoch and started again.""")
    head = ["framework", "sparsity", "zeros", "dense accuracy %", "pruned accuracy %"]
    head += ["mean step over dense", "median step over dense", "killed and resumed"]
    text = f"# One net in every framework\n\n{made}\n\n{common.markdown(head, rows)}\n"
    write_text(common.RESULTS / "frameworks.md", text)
    print(common.RESULTS / "frameworks.md")


if __name__ == "__main__":
    main()
