"""``secateur bench``: a network in every runtime that is there, on the same inputs, in turns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from secateur.files import file_to_write, write_json, write_text
from secateur.lab.contest import Contestant, Entry, Lineup, Row, hold, line_up
from secateur.lab.data import LabError
from secateur.lab.environment import environment
from secateur.lab.runtimes import COMPILED, CSR, ENGINE, ONNXRUNTIME, OPENVINO, TORCH, Runtime, ready_engine
from secateur.lab.subjects import Subject
from secateur.lab.timing import Pace

__all__ = ["HEAD", "Course", "bench", "check_ending", "remarks", "tables", "verdicts", "write"]

LIBRARIES = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Course:
    """Under what conditions: every number of threads with every batch.

    Attributes:
        threads: to compute on.
        batches: inputs in a call.
        pace: how long to time.
        compiled: torch.compile takes part, which needs a minute or two to get ready.
    """

    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 16)
    pace: Pace = Pace()  # noqa: RUF009 - a frozen value
    compiled: bool = False

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """All that take part; the first is what the others are compared with."""
        return (TORCH, *((COMPILED,) if self.compiled else ()), ONNXRUNTIME, OPENVINO, CSR, ENGINE)


def bench(subject: Subject, course: Course) -> dict[str, Any]:
    """Time a subject; return what is written as JSON."""
    generator = torch.Generator().manual_seed(0)
    lineup = _lineup(subject, course.runtimes)
    rows: list[Row] = []
    for batch in course.batches:
        inputs = torch.randn(batch, *subject.shape, generator=generator)
        for threads in course.threads:
            rows += hold(lineup, inputs, threads, course.pace)
    return {
        "format": 1,
        "kind": "bench",
        "subject": {"name": subject.name, "shape": list(subject.shape), "note": subject.note},
        "rows": [row.to_json() for row in rows],
        "absent": dict(lineup.absent),
        "notes": [*lineup.notes, *_crowded(course)],
        "turns": course.pace.turns,
        "environment": environment() | {"threads": list(course.threads)} | _versions(),
    }


def _lineup(subject: Subject, runtimes: Sequence[Runtime]) -> Lineup:
    if subject.engine is not None:
        return Lineup((Contestant(ENGINE.name, ready_engine(subject.engine), None),), {})
    assert subject.model is not None
    entries = [Entry(runtime.name, runtime, subject.model) for runtime in runtimes]
    return line_up(entries, torch.randn(2, *subject.shape, generator=torch.Generator().manual_seed(1)))


def _crowded(course: Course) -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if max(course.threads) > cores:
        yield f"{max(course.threads)} threads had {cores} processors to share"


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def verdicts(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each batch and number of threads: what the engine gains, or that it gains nothing."""
    for setting, rows in _settings(result).items():
        engine = next((row for row in rows if row["name"] == ENGINE.name and row["ms"]), None)
        others = [row for row in rows if row is not engine and row["ms"]]
        if engine is None or not others:
            continue
        best = min(others, key=lambda row: float(row["ms"][1]))
        yield f"{_where(*setting)}: {_against(engine, rows[0])}{_beside(engine, best, rows[0])}."


def _against(engine: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    if not engine["ratio"]:
        return f"nothing is known of {first['name']} to compare the engine with"
    low, median, high = engine["ratio"]
    numbers = f"{median:.2f} times as fast as {first['name']} ({low:.2f} to {high:.2f})"
    return f"the engine is {numbers}" if engine["gain"] else f"no gain: the engine is {numbers}"


def _beside(engine: Mapping[str, Any], best: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Compare with the fastest of the others, if that is not the first; by medians of all calls."""
    if best is first or not engine["ratio"]:
        return ""
    times = best["ms"][1] / engine["ms"][1]
    word = "and" if times > 1 else "but no gain:"
    return f", {word} {times:.2f} times as fast as {best['name']}, the fastest of the others"


def _settings(result: Mapping[str, Any]) -> dict[tuple[int, int], list[Mapping[str, Any]]]:
    found: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in result["rows"]:
        found.setdefault((row["batch"], row["threads"]), []).append(row)
    return found


def _where(batch: int, threads: int) -> str:
    return f"batch {batch}, {threads} thread{'s' * (threads > 1)}"


HEAD = ("runtime", "ms", "quartiles", "times as fast", "error")


def tables(result: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield a title and the cells, row by row in the order of ``HEAD``, for each batch and number of threads."""
    for setting, rows in _settings(result).items():
        yield _where(*setting), [_cells(row, row is rows[0]) for row in rows]


def _cells(row: Mapping[str, Any], first: bool) -> list[str]:
    error = "-" if row["error"] is None else f"{row['error']:.1e}"
    if not row["ms"]:
        return [row["name"], row["note"], "", "", error]
    low, median, high = row["ms"]
    times = "-" if first or not row["ratio"] else f"{row['ratio'][1]:.2f}{'' if row['gain'] else ' (no gain)'}"
    return [row["name"], f"{median:.3g}", f"{low:.3g} to {high:.3g}", times, error]


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Return everything that is said beside the table."""
    absent = [f"{name} is not in the table: {why}" for name, why in result["absent"].items()]
    timed = {f"{row['name']}: {row['note']}": None for row in result["rows"] if row["ms"] and row["note"]}
    return [*verdicts(result), *timed, *absent, *result["notes"]]


def write(result: Mapping[str, Any], path: Path) -> None:
    """Write a result as .json, all of it, or as .md, a page to read.

    Raises:
        LabError: the file's ending is another.
        OSError: it cannot be written.
    """
    check_ending(path)
    if path.suffix == ".json":
        write_json(path, result)
    else:
        write_text(path, _markdown(result))


def check_ending(path: Path) -> None:
    """Refuse a file that cannot be written in the end.

    Raises:
        LabError: it ends neither in .json nor in .md.
        OSError: it is no file, or there is no folder for it.
    """
    if path.suffix not in (".json", ".md"):
        raise LabError(f"results are written as .json or .md, not {path.suffix or path.name!r}")
    file_to_write(path)


def _markdown(result: Mapping[str, Any]) -> str:
    machine = result["environment"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("secateur", *LIBRARIES, "python") if name in machine)
    shape = " x ".join(map(str, result["subject"]["shape"]))
    parts = [
        f"# {result['subject']['name']}, inputs of {shape}",
        *filter(None, [result["subject"]["note"]]),
        f"Times of a call, of {result['turns']} turns; times as fast as the first is the median over the turns. "
        f"{machine['date']}, {machine['processor']}; {versions}.",
    ]
    for title, rows in tables(result):
        lines = [HEAD, ["---"] * len(HEAD), *rows]
        parts += [f"## {title.capitalize()}", "\n".join(f"| {' | '.join(cells)} |" for cells in lines)]
    parts += ["## Remarks", "\n".join(f"- {remark}" for remark in remarks(result))]
    return "\n\n".join(parts) + "\n"
