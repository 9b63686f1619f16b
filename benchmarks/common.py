"""What the benchmarks share: running sweeps, tables of errors, the line that says where figures were measured."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
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
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda or mps")
    parser.add_argument("--only", nargs="*", choices=choices or None, help="run no more than these sweeps")
    return parser.parse_args()


def run_all(sweeps: Sweeps, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run what is missing of the sweeps wanted; return their results and those of others that are finished.

    Raises:
        SystemExit: a cell failed; a page without it would compare what was not run alike.
    """
    found = {}
    for name, (settings, grid) in sweeps.items():
        base = dataclasses.replace(settings, device=options.device)
        folder = options.out / name.replace(":", "-")
        if not options.only or name in options.only:
            jobs = max(1, options.jobs // base.threads)
            dense = Options(options.data_dir, dense=_dense(options, name))
            found[name] = sweep(base, grid, folder, dense, jobs)
            if failed := found[name]["failed"]:
                raise SystemExit(f"{name}: {len(failed)} cells failed, so no page is written: {failed[0]['error']}")
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
    return _mean([100 * (1 - value) for value in values])


def accuracy(values: Sequence[float]) -> str:
    """Return mean and standard deviation of accuracies in percent."""
    return _mean([100 * value for value in values])


def _mean(percent: Sequence[float]) -> str:
    """Return mean and standard deviation; of one value just that."""
    mean = f"{statistics.mean(percent):.2f}"
    return f"{mean} ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else mean


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return median, least and largest as text."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def cells(result: Mapping[str, Any], method: str, sparsity: float) -> list[dict[str, Any]]:
    """Return the cells of one method at one sparsity, one for each seed."""
    return [cell for cell in result["cells"] if cell["method"] == method and cell["sparsity"] == sparsity]


def plot(
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    title: str,
    path: Path,
    depth: float,
    ratios: bool = False,
) -> None:
    """Draw test accuracy over sparsity as an SVG: a line for each label, with the spread over seeds.

    Args:
        lines: by label, pairs of a sparsity and the accuracies in percent of its seeds.
        title: above the plot.
        path: of the file.
        depth: points below the best mean at which the plot ends.
        ratios: the axis is the compression ratio, each doubling as long, which shows what happens near sparsity 1.
    """
    alt: Any = importlib.import_module("altair")
    rows: list[dict[str, Any]] = []
    for label, points in lines.items():
        for sparsity, values in points:
            mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
            place = 1 / (1 - sparsity) if ratios else sparsity
            rows.append({"line": label, "x": place, "mean": mean, "low": mean - spread, "high": mean + spread})
    floor = max(min(row["mean"] for row in rows), max(row["mean"] for row in rows) - depth)
    top = max(row["high"] for row in rows)
    scale = alt.Scale(domain=[floor - 0.04 * (top - floor), top], nice=False)
    x = alt.X("x:Q", title="sparsity")
    if ratios:
        left, right = (pick(row["x"] for row in rows) for pick in (min, max))
        axis = alt.Axis(values=[1, 2, 5, 10, 20, 50, 100, 200, 500], format="~g")
        wide = alt.Scale(type="log", domain=[left / 1.05, right * 1.05], nice=False)
        x = alt.X("x:Q", title="compression ratio (weights over weights kept)", scale=wide, axis=axis)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=alt.Color("line:N", title=None, sort=list(lines)))
    line = base.mark_line(point=True, clip=True).encode(y=alt.Y("mean:Q", title="test accuracy, %", scale=scale))
    bars = base.mark_rule(clip=True).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    path.parent.mkdir(parents=True, exist_ok=True)
    (line + bars).properties(width=420, height=260, background="white", title=title).save(str(path))


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


def text_of(page: Path) -> str:
    """Return a page as it stands; empty if there is none yet."""
    return page.read_text(encoding="utf-8") if page.exists() else ""


def kept_section(text: str, title: str) -> str:
    """Return a section of a page as it stands, or "": what is not run here keeps what was measured before."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group().rstrip() + "\n\n" if found else ""


def kept_rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of the tables before a page's first section whose first column is ``first``."""
    lines = text.partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0] == first]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
