"""Secateur against ``torch.nn.utils.prune``: a large one-shot prune, training steps under masks, checkpoint bytes.

    python benchmarks/against_torch_prune.py          (about six minutes on two cores; --quick for a look)

Writes ``benchmarks/results/against_torch_prune.md``. Everything compared is measured in one interleaved run.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

import secateur as sc
from secateur import native
from secateur.files import write_text
from secateur.lab import models
from secateur.lab.environment import environment

SPARSITY = 0.9
KINDS = ("seconds", "cpu")
BUSY = "Other jobs may share the machine; as the sides alternate, they slow both down."


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which about ``share`` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return median and range as text."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


# --- one global prune, each in a process of its own, so that peak memory is its own


def large(layers: int) -> nn.Sequential:
    """Return a stack of 2048 x 2048 linear layers without biases."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(layers)))


def prune_once(who: str, layers: int) -> None:
    """Prune one large model; print seconds, of clock and processors, and extra peak bytes a weight as JSON."""
    torch.set_num_threads(2)
    model = large(layers)
    weights = sum(p.numel() for p in model.parameters())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, worked = time.perf_counter(), time.process_time()
    if who == "secateur":
        masks = sc.prune(model, SPARSITY)
    else:
        targets = [(module, "weight") for module in model]
        prune.global_unstructured(targets, pruning_method=prune.L1Unstructured, amount=SPARSITY)
    seconds, cpu = time.perf_counter() - start, time.process_time() - worked
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    zeros = sum(int((module.weight == 0).sum()) for module in model if isinstance(module, nn.Linear))
    assert who != "secateur" or masks.count().removed == zeros
    print(json.dumps({"seconds": seconds, "cpu": cpu, "extra": extra / weights, "zeros": zeros, "weights": weights}))


