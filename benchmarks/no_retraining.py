"""Pruning without retraining: how much of the published collapse was never necessary.

    python benchmarks/no_retraining.py --data-dir DATA [--only lenet-300-100 lenet-5]

LeNet-300-100 and LeNet-5 on MNIST (minutes), ResNet-18 and ResNet-50 on CIFAR-10 (hours each on two cores;
resumable). Every layer but the output is pruned at once, by itself as in the published rows, then by three other ways
of sharing the same budget, and with BatchNorm statistics estimated anew. Writes
``benchmarks/results/no_retraining.md``.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import common

from secateur.files import write_text
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid

SPARSITIES = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
METHODS = ("one-shot-layerwise", "one-shot", "one-shot-erk", "one-shot-lamp")
SEEDS = (0, 1, 2)
LENET = Settings(data="mnist", epochs=30, prune_epochs=0, batch_size=128, ignore="fc3")
RESNET = Settings(
    data="cifar-10",
    model="resnet-18",
    epochs=10,
    prune_epochs=0,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-4,
    precision="bfloat16",
    test_precision="bfloat16",
    augment=False,
    ignore="fc",
)
BASES = {
    "lenet-300-100": LENET,
    "lenet-5": dataclasses.replace(LENET, model="lenet-5", ignore="fc2"),
    "resnet-18": RESNET,
    "resnet-50": dataclasses.replace(RESNET, model="resnet-50", epochs=6, validation=0.02),
}
FEWER = {"resnet-50": (0,)}  # hours of one core for each dense net, so that it also gets fewer epochs
# Accuracy in percent by sparsity, handed down without source or seeds; no other entries are known.
PUBLISHED = {
    "lenet-300-100": {0.0: 97.91, 0.8: 96.44, 0.9: 81.25},
    "lenet-5": {0.0: 97.94, 0.8: 90.00, 0.9: 51.22},
    "resnet-18": {0.0: 89.36, 0.25: 88.59, 0.5: 17.39},
    "resnet-50": {0.0: 89.90, 0.25: 89.31, 0.5: 19.42},
}


def sweeps() -> dict[str, tuple[Settings, Grid]]:
    """Return every sweep by name; nets with BatchNorm have a second one, with statistics estimated anew."""
    found = {}
    for name, base in BASES.items():
        grid = Grid(METHODS, SPARSITIES, FEWER.get(name, SEEDS))
        found[name] = (base, grid)
        if name.startswith("resnet"):
            found[f"{name}:recalibrated"] = (dataclasses.replace(base, recalibrate=True), grid)
    return found


# What the project set out to show: net, sparsity, points below dense at most.
TARGETS = (("resnet-18", 0.5, 1.0), ("resnet-18", 0.7, 3.0))
WAYS = ("layer-wise", "global", "ERK", "LAMP")


def columns(name: str, results: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return by label the sweep and the method of every column of a net."""
    keys = {"": name, ", BN anew": f"{name}:recalibrated"}
    return {
        way + ending: (key, method)
        for ending, key in keys.items()
        if key in results
        for way, method in zip(WAYS, METHODS, strict=True)
    }


def lost(result: dict[str, Any], method: str, sparsity: float) -> float:
    """Return the points of test accuracy that a column lies below dense."""
    found = common.cells(result, method, sparsity)
    return 100 * float(statistics.mean(cell["dense_test"] - cell["test"] for cell in found))


def shortfalls(results: dict[str, dict[str, Any]], before: str = "") -> str:
    """Return, first of all, what was to be shown, and where layer-wise pruning does worse than published.

    Args:
        results: by name of the sweep.
        before: the page as it stands, whose rows of other nets stay.
    """
    lines: list[list[str]] = []
    for name in BASES:
        if name in results:
            lines += [*_targets(name, results), *_below(name, results[name])]
        else:
            missing = [[*_target(*each), "", "**not measured yet**"] for each in TARGETS if each[0] == name]
            lines += common.kept_rows(before, name) or missing
    return common.markdown(["net", "sparsity", "goal", "ours", ""], lines)


def _target(name: str, sparsity: float, points: float) -> list[str]:
    return [name, f"{sparsity:g}", f"at most {points:g} below dense"]


def _targets(name: str, results: dict[str, dict[str, Any]]) -> list[list[str]]:
    lines = []
    for _, sparsity, points in (each for each in TARGETS if each[0] == name):
        # All of them, for the best by test accuracy would be chosen on test data.
        below = {way: lost(results[key], method, sparsity) for way, (key, method) in columns(name, results).items()}
        met = [way for way, lower in below.items() if lower <= points]
        least = min(below.values())
        verdict = f"met by {len(met)} of {len(below)} ways" if met else f"**missed by {least - points:.2f}**"
        if not met and f"{name}:recalibrated" not in results:
            verdict += ", BatchNorm anew not measured yet"
        told = "; ".join(f"{below[way]:.2f} ({way})" for way in met) or f"{least:.2f} at best"
        lines.append([*_target(name, sparsity, points), f"below by {told}", verdict])
    return lines


