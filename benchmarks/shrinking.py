"""Shrinking: seconds it takes, and what half the multiply-adds are worth in latency.

    python benchmarks/shrinking.py          (about four minutes on two cores)

Writes ``benchmarks/results/shrinking.md``. Networks are untrained: nothing here depends on what they have learned.
"""

from __future__ import annotations

import statistics
import time
import warnings
from pathlib import Path

import torch
from torch import nn

import secateur as sc
from secateur.files import write_text
from secateur.lab import models
from secateur.lab.environment import environment

RESULTS = Path(__file__).parent / "results"
REPEATS = 5


def seconds_table() -> list[str]:
    """Return the table of how long a shrink takes, the tracing and both checks of outputs included."""
    lines = ["| net | input | units removed | parameters | left | seconds: median (range) | outputs differ by |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, side in (
        ("resnet-18", 32),
        ("resnet-50", 32),
        ("resnet-18", 224),
        ("resnet-50", 224),
        ("mobilenet-v1", 224),
    ):
        torch.manual_seed(0)
        example = torch.randn(1, 3, side, side)
        model = models.build(name, (3, side, side), 10).eval()
        sc.prune_units(model, example, 0.5)
        taken, worst, record = [], 0.0, None
        for _ in range(REPEATS):
            start = time.perf_counter()
            small = sc.shrink(model, example)
            taken.append(time.perf_counter() - start)
            record = sc.shrinkage(small)
            assert record is not None
            worst = max(worst, record.worst)
        assert record is not None
        before, after = record.parameters
        spread = f"{statistics.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})"
        lines.append(f"| {name} | 3 x {side} x {side} | 50 % | {before:,} | {after:,} | {spread} | {worst:.1e} |")
        print(lines[-1], flush=True)
    return lines


def latency_table() -> list[str]:
    """Return the table of dense latency before and after, in turn, at half the multiply-adds."""
    lines = [
        "| net | multiple of | MACs left | threads | batch | before, ms | after, ms | times faster: median (range) |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name in ("resnet-18", "resnet-50", "mobilenet-v1"):
        for multiple in (1, 16):
            torch.manual_seed(0)
            example = torch.randn(1, 3, 32, 32)
            dense = models.build(name, (3, 32, 32), 10).eval()
            cut = models.build(name, (3, 32, 32), 10).eval()
            choice = sc.UnitChoice(sc.couple(cut, example), scope=sc.PerTensor(), multiple=multiple)
            sc.prune_units(cut, example, target={"macs": 0.5}, choice=choice)
            small = sc.shrink(cut, example)
            left = _macs(small, example) / _macs(dense, example)
            for threads, batch in ((1, 1), (1, 16), (2, 1), (2, 16)):
                lines.append(
                    f"| {name} | {multiple} | {left:.3f} | {threads} | {batch} | {_row(dense, small, threads, batch)} |"
                )
                print(lines[-1], flush=True)
    return lines


def _macs(model: nn.Module, example: torch.Tensor) -> int:
    macs = sc.measure(model, example, timing=None).macs
    assert macs is not None
    return macs.dense


def _row(dense: nn.Module, small: nn.Module, threads: int, batch: int) -> str:
    x = torch.randn(batch, 3, 32, 32)
    torch.set_num_threads(threads)
    turns: list[tuple[float, float]] = []
    with torch.inference_mode():
        for turn in range(45 if batch == 1 else 20):
            times = []
            for net in (dense, small):
                start = time.perf_counter()
                net(x)
                times.append(1e3 * (time.perf_counter() - start))
            if turn >= 5:
                turns.append((times[0], times[1]))
    ratios = sorted(before / after for before, after in turns)
    tenth = len(ratios) // 10
    before, after = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
    ratio = f"{statistics.median(ratios):.2f} ({ratios[tenth]:.2f} to {ratios[-1 - tenth]:.2f})"
    return f"{before:.1f} | {after:.1f} | {ratio}"


def main() -> None:
    """Measure and write the page."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    seconds = seconds_table()
    latency = latency_table()
    machine = environment()
    text = f"""# Shrinking

Made by `python benchmarks/shrinking.py` on {machine["date"]}: {machine["processor"]}; secateur {machine["secateur"]},
torch {machine["torch"]}, Python {machine["python"]}; seed 0, float32.

## Seconds to shrink

Half of all units are masked, chosen in one ranking; then `sc.shrink` traces the network, follows its units, deletes
the dead ones and compares outputs on three inputs. Two threads, {REPEATS} times each; differences are shares of
the range of the outputs. Targets: ResNet-50 under 10 s, ResNet-18 under 3.

{chr(10).join(seconds)}

## Latency at half the multiply-adds

Units ranked layer by layer, `target={{"macs": 0.5}}`; dense kernels of torch before and after take turns, one
call each; the range is from the 10th to the 90th percentile of the turns. "Multiple of 16" keeps a multiple of 16
channels in every group, which fills the vectors of this processor. Target: 1.6 times for ResNet-18.

{chr(10).join(latency)}
"""
    write_text(RESULTS / "shrinking.md", text)


if __name__ == "__main__":
    main()
