"""tfmot beside ours on tfmot's own tutorial: accuracy, time of a step, saved size, what each can prune.

    python benchmarks/tfmot.py --data-dir DATA --theirs PYTHON --ours PYTHON

``--theirs`` is the python of an environment with ``tensorflow-cpu tf-keras tensorflow-model-optimization==0.8.1``,
``--ours`` of one with ``secateur[lab,keras] tensorflow-cpu``. The two take turns, seed by seed, one thread each. Writes
``benchmarks/results/tfmot.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import common
import numpy as np

from secateur.files import write_json, write_text
from secateur.lab.data import load
from secateur.lab.environment import environment

WORKER = Path(__file__).with_name("tfmot_worker.py")
SEEDS = (0, 1, 2)
SIDES = ("theirs", "ours")


def part(side: str, seed: int, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one side with one seed, or return what it gave when it was run before."""
    folder = options.out / "tfmot" / f"{side}-{seed}"
    if not (folder / "result.json").exists():
        python = options.theirs if side == "theirs" else options.ours
        command = [python, str(WORKER), side, "--seed", str(seed), "--data", str(data), "--folder", str(folder)]
        own = {"TF_USE_LEGACY_KERAS": "1"} if side == "theirs" else {"KERAS_BACKEND": "tensorflow"}
        threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        variables = {**os.environ, **threads, **own, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        write_json(folder / "result.json", json.loads(done.stdout.strip().splitlines()[-1]))
        print(folder.name, flush=True)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sweeps"))
    parser.add_argument("--theirs", required=True)
    parser.add_argument("--ours", required=True)
    options = parser.parse_args()
    data = options.out / "tfmot" / "mnist.npz"
    data.parent.mkdir(parents=True, exist_ok=True)
    sets = load("mnist", options.data_dir, seed=0, validation=0.1)
    train_x, test_x = (split.images.permute(0, 2, 3, 1).numpy() for split in (sets.train, sets.test))
    train_y, test_y = sets.train.labels.numpy(), sets.test.labels.numpy()
    np.savez(data, train_x=train_x, test_x=test_x, train_y=train_y, test_y=test_y)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for seed in SEEDS:
        for side in SIDES:
            found[side].append(part(side, seed, data, options))
    write_text(common.RESULTS / "tfmot.md", page(found))
    print(common.RESULTS / "tfmot.md")


def page(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the whole page."""
    machine = environment()
    made = common.paragraph(f"""Made by `python benchmarks/tfmot.py` on {machine["date"]}, {machine["processor"]}, one
        thread; {_versions(found["theirs"])} beside ours on {_versions(found["ours"])}. The tutorial: MNIST, the
        20,410-parameter convnet, Adam at 0.001, batches of 128 (the tutorial's are of 32 before pruning), 4 epochs,
        then 2 from 50 to 80 % of each layer; seeds {", ".join(map(str, SEEDS))}, the two sides in turn. Same rule, same
        schedule, so accuracy should not differ by more than chance.""")
    read = common.paragraph("""The time of a step is given twice. Few steps draw masks, so the median is that of the
        others; the mean is the time of all steps over their number, drawing included. Both leave out the first step,
        which compiles; in brackets are the lowest and the highest of the seeds. All files are without the state of the
        optimizer: zeros alone make no file smaller, gzip does.""")

    def line(label: str, value: Any) -> list[str]:
        return [label, *(value(found[side]) for side in SIDES)]

    def size(key: str) -> Any:
        return lambda runs: f"{runs[0]['bytes'][key]['plain']:,} ({runs[0]['bytes'][key]['gzipped']:,} gzipped)"

    def step(average: str) -> Any:
        return lambda runs: common.spread([run["step_over_dense"][average] for run in runs])

    rows = [
        line("dense accuracy %", lambda runs: common.accuracy([run["dense"] for run in runs])),
        line("pruned accuracy %", lambda runs: common.accuracy([run["pruned"] for run in runs])),
        line("zeros in the kernels", lambda runs: f"{runs[0]['zeros']} of {runs[0]['weights']}"),
        line("median step while pruning over dense", step("median")),
        line("mean step while pruning over dense", step("mean")),
        line("file, dense", size("dense")),
        line("file saved while pruning", size("under way")),
        line("file, stripped", size("stripped")),
    ]
    theirs = f"tfmot {found['theirs'][0]['versions']['tfmot']}"
    kinds = [[kind, *(found[side][0]["prunes"][kind] for side in SIDES)] for kind in found["ours"][0]["prunes"]]
    return f"""# Beside tfmot on its own tutorial

{made}

{common.markdown(["", theirs, "ours"], rows)}

{read}

What `prune_low_magnitude` prunes of a model with one such layer:

{common.markdown(["", theirs, "ours"], kinds)}
"""


def _versions(runs: list[dict[str, Any]]) -> str:
    """Return what one side ran on, as its worker told it."""
    return " and ".join(sorted({", ".join(f"{name} {what}" for name, what in run["versions"].items()) for run in runs}))


if __name__ == "__main__":
    main()
