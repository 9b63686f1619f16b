"""The sparse engine against torch, ONNX Runtime, torch CSR and DeepSparse: one thread, all of them in turns.

    python benchmarks/engine.py [--deepsparse PYTHON] [--only resnet-18 lenet]
    python benchmarks/engine.py --quick        (does every row work? its numbers mean nothing)

Every row is kept in ``--out`` as soon as it is measured, and measured once: stopped, the same command goes on. Writes
``benchmarks/results/engine.md`` from all rows there are. DeepSparse 1.8 needs an environment of its own
(``pip install deepsparse==1.8.0 "numpy<2"``), whose Python is named. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import engine_nets
import engine_page
import torch
from engine_goals import CASES, EVEN, Task, tasks
from engine_rivals import deepsparse

import secateur as sc
from secateur.engine import load
from secateur.files import write_json, write_text
from secateur.integrations import onnx
from secateur.lab.contest import Entry, hold, line_up
from secateur.lab.environment import environment
from secateur.lab.runtimes import CSR, ONNXRUNTIME, TORCH, Ready, Runtime, ready_engine, ready_onnx
from secateur.lab.timing import Pace, in_turns, timed, times_faster
from secateur.vocabulary import SecateurError

FULL, QUICK = Pace(turns=30, seconds=0.05), Pace(turns=2, seconds=0.001)
MEMORY = Path(__file__).with_name("engine_memory.py")
WHOLE = ("resnet-18", 0.95)  # of the rows on threads, files and memory


def latency(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Return the times of the engine and of its rivals, their errors, and what the engine makes of the processor."""
    net, shape = engine_nets.build(task.case.net), engine_nets.shape(task.case.net)
    engine_nets.prune(net, task.sparsity, task.case.layers, task.scope)
    inputs = torch.randn(task.case.batch, *shape, generator=torch.Generator().manual_seed(1))
    example = inputs if len(inputs) > 1 else inputs.repeat(2, *[1] * len(shape))
    engine = sc.compile(net, example)
    ours = Runtime("engine", lambda *_: ready_engine(engine))
    with contextlib.ExitStack() as stack:
        runtimes = [ours, TORCH, ONNXRUNTIME, *([CSR] if len(shape) == 1 else [])]
        runtimes += [deepsparse(options.deepsparse, stack)] if options.deepsparse else []
        lineup = line_up([Entry(each.name, each, net) for each in runtimes], example)
        rows = hold(lineup, inputs, 1, options.pace)
    weights = list(sc.prunable(net).values())
    return {
        "rows": [row.to_json() for row in rows],
        "absent": dict(lineup.absent),
        "kept": [sum(int(each.count_nonzero()) for each in weights), sum(each.numel() for each in weights)],
        "profile": _profile(engine, inputs, 3 if options.quick else 50),
    }


def _profile(engine: sc.Engine, inputs: torch.Tensor, runs: int) -> dict[str, float]:
    """Return the useful GFLOP/s of sparse convolutions but those of shortcuts, which are 1x1, and of the processor."""
    profile = engine.profile(inputs, runs=runs)
    steps = [row for row in profile.rows if row.kind == "conv" and row.sparsity > 0.4 and "shortcut" not in row.where]
    seconds = sum(row.seconds for row in steps)
    useful = 2e-9 * sum(row.operations for row in steps) / seconds if seconds else 0.0
    return {"gflops": useful, "peak": profile.peak}


def threads(options: argparse.Namespace) -> dict[str, Any]:
    """Return the times of one engine on one thread and on two, for one sample a call and for sixteen."""
    path = options.folder / "engine.sct"
    _whole_engine().save(path)
    one, two = (load(path, threads=count) for count in (1, 2))
    pace = Pace(options.pace.turns, options.pace.seconds, pause=0.02)
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "batches": {}}
    for batch in (1, 16):
        shape = (batch, *engine_nets.shape(WHOLE[0]))
        given = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).numpy()
        times = in_turns([timed(partial(engine, given)) for engine in (one, two)], pace)
        found["batches"][str(batch)] = {
            "ms": [[1e3 * each for each in time.quartiles()] for time in times],
            "ratio": list(times_faster(times[1].medians(), times[0].medians())),
        }
    return found


