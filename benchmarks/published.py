"""The published tables, and ours beside them: how small LeNets, a tutorial's convnet and a ResNet get at what error.

    python benchmarks/published.py --data-dir DATA [--only lenet-300-100 lenet-5 tutorial-convnet resnet-56-short]

Hours on two cores; resumable, a finished cell is not run again. ``resnet-56``, days on two cores, is the recipe for a
GPU and runs when named (``--only resnet-56 --device cuda``); ``resnet-56-short`` is what two cores do of it in some
hours. The settings of the LeNets and of the tutorial's convnet were chosen on validation accuracy of seeds that no
table uses (``docs/design/trials.md``), those of ResNet-56 were not tuned at all; the test set is looked at once in each
cell, at its end. Writes ``benchmarks/results/published.md`` and one plot for each net.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import common

from secateur.files import write_text
from secateur.lab.report import save_picture
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid

SEEDS = (0, 1, 2)
LENET_300_100 = Settings(
    data="mnist",
    epochs=40,
    prune_epochs=100,
    batch_size=128,
    learning_rate=0.002,
    dropout=0.3,
    scope="lamp",
    rise=0.4,
    retrain_l1=1e-4,
)
LENET_5 = dataclasses.replace(
    LENET_300_100,
    model="lenet-5",
    prune_epochs=150,
    dropout=0.5,
    smoothing=0.1,
    retrain_rate=2.0,
    precision="bfloat16",
)
TUTORIAL = dataclasses.replace(LENET_300_100, model="tutorial-convnet", epochs=20, prune_epochs=40, retrain_l1=5e-5)
RESNET_56 = Settings(
    data="cifar-10",
    model="resnet-56",
    epochs=40,
    prune_epochs=80,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-4,
    augment=False,
    precision="bfloat16",
    threads=2,
)
# A fifth of the epochs, one sparsity.
RESNET_56_SHORT = dataclasses.replace(RESNET_56, epochs=8, prune_epochs=16, threads=1)
SWEEPS = {
    "lenet-300-100": (LENET_300_100, Grid(("gradual",), (1 - 1 / 12, 1 - 1 / 60, 0.99), SEEDS)),
    "lenet-5": (LENET_5, Grid(("gradual",), (0.992, 1 - 1 / 300), SEEDS)),
    "tutorial-convnet": (TUTORIAL, Grid(("gradual",), (0.8, 0.95), SEEDS)),
    "resnet-56": (RESNET_56, Grid(("gradual",), (0.9, 0.95, 0.97), SEEDS)),
    "resnet-56-short": (RESNET_56_SHORT, Grid(("gradual",), (0.95,), SEEDS)),
}
BY_NAME_ONLY = ("resnet-56",)
# Test error in percent by model and compression ratio, as published. "memory": not checked against the paper.
PUBLISHED: dict[str, list[tuple[str, str, str]]] = {
    "lenet-300-100": [
        ("Han et al. 2015", "12", "1.59"),
        ("Dynamic Network Surgery, Guo et al. 2016", "56", "1.99"),
        ("GSM, Ding et al. 2019", "60", "1.82 (not checked against the paper)"),
        ("Sparse VD, Molchanov et al. 2017", "68", "1.92"),
        ("LC, Carreira-Perpinan and Idelbayev 2018", "100", "3.2"),
    ],
    "lenet-5": [
        ("Han et al. 2015", "12", "0.77"),
        ("Dynamic Network Surgery, Guo et al. 2016", "108", "0.91"),
        ("GSM, Ding et al. 2019", "125", "0.78 (not checked against the paper)"),
        ("Sparse VD, Molchanov et al. 2017", "280", "0.75"),
        ("GSM, Ding et al. 2019", "300", "0.94 (not checked against the paper)"),
    ],
    "tutorial-convnet": [("Keras pruning tutorial, dense", "1", "2.74"), ("Keras pruning tutorial", "5", "3.11")],
    "resnet-56": [
        ("LC, dense", "1", "6.86"),
        ("LC, Carreira-Perpinan and Idelbayev 2018", "10", "6.67"),
        ("LC, Carreira-Perpinan and Idelbayev 2018", "20", "7.51"),
        ("LC, Carreira-Perpinan and Idelbayev 2018", "33", "8.21"),
    ],
}
# The project's goals: net, sparsity, test error in percent; or no more than that of the dense net.
TARGETS: tuple[tuple[str, float, float | None], ...] = (
    ("lenet-300-100", 1 - 1 / 60, 1.80),
    ("lenet-300-100", 0.99, 2.0),
    ("lenet-5", 0.992, 0.75),
    ("lenet-5", 1 - 1 / 300, 0.90),
    ("tutorial-convnet", 0.8, None),
    ("tutorial-convnet", 0.95, 3.11),
    ("resnet-56", 0.95, None),
    ("resnet-56-short", 0.95, None),
)


def section(name: str, result: dict[str, Any]) -> str:
    """Return the part of the page about one net."""
    base, grid = SWEEPS[name]
    rows = [[source, ratio, "", test, ""] for source, ratio, test in PUBLISHED[base.model]]
    for sparsity in grid.sparsities:
        found = common.cells(result, "gradual", sparsity)
        if found:
            one = found[0]
            kept = f"{one['kept']:,} of {one['weights']:,}"
            test, dense = (common.error([cell[key] for cell in found]) for key in ("test", "reference_test"))
            rows.append([f"**ours**, {len(found)} seeds", f"{one['compression']:.0f}", kept, test, dense])
    head = ["", "compression ratio (weights)", "weights kept", "test error %", "dense, trained as long %"]
    return f"""## {name}

