"""What pruning does and does not do: the claims of the literature, each tested on two nets.

    python benchmarks/findings.py --data-dir DATA        (some hours on two cores; resumable)

LeNet-300-100 on MNIST and LeNet-5 on Fashion-MNIST. Writes ``docs/findings.md`` and its plots in ``docs/findings/``.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common

from secateur.files import write_text
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid

SEEDS = (0, 1, 2)
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
HIGH, LOW = (0.9, 0.95, 0.98), (0.5,)
NETS = {
    "lenet-300-100": Settings(data="mnist", epochs=10, prune_epochs=20, batch_size=128, learning_rate=0.001),
    "lenet-5": Settings(
        data="fashion-mnist",
        model="lenet-5",
        epochs=6,
        prune_epochs=6,
        batch_size=128,
        learning_rate=0.001,
        precision="bfloat16",
    ),
}
METHODS = ("gradual", "one-shot", "random", "small-dense")
HIGH_ONLY = ("one-shot-layerwise", "one-shot-erk", "one-shot-lamp", "snip")
# Strengths that leave dense LeNet-300-100 about as good as it is without: 98.07 % with this L1, 98.35 % with this L2
# and 98.17 % with neither (10 epochs, validation accuracy of seed 10, which no table here uses).
L1, L2 = 1e-4, 1e-3
PENALTIES: dict[str, dict[str, Any]] = {"-l1": {"l1": L1}, "-l2": {"l2": L2}}
RETRAINED: dict[str, dict[str, Any]] = {"-l1": {"retrain_l1": L1}, "-l2": {"retrain_l2": L2}}


def sweeps() -> dict[str, tuple[Settings, Grid]]:
    """Return every sweep by name; what follows the colon shares the dense nets of what stands before it."""
    found = {}
    for name, base in NETS.items():
        found[name] = (base, Grid(METHODS, SPARSITIES, SEEDS))
        found[f"{name}:high"] = (base, Grid(HIGH_ONLY, HIGH, SEEDS))
        found[f"{name}:before"] = (dataclasses.replace(base, prune_epochs=0), Grid(("one-shot",), SPARSITIES, SEEDS))
        for control in ("scratch", "shuffle"):
            found[f"{name}:{control}"] = (
                dataclasses.replace(base, control=control),
                Grid(("gradual",), HIGH, SEEDS),
            )
        rounds = dataclasses.replace(base, rounds=3)
        found[f"{name}:rounds"] = (
            rounds,
            Grid(("lottery-ticket", "learning-rate-rewinding"), (0.9, 0.98), SEEDS),
        )
        for kind, penalty in PENALTIES.items():
            bare = dataclasses.replace(base, prune_epochs=0, **penalty)
            again = dataclasses.replace(base, **penalty, **RETRAINED[kind])
            found[f"{name}{kind}:before"] = (bare, Grid(("one-shot",), SPARSITIES, SEEDS))
            found[f"{name}{kind}:after"] = (again, Grid(("one-shot",), SPARSITIES, SEEDS))
    return found


Column = tuple[str, str, str]
"""What follows the net's name in the sweep's name, the method, and the key of a cell."""


@dataclass(frozen=True)
class Comparison:
    """Two columns of cells that should differ in one direction: test accuracy of ``better`` above that of ``worse``."""

    label: str
    better: Column
    worse: Column
    sparsities: tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """A claim of the literature and the comparisons that decide it.

    Attributes:
        title, source: as the page gives them.
        comparisons: that decide it.
        some: it is of the kind "there are cases": one comparison on each net makes it hold.
        drawn: the lines of its plots by label; those that are compared if None.
    """

    title: str
    source: str
    comparisons: tuple[Comparison, ...]
    some: bool = False
    drawn: Mapping[str, Column] | None = None


def _methods(better: str, worse: str, sparsities: tuple[float, ...]) -> Comparison:
    return Comparison(f"{better} over {worse}", _column(better), _column(worse), sparsities)


def _column(method: str) -> Column:
    return (":high" if method in HIGH_ONLY else "", method, "test")


# Both penalties and neither, before and after retraining, in one plot, as in figure 5 of Han et al.
PENALTY_LINES: dict[str, Column] = {
    "neither, not retrained": (":before", "one-shot", "test"),
    "L1, not retrained": ("-l1:before", "one-shot", "test"),
    "L2, not retrained": ("-l2:before", "one-shot", "test"),
    "neither, retrained": ("", "one-shot", "test"),
    "L1, retrained": ("-l1:after", "one-shot", "test"),
    "L2, retrained": ("-l2:after", "one-shot", "test"),
}

CLAIMS = (
    Claim(
        "Choosing by magnitude or sensitivity beats random pruning at high sparsity",
        "Blalock et al. 2020 (arXiv 2003.03033), section 3",
        (_methods("one-shot", "random", HIGH), _methods("gradual", "random", HIGH), _methods("snip", "random", HIGH)),
    ),
    Claim(
        "Magnitude beats random pruning at low sparsity too",
        "doubted by Blalock et al. 2020 (arXiv 2003.03033), section 3: not always",
        (_methods("one-shot", "random", LOW), _methods("gradual", "random", LOW)),
    ),
    Claim(
        "Global or allocated budgets beat the same sparsity in every layer",
        "Evci et al. 2020 (arXiv 1911.11134); Lee et al. 2021 (arXiv 2010.07611)",
        tuple(_methods(way, "one-shot-layerwise", HIGH) for way in ("one-shot", "one-shot-erk", "one-shot-lamp")),
    ),
    Claim(
        "Weights pruned and fine-tuned beat the same mask trained from scratch",
        "Han et al. 2015 (arXiv 1506.02626), section 3.3; doubted by Liu et al. 2019 (arXiv 1810.05270) for filters",
        (Comparison("kept weights over new ones", ("", "gradual", "test"), (":scratch", "gradual", "test"), HIGH),),
    ),
    Claim(
        "It matters which weights a mask keeps, not only how many in each layer",
        "questioned by Su et al. 2020 (arXiv 2009.11094) for tickets drawn at initialization",
        (
            Comparison(
                "the mask over a shuffled one, both from scratch",
                (":scratch", "gradual", "test"),
                (":shuffle", "gradual", "test"),
                HIGH,
            ),
        ),
    ),
    Claim(
        "A large sparse net beats a small dense one of as many weights",
        "Zhu and Gupta 2017 (arXiv 1710.01878), section 4",
        (_methods("gradual", "small-dense", (0.8, 0.9, 0.95, 0.98)),),
    ),
    Claim(
        "A pruned net can beat its dense parent, trained as long",
        "Han et al. 2015 (arXiv 1506.02626), table 1; Blalock et al. 2020, section 3",
        (
            Comparison("gradual over dense", ("", "gradual", "test"), ("", "gradual", "reference_test"), (0.5,)),
            Comparison("gradual over dense", ("", "gradual", "test"), ("", "gradual", "reference_test"), (0.8, 0.9)),
        ),
        some=True,
    ),
    Claim(
        "L1 beats L2 before retraining",
        "Han et al. 2015 (arXiv 1506.02626), section 3.1 and figure 5",
        (Comparison("L1 over L2", ("-l1:before", "one-shot", "test"), ("-l2:before", "one-shot", "test"), HIGH),),
        drawn=PENALTY_LINES,
    ),
    Claim(
        "L2 beats L1 after retraining",
        "Han et al. 2015 (arXiv 1506.02626), section 3.1 and figure 5",
        (Comparison("L2 over L1", ("-l2:after", "one-shot", "test"), ("-l1:after", "one-shot", "test"), HIGH),),
        drawn=PENALTY_LINES,
    ),
    Claim(
        "Rewinding the learning rate beats rewinding the weights to the start",
        "Renda et al. 2020 (arXiv 2003.02389)",
        (
            Comparison(
                "weights kept over rewound",
                (":rounds", "learning-rate-rewinding", "test"),
                (":rounds", "lottery-ticket", "test"),
                (0.9, 0.98),
            ),
        ),
    ),
)
Results = dict[str, dict[str, Any]]


def values(results: Results, net: str, column: Column, sparsity: float) -> list[float]:
    """Return one accuracy in percent for each seed."""
    suffix, method, key = column
    found = common.cells(results[f"{net}{suffix}"], method, sparsity)
    return [100 * cell[key] for cell in sorted(found, key=lambda cell: cell["seed"])]


def verdict(differences: Sequence[float]) -> str:
    """Call a comparison by its differences, one a seed: all of one sign, and their mean above their spread."""
    mean, spread = statistics.mean(differences), statistics.stdev(differences)
    if all(each > 0 for each in differences) and mean > spread:
        return "held"
    if all(each < 0 for each in differences) and -mean > spread:
        return "failed"
    return "undecided"


def judge(claim: Claim, results: Results) -> tuple[str, list[list[str]]]:
    """Return the verdict on a claim and the rows that show it."""
    rows: list[list[str]] = []
    calls: list[str] = []
    by_net: list[list[str]] = []
    for net in NETS:
        by_net.append([])
        for comparison in claim.comparisons:
            for sparsity in comparison.sparsities:
                better = values(results, net, comparison.better, sparsity)
                worse = values(results, net, comparison.worse, sparsity)
                differences = [a - b for a, b in zip(better, worse, strict=True)]
                call = verdict(differences)
                calls.append(call)
                by_net[-1].append(call)
                shown = [f"{statistics.mean(each):.2f}" for each in (better, worse)]
                spread = f"{statistics.mean(differences):+.2f} ± {statistics.stdev(differences):.2f}"
                rows.append([net, comparison.label, f"{sparsity:g}", *shown, spread, call])
    share, failed = (sum(call == kind for call in calls) / len(calls) for kind in ("held", "failed"))
    held = all("held" in each for each in by_net) if claim.some else share >= 0.75 and not failed
    if held:
        return "held", rows
    return ("failed" if failed >= 0.5 else "undecided"), rows


def main() -> None:
    """Run what is missing and write the page."""
    options = common.arguments(__doc__, tuple(sweeps()))
    options.out = options.out / "findings"
    results = common.run_all(sweeps(), options)
    if len(results) < len(sweeps()):
        print("the page is written once all sweeps are there")
        return
    docs = Path(__file__).parent.parent / "docs"
    write_text(docs / "findings.md", page(results, docs / "findings"))
    print(docs / "findings.md")


def page(results: Results, plots: Path) -> str:
    """Return the page; draw its plots."""
    head = ["net", "comparison", "sparsity", "first %", "second %", "difference, points", ""]
    parts, summary, shown = [], [], None
    for number, claim in enumerate(CLAIMS, start=1):
        call, rows = judge(claim, results)
        calls = [row[-1] for row in rows]
        told = f"{calls.count('held')} of {len(calls)} held, {calls.count('failed')} failed"
        summary.append([f"[{claim.title}](#{number}-{_anchor(claim.title)})", f"**{call}**", told])
        pictures = "\n".join(_pictures(claim, number, results, plots))
        parts.append(
            f"## {number}. {claim.title}\n\n**{call.capitalize()}.** Source: {claim.source}.\n\n"
            f"{pictures}\n\n{common.markdown(head, rows)}\n"
        )
        if claim.drawn and claim.drawn is not shown:
            parts.append(f"All lines of the plots, test accuracy in percent:\n\n{_lines(claim.drawn, results)}\n")
            shown = claim.drawn
    one = results[next(iter(NETS))]
    made = common.paragraph(f"""Made by `python benchmarks/findings.py --data-dir DATA` on {common.where(one)}.
        LeNet-300-100 on MNIST and LeNet-5 on Fashion-MNIST, three seeds.""")
    return f"""# Findings: what pruning does and does not do