def _whole() -> torch.nn.Module:
    net = engine_nets.build(WHOLE[0])
    engine_nets.prune(net, WHOLE[1], "but the first", "layerwise")
    return net


def _whole_engine() -> sc.Engine:
    return sc.compile(_whole(), torch.zeros(2, *engine_nets.shape(WHOLE[0])))


def files(options: argparse.Namespace) -> dict[str, Any]:
    """Return the sizes of an engine's and of an ONNX file, and the seconds from each to its first output."""
    path, other = options.folder / "engine.sct", options.folder / "model.onnx"
    example = torch.randn(2, *engine_nets.shape(WHOLE[0]), generator=torch.Generator().manual_seed(1))
    _whole_engine().save(path)
    exported = onnx.export(_whole(), example, other)

    def first_of_ours() -> None:
        load(path)(example[:1].numpy())

    def first_of_theirs() -> None:
        ready: Ready = ready_onnx(other.read_bytes())
        ready.start(example[:1], 1).output()

    times = in_turns([timed(first_of_ours), timed(first_of_theirs)], options.pace)
    return {
        "bytes": {"engine": path.stat().st_size, "onnx": exported.bytes, "onnx gzipped": exported.gzipped},
        "ms": [[1e3 * each for each in time.quartiles()] for time in times],
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Return the most memory that processes took which did nothing but load a network and run it."""
    path, other = options.folder / "engine.sct", options.folder / "model.onnx"
    _whole_engine().save(path)
    onnx.export(_whole(), torch.zeros(2, *engine_nets.shape(WHOLE[0])), other)
    found = {}
    for what, argument in (("engine", path), ("onnx", other), ("torch", WHOLE[0])):
        command = [sys.executable, str(MEMORY), what, str(argument)]
        told = []
        for _ in range(1 if options.quick else 5):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            told.append(json.loads(done.stdout.splitlines()[-1]))
        found[what] = {"bytes": int(statistics.median(each["bytes"] for each in told)), "torch": told[0]["torch"]}
    return found


def kept(key: str, measure: Callable[[], dict[str, Any]], options: argparse.Namespace) -> None:
    """Measure a row unless it is there already."""
    path = options.out / f"{key}.json"
    if path.exists() or (options.only and not any(word in key for word in options.only)):
        return
    print(key, flush=True)
    try:
        found = measure()
    except SecateurError as error:  # the others go on, and the page says that one is missing
        print(f"  failed: {error}", flush=True)
        return
    print(f"  {engine_page.line(found)}", flush=True)
    write_json(path, {"key": key, "quick": options.quick, "environment": environment() | _versions(options), **found})


def _versions(options: argparse.Namespace) -> dict[str, str]:
    import onnxruntime

    found = {"onnxruntime": str(onnxruntime.__version__)}
    if options.deepsparse:
        command = [str(options.deepsparse), "-c", "from importlib.metadata import version as v; print(v('deepsparse'))"]
        found["deepsparse"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sweeps/engine"), help="folder for the rows")
    parser.add_argument("--deepsparse", type=Path, help="python of an environment with DeepSparse 1.8")
    parser.add_argument("--only", nargs="*", help="rows whose names have one of these words in them")
    parser.add_argument("--quick", action="store_true", help="few turns, into a folder of its own, to try every row")
    options = parser.parse_args()
    options.pace = QUICK if options.quick else FULL
    options.out = options.out / "quick" if options.quick else options.out
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for task in [*tasks(CASES), *tasks(EVEN)]:
        kept(task.key, lambda task=task: latency(task, options), options)  # type: ignore[misc]
    for measure in (threads, files, memory):
        with tempfile.TemporaryDirectory() as folder:
            options.folder = Path(folder)
            kept(measure.__name__, lambda measure=measure: measure(options), options)  # type: ignore[misc]
    page = options.out / "engine.md" if options.quick else common.RESULTS / "engine.md"
    write_text(page, engine_page.page(options.out))
    print(page)


if __name__ == "__main__":
    main()