def _below(name: str, result: dict[str, Any]) -> list[list[str]]:
    lines = []
    for sparsity, accuracy in PUBLISHED[name].items():
        found = common.cells(result, METHODS[0], sparsity)
        mean = 100 * statistics.mean(cell["test"] for cell in found) if found else accuracy
        if mean < accuracy:
            line = [name, f"{sparsity:g}", f"{accuracy:.2f} % (published)", f"{mean:.2f} % (layer-wise)"]
            lines.append([*line, f"**below by {accuracy - mean:.2f}**"])
    return lines


def rows(name: str, results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return one row for each sparsity: published, then every way of ours."""
    table = []
    for sparsity in SPARSITIES:
        row = [f"{sparsity:g}", f"{PUBLISHED[name][sparsity]:.2f}" if sparsity in PUBLISHED[name] else ""]
        for key, method in columns(name, results).values():
            found = common.cells(results[key], method, sparsity)
            row.append(common.accuracy([cell["test"] for cell in found]) if found else "")
        table.append(row)
    return table


def section(name: str, results: dict[str, dict[str, Any]]) -> str:
    """Return the part of the page about one net."""
    result = results[name]
    dense = [cell["dense_test"] for cell in common.cells(result, METHODS[0], 0.0)]
    head = ["sparsity", "published, layer-wise", *columns(name, results)]
    seeds = sorted({str(cell["seed"]) for cell in result["cells"]})
    of = f"mean ± standard deviation over seeds {', '.join(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]} alone"
    again = results.get(f"{name}:recalibrated")
    anew = f"\nBN anew, on {common.where(again)}: `{again['command']}`" if again else ""
    return f"""## {name}

Test accuracy in percent; ours: {of}; dense {common.accuracy(dense)}.
Measured on {common.where(result)}. `{result["command"]}`{anew}

![test accuracy over sparsity](no_retraining-{name}.svg)

{common.markdown(head, rows(name, results))}

{reading(name, results)}

"""


def reading(name: str, results: dict[str, dict[str, Any]]) -> str:
    """Return, in words, how far each way gets within one and within three points of dense."""
    lines = []
    for way, (key, method) in columns(name, results).items():
        reach = [_reach(results[key], method, points) for points in (1.0, 3.0)]
        told = f"within one point of dense up to {reach[0]:g}, within three up to {reach[1]:g}"
        lines.append(f"- {way[0].upper()}{way[1:]}: {told}.")
    return "\n".join(lines)


def _reach(result: dict[str, Any], method: str, points: float) -> float:
    best = 0.0
    for sparsity in SPARSITIES:
        found = common.cells(result, method, sparsity)
        if not found:
            continue
        if lost(result, method, sparsity) > points:
            break
        best = sparsity
    return best


def _points(result: dict[str, Any], method: str) -> list[tuple[float, list[float]]]:
    found = ((sparsity, common.cells(result, method, sparsity)) for sparsity in SPARSITIES)
    return [(sparsity, [100 * cell["test"] for cell in each]) for sparsity, each in found if each]


def main() -> None:
    """Run what is missing and write the page."""
    options = common.arguments(__doc__, tuple(sweeps()))
    options.out = options.out / "no-retraining"
    results = common.run_all(sweeps(), options)
    nets = [name for name in BASES if name in results]
    if not nets:
        print("the page is written once the sweep of a net is there")
        return
    for name in nets:
        lines = {way: _points(results[key], method) for way, (key, method) in columns(name, results).items()}
        lines["published, layer-wise"] = [(sparsity, [value]) for sparsity, value in PUBLISHED[name].items()]
        common.plot(lines, name, common.RESULTS / f"no_retraining-{name}.svg", depth=60)
    target = common.RESULTS / "no_retraining.md"
    before = common.text_of(target)
    sections = {
        name: section(name, results) if name in results else common.kept_section(before, name) for name in BASES
    }
    missing = [name for name in BASES if not sections[name]]
    first = f"**Not measured yet: {', '.join(missing)}.** " if missing else ""
    made = common.paragraph(f"""{first}Made by `python benchmarks/no_retraining.py`. The dense net is trained once a
        seed, its best epoch on validation data kept; every column prunes that same net, all layers but the output, and
        trains nothing afterwards. The published rows were handed down without source, settings or seeds, and are no
        more than a mark. The goals are this project's own. Nets with BatchNorm are tested in bfloat16.""")
    text = f"""# Pruning without retraining

{made}

{shortfalls(results, before)}

{"".join(sections.values())}"""
    write_text(target, text.rstrip() + "\n")
    print(target)


if __name__ == "__main__":
    main()