{base.epochs} epochs dense, then {base.prune_epochs} of pruning and retraining, on {common.where(result)}.
`{result["command"]}`

![test accuracy over sparsity](published-{name}.svg)

{common.markdown(head, rows)}

"""


def shortfalls(results: dict[str, dict[str, Any]], before: str = "") -> str:
    """Return, first of all, where the targets were missed and by how much; ``before`` is the page as it stands."""
    lines: list[list[str]] = []
    for name, sparsity, limit in TARGETS:
        ratio = f"{1 / (1 - sparsity):.0f}"
        found = common.cells(results[name], "gradual", sparsity) if name in results else []
        if not found:
            missing = [name, ratio, "as dense" if limit is None else f"{limit:.2f}", "", "**not measured yet**"]
            lines += [row for row in common.kept_rows(before, name) if row[1] == ratio] or [missing]
            continue
        test, dense = ([cell[key] for cell in found] for key in ("test", "reference_test"))
        mean = 100 * (1 - statistics.mean(test))
        goal = 100 * (1 - statistics.mean(dense)) if limit is None else limit
        verdict = "met" if mean <= goal else f"**missed by {mean - goal:.2f}**"
        told = f"{common.error(dense)}, as dense" if limit is None else f"{goal:.2f}"
        lines.append([name, ratio, told, common.error(test), verdict])
    return common.markdown(["net", "compression ratio", "goal: error %", "ours", ""], lines)


def main() -> None:
    """Run what is missing and write the page."""
    options = common.arguments(__doc__, tuple(SWEEPS))
    options.out = options.out / "published"
    options.only = options.only or [name for name in SWEEPS if name not in BY_NAME_ONLY]
    results = common.run_all(SWEEPS, options)
    for name in results:
        save_picture(options.out / name, common.RESULTS / f"published-{name}.svg")
    target = common.RESULTS / "published.md"
    before = common.text_of(target)
    sections = [
        section(name, results[name]) if name in results else common.kept_section(before, name) for name in SWEEPS
    ]
    made = common.paragraph(f"""Made by `python benchmarks/published.py`. Mean ± standard deviation over seeds
        {", ".join(map(str, SEEDS))}. 10 % of the training images are kept for validation; the best epoch on them at the
        final sparsity is tested, once. No augmentation, no other data; whether the authors of published ResNet-56
        rows did without is not known. Weights are counted without biases, which stay. The goals are this project's
        own; what is missed is computed before rounding.""")
    text = f"""# Published tables, and ours

{made}

{shortfalls(results, before)}

{"".join(sections)}"""
    write_text(target, text.rstrip() + "\n")
    print(target)


if __name__ == "__main__":
    main()
