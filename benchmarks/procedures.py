"""Every published procedure that no other table has, on the data of its authors: what each costs in test error.

    python benchmarks/procedures.py --data-dir DATA       (some hours on two cores; resumable)

LeNet-300-100 and LeNet-5 on MNIST: three-step pruning and its controls, surgery, SNIP, lottery tickets, sensitivity
analysis, neurons by five scores, distillation and an accuracy budget. Nothing here was tuned. Writes
``benchmarks/results/procedures.md``.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import common

from secateur.files import write_text
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid

SEEDS = (0, 1, 2)
NETS = {
    "lenet-300-100": Settings(data="mnist", epochs=15, prune_epochs=30, batch_size=128, learning_rate=0.001, rounds=3),
    "lenet-5": Settings(
        data="mnist",
        model="lenet-5",
        epochs=10,
        prune_epochs=10,
        batch_size=128,
        learning_rate=0.001,
        rounds=3,
        precision="bfloat16",
    ),
}
SMALL, BIG = "lenet-300-100", "lenet-5"


@dataclass(frozen=True)
class Procedure:
    """One line of the tables.

    Attributes:
        net: that it prunes.
        group: heading under which it stands.
        method: its name in the lab.
        sparsities: to prune to; a share of units for neurons, unused where a budget or a threshold decides.
        changes: settings of its own.
        published: test error in percent as published, with its source, by sparsity.
        dense_too: the changes make another dense net, too.
    """

    net: str
    group: str
    method: str
    sparsities: tuple[float, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[float, str] = field(default_factory=dict)
    dense_too: bool = False

    @property
    def flags(self) -> str:
        """The flags that ask for it."""
        own = (
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            for name, value in self.changes.items()
        )
        return " ".join([f"--method {self.method}", *own])

    @property
    def name(self) -> str:
        """The name of its sweep; what follows a colon shares the dense nets of what stands before it."""
        slug = "-".join([self.method, *(f"{name}-{value}" for name, value in self.changes.items())])
        return f"{self.net}{'-' if self.dense_too else ':'}{slug}"


HAN, DNS, HALF = 1 - 1 / 12, 1 - 1 / 56, 0.5
SNIP = {0.95: "1.6 (Lee et al. 2019)", 0.98: "2.4 (Lee et al. 2019)"}
L2 = {"l2": 0.0001, "retrain_l2": 0.0001}
PROCEDURES = (
    Procedure(SMALL, "Three steps", "three-step", (HAN,), published={HAN: "1.59 (Han et al. 2015)"}),
    Procedure(SMALL, "Three steps", "three-step", (HAN,), {"retrain_rate": 0.1}),
    Procedure(SMALL, "Three steps", "three-step", (HAN,), L2, dense_too=True),
    Procedure(SMALL, "Three steps", "three-step", (HAN,), {"dropout": 0.3}, dense_too=True),
    Procedure(SMALL, "Three steps", "three-step", (0.9,), {"quality": 1.0}),
    Procedure(SMALL, "Three steps", "three-step", (HAN,), {"survivors": "drawn"}),
    Procedure(SMALL, "Three steps", "iterative", (HAN,)),
    Procedure(BIG, "Three steps", "three-step", (HAN,), published={HAN: "0.77 (Han et al. 2015)"}),
    Procedure(BIG, "Three steps", "three-step", (HAN,), {"fixed": "convolutions"}),
    Procedure(BIG, "Three steps", "three-step", (HAN,), {"fixed": "dense"}),
    Procedure(BIG, "Three steps", "three-step", (HAN,), {"fixed": "turns"}),
    Procedure(SMALL, "Splicing back", "surgery", (HAN, DNS), published={DNS: "1.99 (Guo et al. 2016)"}),
    Procedure(SMALL, "Splicing back", "gradual", (HAN, DNS)),
    Procedure(SMALL, "Splicing back", "gradual", (HAN, DNS), {"regrow": True}),
    Procedure(BIG, "Splicing back", "surgery", (HAN, 1 - 1 / 108), published={1 - 1 / 108: "0.91 (Guo et al. 2016)"}),
    Procedure(BIG, "Splicing back", "gradual", (HAN, 1 - 1 / 108)),
    Procedure(SMALL, "Before training", "snip", (0.95, 0.98), published=SNIP),
    Procedure(SMALL, "Before training", "snip", (0.95, 0.98), {"control": "shuffle"}),
    Procedure(SMALL, "Tickets", "lottery-ticket", (0.964,)),
    Procedure(SMALL, "Tickets", "lottery-ticket", (0.964,), {"rewind": 0.1}),
    Procedure(SMALL, "Tickets", "lottery-ticket", (0.964,), {"control": "scratch"}),
    Procedure(SMALL, "Tickets", "learning-rate-rewinding", (0.964,)),
    Procedure(SMALL, "What each layer bears", "sensitivity", (HAN,)),
    Procedure(SMALL, "What each layer bears", "one-shot", (HAN,)),
    Procedure(SMALL, "What each layer bears", "one-shot-layerwise", (HAN,)),
    *(
        Procedure(net, "Neurons", "neurons", (HALF, 0.8), {"neuron_score": score})
        for net in NETS
        for score in ("incoming", "outgoing", "product", "activity", "taylor")
    ),
    Procedure(SMALL, "Distillation from the dense net", "gradual", (HAN, DNS), {"distill": 0.5}),
    Procedure(SMALL, "An accuracy budget", "gradual", (0.9,), {"max_drop": 0.5}),
    Procedure(SMALL, "An accuracy budget", "neurons", (0.9,), {"max_drop": 0.5}),
)


def sweeps() -> dict[str, tuple[Settings, Grid]]:
    """Return every sweep by name."""
    return {
        each.name: (
            dataclasses.replace(NETS[each.net], **each.changes),
            Grid((each.method,), each.sparsities, SEEDS),
        )
        for each in PROCEDURES
    }


def rows(procedure: Procedure, result: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each sparsity of a procedure: what was kept, errors, and what was published."""
    found = []
    for sparsity in procedure.sparsities:
        cells = common.cells(result, procedure.method, sparsity)
        kept = 100 * statistics.mean(cell["kept"] / cell["weights"] for cell in cells)
        test, dense = (common.error([cell[key] for cell in cells]) for key in ("test", "reference_test"))
        asked = "" if {"max_drop", "quality"} & procedure.changes.keys() else f" --sparsity {sparsity:.12g}"
        published = procedure.published.get(sparsity, "")
        found.append([procedure.net, f"`{procedure.flags}{asked}`", f"{kept:.2f}", test, dense, published])
    return found


