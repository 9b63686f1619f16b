"""What the benchmarks share: running sweeps, tables of errors, the line that says where figures were measured."""

from __future__ import annotations

import argparse
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.files import read_json
from secateur.lab.runs import Options
from secateur.lab.settings import Settings
from secateur.lab.sweeps import Grid, sweep

RESULTS = Path(__file__).parent / "results"
Sweeps = Mapping[str, tuple[Settings, Grid]]


def arguments(description: str | None, choices: Sequence[str] = ()) -> argparse.Namespace:
    """Return the flags that every benchmark takes; ``--only`` picks some of its sweeps."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sweeps"), help="folder for the runs; may be shared")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", nargs="*", choices=choices or None, help="run no more than these sweeps")
    return parser.parse_args()


def run_all(sweeps: Sweeps, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run what is missing of the sweeps wanted; return their results and those of others that are finished."""
    found = {}
    for name, (base, grid) in sweeps.items():
        folder = options.out / name.replace(":", "-")
        if not options.only or name in options.only:
            found[name] = sweep(
                base, grid, folder, Options(options.data_dir, dense=_dense(options, name)), options.jobs
            )
        elif (folder / "sweep.json").exists():
            finished: Any = read_json(folder / "sweep.json")
            if Settings(**finished["settings"]) == base:
                found[name] = finished
    return found


def _dense(options: argparse.Namespace, name: str) -> Path:
    """Return where the dense nets of a sweep are: what follows a colon in its name only varies the pruning."""
    folder: Path = options.out / name.partition(":")[0] / "dense"
    return folder


def error(values: Sequence[float]) -> str:
    """Return mean and standard deviation of errors in percent, from accuracies."""
    percent = [100 * (1 - value) for value in values]
    spread = statistics.stdev(percent) if len(percent) > 1 else 0.0
    return f"{statistics.mean(percent):.2f} ± {spread:.2f}"


def accuracy(values: Sequence[float]) -> str:
    """Return mean and standard deviation of accuracies in percent."""
    percent = [100 * value for value in values]
    spread = statistics.stdev(percent) if len(percent) > 1 else 0.0
    return f"{statistics.mean(percent):.2f} ± {spread:.2f}"


def cells(result: Mapping[str, Any], method: str, sparsity: float) -> list[dict[str, Any]]:
    """Return the cells of one method at one sparsity, one for each seed."""
    return [cell for cell in result["cells"] if cell["method"] == method and cell["sparsity"] == sparsity]


def where(result: Mapping[str, Any]) -> str:
    """Return machine and versions of a sweep."""
    machine = result["environment"]
    threads = result["settings"]["threads"]
    return (
        f"{machine['date']}, {machine['processor']}, {threads} thread{'s' if threads > 1 else ''} a run; secateur "
        f"{machine['secateur']}, torch {machine['torch']}, Python {machine['python']}"
    )


def paragraph(text: str) -> str:
    """Return text wrapped as the project's Markdown is."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
