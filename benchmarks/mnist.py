"""Accuracy on MNIST against published figures: LeNet-300-100 and the 20,410-parameter tutorial convnet.

    python benchmarks/mnist.py --data-dir DATA        (about half an hour on two cores; resumable)

Writes ``benchmarks/results/mnist.md``. Every cell is a run folder under ``sweeps/``; started again, only what is
missing is run. Settings were chosen on validation accuracy; the test set is looked at once in each cell, at its end.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from pathlib import Path
from typing import Any

from secateur.files import write_text
from secateur.lab.runs import Options
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid, sweep

LENET = Settings(data="mnist", epochs=10, prune_epochs=20, batch_size=128, learning_rate=0.001)
NO_RETRAINING = dataclasses.replace(LENET, epochs=30, prune_epochs=0)
TUTORIAL = Settings(
    data="mnist",
    model="tutorial-convnet",
    epochs=4,
    prune_epochs=2,
    batch_size=128,
    initial_sparsity=0.5,
    learning_rate=0.003,
)
SWEEPS = {
    "mnist-lenet-300-100": (
        LENET,
        Grid(("gradual", "iterative", "one-shot", "one-shot-layerwise", "random"), (0.8, 0.9, 0.95), (0, 1, 2)),
    ),
    "mnist-lenet-300-100-no-retraining": (
        NO_RETRAINING,
        Grid(("one-shot", "one-shot-layerwise", "random"), (0.5, 0.8, 0.9), (0, 1, 2)),
    ),
    "mnist-tutorial-convnet": (TUTORIAL, Grid(("gradual",), (0.8,), (0, 1, 2))),
}


def error(values: list[float]) -> str:
    """Return mean and standard deviation of the test error in percent."""
    percent = [100 * (1 - value) for value in values]
    spread = statistics.stdev(percent) if len(percent) > 1 else 0.0
    return f"{statistics.mean(percent):.2f} ± {spread:.2f}"


def table(result: dict[str, Any]) -> str:
    """Return one sweep as a Markdown table of test errors."""
    lines = [
        "| method | sparsity | weights kept | test error % | dense before pruning % | dense trained as long % |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        groups.setdefault((cell["method"], cell["sparsity"]), []).append(cell)
    for (method, sparsity), cells in groups.items():
        columns = [error([cell[key] for cell in cells]) for key in ("test", "dense_test", "reference_test")]
        kept = f"{cells[0]['kept']:,} of {cells[0]['weights']:,}"
        lines.append(f"| {method} | {sparsity:g} | {kept} | {' | '.join(columns)} |")
    return "\n".join(lines)


def summary(lenet: dict[str, Any], bare: dict[str, Any]) -> str:
    """Return the rows that matter most in one table; every net had 30 epochs in all."""

    def cells(result: dict[str, Any], method: str, sparsity: float) -> list[dict[str, Any]]:
        return [c for c in result["cells"] if c["method"] == method and c["sparsity"] == sparsity]

    gradual = cells(lenet, "gradual", 0.9)
    rows = [
        ("dense", "0", error([c["reference_test"] for c in gradual])),
        ("gradual, retrained", "0.9", error([c["test"] for c in gradual])),
        ("random, retrained (the control)", "0.9", error([c["test"] for c in cells(lenet, "random", 0.9)])),
        ("one-shot global, not retrained", "0.8", error([c["test"] for c in cells(bare, "one-shot", 0.8)])),
        (
            "one-shot layer-wise, not retrained",
            "0.8",
            error([c["test"] for c in cells(bare, "one-shot-layerwise", 0.8)]),
        ),
    ]
    lines = ["| LeNet-300-100, 30 epochs in all | sparsity | test error % |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {sparsity} | {value} |" for name, sparsity, value in rows)])


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the whole results page."""
    where = results["mnist-lenet-300-100"]["environment"]
    lenet, bare, tutorial = (results[name] for name in SWEEPS)
    cell = tutorial["summary"][0]
    dense = statistics.mean(cell["dense_test"] for cell in tutorial["cells"])
    return f"""# MNIST

Made by `python benchmarks/mnist.py` on {where["date"]}: {where["processor"]}, one thread a run; secateur
{where["secateur"]}, torch {where["torch"]}, Python {where["python"]}. Seeds 0, 1, 2; mean ± standard deviation over
seeds. 10 % of the training images are kept for validation; the best epoch on them *at the final sparsity* is tested,
once. "Dense trained as long" goes on from the same dense net for as many epochs as pruning takes, with the same
settings, without pruning. Sparsity counts weights; biases are not targets.

{summary(lenet, bare)}

## LeNet-300-100: {LENET.epochs} epochs dense, then {LENET.prune_epochs} epochs of pruning and retraining

`{lenet["command"]}`

{table(lenet)}

## LeNet-300-100: {NO_RETRAINING.epochs} epochs dense, pruned at once, no retraining

`{bare["command"]}`

{table(bare)}

## Tutorial convnet (20,410 parameters): {TUTORIAL.epochs} epochs dense, then {TUTORIAL.prune_epochs} epochs from \
sparsity {TUTORIAL.initial_sparsity} to 0.8

`{tutorial["command"]}`

| | dense accuracy % | pruned accuracy % |
|---|---|---|
| published (the Keras pruning tutorial's setting: 4 epochs, then 2; batch 128) | 97.26 | 96.89 |
| ours, mean of three seeds | {100 * dense:.2f} | {100 * cell["mean"]:.2f} |

{table(tutorial)}
"""


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sweeps"))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    results = {
        name: sweep(base, grid, options.out / name, Options(options.data_dir), options.jobs)
        for name, (base, grid) in SWEEPS.items()
    }
    target = Path(__file__).parent / "results" / "mnist.md"
    write_text(target, page(results))
    print(target)


if __name__ == "__main__":
    main()