def shortfalls(results: Mapping[str, Mapping[str, Any]], before: str = "") -> str:
    """Return, first of all, every figure that was published beside ours, and whether ours is as low.

    Args:
        results: by name of the sweep.
        before: the page as it stands, whose rows stay where a procedure is not here.
    """
    lines: list[list[str]] = []
    for each in PROCEDURES:
        for sparsity, published in each.published.items():
            asked = f"`{each.flags} --sparsity {sparsity:.12g}`"
            if each.name not in results:
                lines += [row for row in common.kept_rows(before, each.net) if row[1] == asked]
                continue
            cells = common.cells(results[each.name], each.method, sparsity)
            more = 100 * (1 - statistics.mean(cell["test"] for cell in cells)) - float(published.split()[0])
            verdict = "as low" if more <= 0 else f"**{more:.2f} more than published**"
            lines.append([each.net, asked, common.error([cell["test"] for cell in cells]), published, verdict])
    return common.markdown(["net", "", "test error %", "published %", ""], lines)


def tables(results: Mapping[str, Mapping[str, Any]], before: str = "") -> str:
    """Return the table of every group; of one that is not here whole, what the page ``before`` has of it, if it has."""
    parts = []
    for group in dict.fromkeys(each.group for each in PROCEDURES):
        found = [each for each in PROCEDURES if each.group == group and each.name in results]
        whole = len(found) == sum(each.group == group for each in PROCEDURES)
        kept = "" if whole else common.kept_section(before, group)
        if kept or not found:
            parts.append(kept)
            continue
        lines = [row for each in found for row in rows(each, results[each.name])]
        head = ["net", "", "weights kept %", "test error %", "dense, trained as long %", "published %"]
        made = f"Measured on {common.where(results[found[0].name])}."
        parts.append(f"## {group}\n\n{made}\n\n{common.markdown(head, lines)}\n\n")
    return "".join(parts)


def main() -> None:
    """Run what is missing and write the page."""
    options = common.arguments(__doc__, tuple(sweeps()))
    options.out = options.out / "procedures"
    results = common.run_all(sweeps(), options)
    if not results:
        print("the page is written once a sweep is there")
        return
    small = NETS[SMALL]
    short, long = small.epochs, small.epochs + small.prune_epochs
    epochs = "; ".join(f"{name}: {base.epochs} epochs dense, then {base.prune_epochs}" for name, base in NETS.items())
    made = common.paragraph(f"""Made by `python benchmarks/procedures.py`. MNIST, no augmentation; {epochs};
        LeNet-5 in bfloat16; batches of 128, Adam at 0.001; three rounds where there are rounds. Those of tickets train
        as long each as the dense net at first, so that the last weights of a ticket have had {short} epochs, those of
        learning-rate rewinding {4 * short}, their dense reference {long}.
        Mean ± standard deviation over seeds {", ".join(map(str, SEEDS))}; the best epoch on validation data at the
        final sparsity is tested, once. For neurons `--sparsity` is the share of units, and biases go and are counted
        with them; LeNet-5 has no ReLU after its convolutions, so that there `activity` ranks its dense layer alone.
        `--control shuffle` beside SNIP keeps as many weights of every layer as SNIP does, drawn by lot before training.
        Nothing was tuned, and how long the published nets were trained was not looked up: these rows compare procedures
        with each other under one budget. What falls short of a published figure comes first.""")
    target = common.RESULTS / "procedures.md"
    before = common.text_of(target)
    text = f"""# Procedures of the literature

{made}

{shortfalls(results, before)}

{tables(results, before)}"""
    write_text(target, text.rstrip() + "\n")
    print(target)


if __name__ == "__main__":
    main()
