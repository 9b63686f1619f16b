"""Tables for the terminal: the end of a run, the end of a sweep, what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import secateur as sc
from secateur.files import read_tensors
from secateur.lab import racing, runs
from secateur.lab.data import LabError
from secateur.lab.report.speed import judge_speed
from secateur.lab.report.verdict import control_sentence
from secateur.lab.summary import SCORE
from secateur.vocabulary import CorruptFileError, MissingExtraError

__all__ = ["bench_result", "inspect", "run_summary", "sweep_summary"]


def _table(title: str, columns: Sequence[str], rows: list[list[str]]) -> None:
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError as error:
        raise MissingExtraError("tables need rich: pip install 'secateur[lab]'") from error
    table = Table(title=escape(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))  # names may hold brackets, which are markup to rich
    Console().print(table)


_FIGURES = {
    "target weights kept": ("targets", "kept"),
    "sparsity of targets": ("targets", "sparsity"),
    "sparsity of all parameters": ("parameters", "sparsity"),
    "parameters": ("parameters", "weights"),
    "multiply-adds": ("macs", "dense"),
    "multiply-adds with a kept weight": ("macs", "effective"),
    "bytes": ("bytes", "dense"),
    "bytes, gzipped": ("bytes", "gzipped"),
    "bytes as torch CSR": ("bytes", "csr"),
    "bytes, packed": ("bytes", "packed"),
    "latency, ms (median)": ("latency", "median_ms"),
}


def _figure(report: dict[str, Any], group: str, key: str) -> str:
    value = (report[group] or {}).get(key)
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def run_summary(result: dict[str, Any]) -> None:
    """Print what a run came to: accuracy, weights, bytes and latency, dense beside pruned and shrunk."""
    accuracy = result["accuracy"]
    nets = {name: result["measure"][name] for name in ("dense", "pruned", "shrunk") if name in result["measure"]}
    same = ["as pruned"] * (len(nets) - 2)  # its outputs are those of the pruned net
    rows = [["test accuracy", f"{accuracy['dense']['test']:.4f}", f"{accuracy['pruned']['test']:.4f}", *same]]
    if longer := accuracy.get("dense_longer"):
        rows.append(["test accuracy, trained further", f"{longer['test']:.4f}", rows[0][2], *same])
    rows += [[label, *(_figure(net, *keys) for net in nets.values())] for label, keys in _FIGURES.items()]
    if quantized := accuracy.get("quantized"):
        bits = f"packed with codebooks of {quantized['bits']} bits"
        rows.append([f"bytes, {bits}", "-", f"{quantized['bytes']:,}", *["-"] * len(same)])
        rows.append([f"test accuracy, {bits}", "-", f"{quantized['test']:.4f}", *["-"] * len(same)])
    _table(result["name"], ["", *nets], rows)
    for sentence in [*filter(None, [control_sentence(result["settings"])]), *(text for _, text in judge_speed(result))]:
        print(sentence)  # noqa: T201
    for warning in result["warnings"]:
        print(f"warning: {warning}")  # noqa: T201


def bench_result(result: dict[str, Any]) -> None:
    """Print how fast each runtime was, what the engine gained, and who did not take part."""
    subject = result["subject"]
    name = f"{subject['name']}, inputs of {'x'.join(map(str, subject['shape']))}"
    for title, rows in racing.tables(result):
        _table(f"{name}, {title}", racing.HEAD, rows)
    for line in [*filter(None, [subject["note"]]), *racing.remarks(result)]:
        print(line)  # noqa: T201


def sweep_summary(result: dict[str, Any]) -> None:
    """Print mean and spread for every method and sparsity; frontier rows are starred."""
    for warning in result.get("warnings") or ():
        print(f"warning: {warning}")  # noqa: T201
    if not result["cells"]:
        return
    if control := control_sentence(result["settings"]):
        print(control)  # noqa: T201
    best = {(row["method"], row["sparsity"]) for row in result["frontier"]}
    rows = [
        [
            row["method"] + (" *" if (row["method"], row["sparsity"]) in best else ""),
            f"{row['achieved']:.4f}",
            f"{row['mean']:.4f}",
            f"{row['std']:.4f}",
            f"{row['reference_mean']:.4f}",
            str(row["runs"]),
        ]
        for row in result["summary"]
    ]
    for place, row in enumerate(result.get("scores") or (), start=1):
        spread = f" ± {row['std']:.4f}" if row["runs"] > 1 else ""
        print(f"{place:>2}. score {row['mean']:.4f}{spread}  {row['method']}")  # noqa: T201
    if result.get("scores"):
        print(f"(the score is {SCORE})")  # noqa: T201
    _table("test accuracy (* on the Pareto frontier)", ["method", "sparsity", "mean", "sd", "dense", "seeds"], rows)


def inspect(path: Path) -> None:
    """Print sparsity by tensor of a safetensors, mask or packed file or a run folder.

    Raises:
        LabError: there is nothing to inspect at ``path``.
        CorruptFileError: the file is damaged.
    """
    if path.is_dir():
        if not (path / "result.json").exists():
            raise LabError(f"{path} holds no finished run (no result.json in it)")
        try:
            report = sc.Report.from_json(runs.read_result(path)["measure"]["pruned"])
        except CorruptFileError as error:
            raise CorruptFileError(f"{path / 'result.json'}: {error}") from error
        print(report)  # noqa: T201
        return
    if not path.exists():
        raise LabError(f"there is no file or folder {path}")
    tensors, metadata = read_tensors(path)
    if "sct" in metadata:
        print(sc.read_index(path))  # noqa: T201
        return
    if metadata.get("format") == "secateur-masks":
        masks = sc.Masks.load(path)
        counts = {name: (masks.count(name).kept, mask) for name, mask in masks.items()}
    else:
        counts = {name: (int((tensor != 0).sum()), tensor) for name, tensor in tensors.items()}
    rows = [_row(name, kept, tensor) for name, (kept, tensor) in counts.items()]
    kept, total = sum(kept for kept, _ in counts.values()), sum(t.numel() for _, t in counts.values())
    rows.append(["all", "", f"{kept:,}", f"{total:,}", f"{1 - kept / total if total else 0:.4f}"])
    _table(f"{path.name}, {path.stat().st_size:,} bytes", ["tensor", "shape", "kept", "weights", "sparsity"], rows)


def _row(name: str, kept: int, tensor: Tensor) -> list[str]:
    total = tensor.numel()
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return [name, shape, f"{kept:,}", f"{total:,}", f"{1 - kept / total if total else 0:.4f}"]