{made}

What prunes a trained net starts, seed by seed, from the same dense net; a penalty, SNIP, a mask from scratch and a
small dense net have a training of their own, as long as the others' in all. Only lottery tickets and learning-rate
rewinding train longer: three rounds of the whole training. A comparison *held* when all three seeds agree and the mean
difference is larger than the standard deviation of the differences, *failed* when they agree on the contrary, and is
*undecided* otherwise. A claim held when three in four of its comparisons did and none failed, failed when half of them
did, and is undecided otherwise; one that says that there are cases held when each net has one. Three seeds decide
little: read the differences. The penalties, L1 {L1:g} and L2 {L2:g}, leave dense LeNet-300-100 about as good as it is
without; LeNet-5 has the same ones.

{common.markdown(["claim", "here", "comparisons"], summary)}

{chr(10).join(parts)}"""


def _pictures(claim: Claim, number: int, results: Results, plots: Path) -> list[str]:
    found = []
    for net in NETS:
        compared = (column for each in claim.comparisons for column in (each.better, each.worse))
        lines = claim.drawn or {_label(column): column for column in compared}
        path = plots / f"{number}-{net}.svg"
        points = {label: _points(results, net, column) for label, column in lines.items()}
        common.plot(points, net, path, depth=12, ratios=True)
        found.append(f"![{claim.title}, {net}](findings/{path.name})")
    return found


def _points(results: Results, net: str, column: Column) -> list[tuple[float, list[float]]]:
    found = ((sparsity, values(results, net, column, sparsity)) for sparsity in SPARSITIES)
    return [(sparsity, each) for sparsity, each in found if each]


def _lines(drawn: Mapping[str, Column], results: Results) -> str:
    rows = []
    for net in NETS:
        for label, column in drawn.items():
            found = dict(_points(results, net, column))
            means = [f"{statistics.mean(found[each]):.2f}" if each in found else "" for each in SPARSITIES]
            rows.append([net, label, *means])
    return common.markdown(["net", "", *(f"{each:g}" for each in SPARSITIES)], rows)


def _label(column: Column) -> str:
    suffix, method, key = column
    if key == "reference_test":
        return "dense, trained as long"
    return {":scratch": "mask from scratch", ":shuffle": "shuffled mask"}.get(suffix, method)


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


if __name__ == "__main__":
    main()