def one_shot_table(layers: int, repeats: int) -> str:
    """Return the table of one global prune."""
    rows: dict[str, list[dict[str, float]]] = {"secateur": [], "torch": []}
    for repeat in range(repeats):
        # Ours is cheap, so it runs several times before and after each of theirs.
        for who in ("secateur", "secateur", "torch", "secateur", "secateur"):
            command = [sys.executable, __file__, "--prune-once", who, "--layers", str(layers)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[who].append(json.loads(done.stdout))
            print(repeat, who, rows[who][-1], flush=True)
    ours, theirs = rows["secateur"], rows["torch"]
    ratio, cpu = (statistics.median(r[k] for r in theirs) / statistics.median(r[k] for r in ours) for k in KINDS)
    lines = [
        "| | seconds: median (range) | processor seconds | extra peak bytes a weight | zeros | runs |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in (("secateur `sc.prune`", ours), ("torch `prune.global_unstructured`", theirs)):
        cells = [
            spread([r["seconds"] for r in own]),
            spread([r["cpu"] for r in own]),
            spread([r["extra"] for r in own]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {int(own[0]['zeros']):,} | {len(own)} |")
    weights = int(ours[0]["weights"])
    said = f"Ratio of the medians: **{ratio:.0f} times faster**, with {cpu:.0f} times less processor time."
    return "\n".join([f"{weights:,} weights, two threads. {said}", "", *lines])


# --- training steps under masks


def stepper(name: str, who: str, optimizer: str) -> Callable[[], None]:
    """Return a function that trains a network one step, dense or under masks."""
    torch.manual_seed(0)
    model = models.build(name, (1, 28, 28), 10)
    if who == "torch":
        targets = [(m, "weight") for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        prune.global_unstructured(targets, pruning_method=prune.L1Unstructured, amount=SPARSITY)
    made: torch.optim.Optimizer = (
        torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        if optimizer == "Adam"
        else torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    )
    holding = sc.hold(made, sc.prune(model, SPARSITY)) if who == "secateur" else None
    x, y = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))

    def step() -> None:
        functional.cross_entropy(model(x), y).backward()
        made.step()
        made.zero_grad()

    step.__dict__["holding"] = holding  # hooks live as long as the function does
    return step


def seconds(step: Callable[[], None], steps: int) -> float:
    """Return how long some steps take."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def step_table(rounds: int) -> str:
    """Return the table of step times as ratios to dense, interleaved a few steps at a time."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    lines = ["| net | optimizer | dense step, ms | secateur / dense | torch / dense |", "|---|---|---|---|---|"]
    for name, optimizer in (("lenet-5", "Adam"), ("lenet-300-100", "Adam"), ("lenet-300-100", "SGD")):
        sides = {who: stepper(name, who, optimizer) for who in ("dense", "secateur", "torch")}
        each = 2 if name == "lenet-5" else 10
        for step in sides.values():
            seconds(step, 5)
        times: dict[str, list[float]] = {who: [] for who in sides}
        count = rounds // 2 if name == "lenet-5" else rounds
        for turn in range(count):
            # The order turns round, so that no side always comes after the same other.
            order = list(sides)[turn % 3 :] + list(sides)[: turn % 3]
            for who in order:
                times[who].append(seconds(sides[who], each))
        cells = []
        for who in ("secateur", "torch"):
            ratios = [a / b for a, b in zip(times[who], times["dense"], strict=True)]
            low, high = percentile(ratios, 0.1), percentile(ratios, 0.9)
            cells.append(f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")
        dense = statistics.median(times["dense"]) / each * 1e3
        lines.append(f"| {name} | {optimizer} | {dense:.2f} | {cells[0]} | {cells[1]} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


# --- checkpoints


def checkpoint_table() -> str:
    """Return the table of checkpoint bytes while training under masks and after it."""
    lines = ["| net | dense | secateur, weights | + mask file | torch, while pruning | torch, after remove |"]
    lines.append("|---|---|---|---|---|---|")
    for name in ("lenet-300-100", "lenet-5"):
        dense = models.build(name, (1, 28, 28), 10)
        ours, theirs = copy.deepcopy(dense), copy.deepcopy(dense)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "masks.safetensors"
            sc.prune(ours, SPARSITY).save(path)
            mask_bytes = path.stat().st_size
        targets = [(m, "weight") for m in theirs.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        prune.global_unstructured(targets, pruning_method=prune.L1Unstructured, amount=SPARSITY)
        during = len(save(dict(theirs.state_dict())))
        for module, key in targets:
            prune.remove(module, key)
        sizes = [len(save(dict(net.state_dict()))) for net in (dense, ours)]
        after = len(save({key: t.contiguous() for key, t in theirs.state_dict().items()}))
        numbers = [*sizes, sizes[1] + mask_bytes, during, after]
        lines.append(f"| {name} | " + " | ".join(f"{n:,} ({n / sizes[0]:.2f}x)" for n in numbers) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the three comparisons and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, for a look")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "against_torch_prune.md")
    parser.add_argument("--layers", type=int, default=24, help=argparse.SUPPRESS)
    parser.add_argument("--prune-once", choices=("secateur", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prune_once:
        prune_once(options.prune_once, options.layers)
        return
    layers, repeats, rounds = (1, 1, 3) if options.quick else (options.layers, 3, 150)
    where = environment()
    kernels = native.load().in_use() if native.available() else "nothing: torch alone"
    one_shot, steps, bytes_ = one_shot_table(layers, repeats), step_table(rounds), checkpoint_table()
    page = f"""# Against torch.nn.utils.prune

Made by `python benchmarks/against_torch_prune.py` on {where["date"]}: {where["processor"]}; secateur
{where["secateur"]}, torch {where["torch"]}, Python {where["python"]}; seed 0; sparsity {SPARSITY}, one global magnitude
ranking on both sides.

## One global prune

Each prune has a process of its own; the two alternate. Extra memory is the rise of the process's peak resident size
during the call (ours holds masks, one bit a weight; bound: a sixteenth of the weights, 0.25 bytes). Magnitudes are
ranked where the weights lie, by kernels for {kernels}; zeros are written in place.
{BUSY}

{one_shot}

## Training steps under masks

Batch 128, one thread, fused optimizers, denormals flushed; dense, secateur and torch take turns a few steps at a time.
Ratios are those of each turn: median (10th to 90th percentile) of {rounds} turns (half as many for lenet-5). Targets:
lenet-5 1.015, lenet-300-100 1.06.

{steps}

## Checkpoints

Bytes of the `state_dict` as a safetensors file; in brackets against dense.

{bytes_}
"""
    write_text(options.out, page)
    print(options.out)


if __name__ == "__main__":
    main()
