"""What training gains, and takes, when the C library keeps freed memory for the next step.

    python benchmarks/memory.py [--pairs 3]        (some minutes, one core; Linux with glibc)

Random images, batch 128, bfloat16, fused Adam. Every measurement is a process of its own, in turns with and without.
Writes ``benchmarks/results/memory.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import common
import torch
from torch.nn import functional

import secateur as sc
from secateur.files import write_text
from secateur.lab import models
from secateur.lab.environment import environment
from secateur.lab.memory import allocator_settings, memory_kept
from secateur.lab.threads import torch_at

BATCH = 128
# Shape of an image, steps timed.
NETS = {
    "lenet-300-100": ((1, 28, 28), 1000),
    "lenet-5": ((1, 28, 28), 100),
    "resnet-56": ((3, 32, 32), 6),
    "resnet-18": ((3, 32, 32), 3),
    "resnet-50": ((3, 32, 32), 2),
}
Measured = tuple[float, float]
"""Milliseconds a step, peak memory in MB."""


def measure(name: str, kept: bool) -> Measured:
    """Train a net for some steps in this process."""
    shape, steps = NETS[name]
    model = models.build(name, shape, 10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(BATCH, *shape).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    times = []
    with torch_at(1), memory_kept() if kept else contextlib.nullcontext():
        for _ in range(steps + 2):
            begun = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times[2:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def apart(name: str, kept: bool) -> Measured:
    """Measure in a new process: what its allocator once learned would stay."""
    command = [sys.executable, __file__, "--measure", name, *(["--kept"] if kept else [])]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    milliseconds, megabytes = map(float, said.split())
    return milliseconds, megabytes


def row(name: str, pairs: Sequence[tuple[Measured, Measured]]) -> list[str]:
    """Return a line of the table, from pairs of a measurement as usual and one with memory kept."""
    faster = common.spread([usual[0] / kept[0] for usual, kept in pairs])
    steps, peaks = ([statistics.median(each[i] for each in way) for way in zip(*pairs, strict=True)] for i in (0, 1))
    return [name, *(f"{step:.1f}" for step in steps), faster, *(f"{peak:,.0f}" for peak in peaks)]


def main() -> None:
    """Measure every net and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="measurements of each kind")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(*measure(options.measure, options.kept))
        return
    if chosen := allocator_settings():
        raise SystemExit(f"the environment sets the allocator: unset {', '.join(chosen)}")
    lines = []
    for name in NETS:
        lines.append(row(name, [(apart(name, kept=False), apart(name, kept=True)) for _ in range(options.pairs)]))
        print(" | ".join(lines[-1]), flush=True)
    machine = environment()
    made = common.paragraph(f"""Made by `python benchmarks/memory.py` on {machine["date"]}, {machine["processor"]}, one
        thread; secateur {sc.__version__}, torch {machine["torch"]}. Training steps, batch {BATCH}, bfloat16, images of
        MNIST's and CIFAR-10's shapes; processes in turns, {options.pairs} of each kind, medians.
        `secateur.lab.memory.memory_kept` stands around the lab's training and evaluation. Once used,
        blocks of up to 32 MB go on being reused in that process, also while it takes latencies for a report.""")
    head = ["net", "step as usual, ms", "memory kept, ms", "times faster (least to largest)"]
    text = common.markdown([*head, "peak as usual, MB", "memory kept, MB"], lines)
    write_text(common.RESULTS / "memory.md", f"# Memory kept between steps\n\n{made}\n\n{text}\n")


if __name__ == "__main__":
    main()
