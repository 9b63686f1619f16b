"""Accuracy on MNIST against published figures: LeNet-300-100 and the 20,410-parameter tutorial convnet.

    python benchmarks/mnist.py --data-dir DATA        (about half an hour on two cores; resumable)

Writes ``benchmarks/results/mnist.md``. Every cell is a run folder under ``sweeps/``; started again, only what is
missing is run. Settings were chosen on validation accuracy; the test set is looked at once in each cell, at its end.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import common

from secateur.files import write_text
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid

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


def table(result: dict[str, Any]) -> str:
    """Return one sweep as a Markdown table of test errors."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        groups.setdefault((cell["method"], cell["sparsity"]), []).append(cell)
    rows = []
    for (method, sparsity), cells in groups.items():
        columns = [common.error([cell[key] for cell in cells]) for key in ("test", "dense_test", "reference_test")]
        rows.append([method, f"{sparsity:g}", f"{cells[0]['kept']:,} of {cells[0]['weights']:,}", *columns])
    head = ["method", "sparsity", "weights kept", "test error %", "dense before pruning %", "dense trained as long %"]
    return common.markdown(head, rows)


def summary(lenet: dict[str, Any], bare: dict[str, Any]) -> str:
    """Return the rows that matter most in one table; every net had 30 epochs in all."""

    def error(result: dict[str, Any], method: str, sparsity: float, key: str = "test") -> str:
        return common.error([cell[key] for cell in common.cells(result, method, sparsity)])

    rows = [
        ("dense", "0", error(lenet, "gradual", 0.9, "reference_test")),
        ("gradual, retrained", "0.9", error(lenet, "gradual", 0.9)),
        ("random, retrained (the control)", "0.9", error(lenet, "random", 0.9)),
        ("one-shot global, not retrained", "0.8", error(bare, "one-shot", 0.8)),
        ("one-shot layer-wise, not retrained", "0.8", error(bare, "one-shot-layerwise", 0.8)),
    ]
    return common.markdown(["LeNet-300-100, 30 epochs in all", "sparsity", "test error %"], rows)


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the whole results page."""
    made = common.paragraph(f"""Made by `python benchmarks/mnist.py` on {common.where(results["mnist-lenet-300-100"])}.
        Seeds 0, 1, 2; mean ± standard deviation over seeds. 10 % of the training images are kept for validation; the
        best epoch on them *at the final sparsity* is tested, once. "Dense trained as long" goes on from the same dense
        net for as many epochs as pruning takes, with the same settings, without pruning. Sparsity counts weights;
        biases are not targets.""")
    lenet, bare, tutorial = (results[name] for name in SWEEPS)
    cell = tutorial["summary"][0]
    dense = statistics.mean(cell["dense_test"] for cell in tutorial["cells"])
    return f"""# MNIST

{made}

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
| published (the Keras pruning tutorial's setting: 4 epochs in batches of 32, then 2 of 128) | 97.26 | 96.89 |
| ours, mean of three seeds | {100 * dense:.2f} | {100 * cell["mean"]:.2f} |

{table(tutorial)}
"""


def main() -> None:
    """Run what is missing and write the page."""
    results = common.run_all(SWEEPS, common.arguments(__doc__))
    target = common.RESULTS / "mnist.md"
    write_text(target, page(results))
    print(target)


if __name__ == "__main__":
    main()
