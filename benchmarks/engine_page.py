"""The page of ``engine.py``: goals first, then every row, from the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
from engine_goals import CASES, CSR, DEEPSPARSE, ERROR, EVEN, ONNX, PEAK, TORCH, TWO_THREADS, Task, tasks

from secateur.lab.timing import times_faster

RIVALS = (TORCH, ONNX, DEEPSPARSE, CSR)
Found = Mapping[str, Any]


def page(folder: Path) -> str:
    """Return the page of the rows in a folder."""
    rows = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    there = [task for task in tasks(CASES) if task.key in rows]
    missing = sum(task.key not in rows for task in [*tasks(CASES), *tasks(EVEN)])
    missing += sum(name not in rows for name in ("threads", "files", "memory"))
    goals = [*_goals(there, rows), *_peaks(there, rows), *_other_goals(rows)]
    parts = ["# The sparse engine against everything else", common.paragraph(_how(rows))]
    if missing:
        parts.append(f"**{missing} rows have not been measured.**")
    if any(row["quick"] for row in rows.values()):
        parts.append("**A quick trial of whether every row works: these numbers mean nothing.**")
    parts += ["## Goals", common.paragraph(_READINGS), common.markdown(["what", "goal", "measured", "reached"], goals)]
    head = ["network", "pruned", "sparsity", "batch", "engine", *(f"over {each}" for each in RIVALS), "error"]
    parts += ["## All rows", common.paragraph(_ROWS), common.markdown(head, [_cells(task, rows) for task in there])]
    parts += ["## Where it begins to pay", common.paragraph(_EVEN), *_even(rows)]
    parts += list(_whole(rows))
    return "\n\n".join(parts) + "\n"


_READINGS = """Small nets and stacks are measured twice: with their first layer dense, and with all layers pruned.
    LeNet-300-100 with a dense first layer keeps 235,200 of its 266,200 weights there, 0.94 MB that have to pass by in
    every call, which takes most of its time."""
_ROWS = """Milliseconds or microseconds of a call, median and quartiles; how many times faster the engine is than each
    rival, median and quartiles over the turns, and the rival's own median. "One ranking" is the same net with as many
    zeros, but pruned globally, so that some layers keep more than others. A dash: not measured. Error: largest
    difference from torch in float64 as a share of the largest output, of the engine."""
_THREADS = """With as many samples as threads or more, each thread computes whole samples. With one, every layer is
    divided by output channels, and all of it has to go to the other core before the next begins."""
_EVEN = """How many times faster the engine is than torch eager and than ONNX Runtime with fewer zeros, pruned layer by
    layer; bold is a gain in three turns of four at least."""


def _how(rows: Mapping[str, Found]) -> str:
    machines = {json.dumps(row["environment"], sort_keys=True): row["environment"] for row in rows.values()}
    told = "; ".join(sorted({_machine(each) for each in machines.values()}))
    return f"""Written by `python benchmarks/engine.py --deepsparse PYTHON`. One thread unless said, every runtime in
        turns on the same inputs, each turn beginning with another; seed 0. Networks are untrained, with random
        statistics of their norms, pruned by magnitude layer by layer, all layers but the first unless said; batch norms
        are folded into convolutions for torch too. Stacks are six equal convolutions with ReLU: `3x3-128-28` has 128
        channels on 28 x 28. ResNet-18 takes 32 x 32 images, ResNet-50 and MobileNetV1 224 x 224; of the latter only
        the pointwise layers are pruned. Measured with: {told}."""


def _machine(found: Found) -> str:
    libraries = ("secateur", "torch", "onnxruntime", "deepsparse", "python")
    versions = ", ".join(f"{name} {found[name]}" for name in libraries if name in found)
    return f"{found['date']}, {found['processor']}, {versions}"


def _row(found: Found, name: str) -> Found | None:
    return next((row for row in found["rows"] if row["name"] == name and row["ms"]), None)


def faster(found: Found, rival: str) -> Sequence[float] | None:
    """Return how many times faster than a rival the engine was; None where one of them did not run."""
    ours, theirs = _row(found, "engine"), _row(found, rival)
    return times_faster(ours["turns"], theirs["turns"]) if ours and theirs else None


def line(found: Found) -> str:
    """Return what a row came to, for whoever waits."""
    if "rows" not in found:
        return json.dumps(found)
    parts = [
        f"{row['name']} {row['ms'][1]:.4g} ms" if row["ms"] else f"{row['name']}: {row['note']}"
        for row in found["rows"]
    ]
    return ", ".join([*parts, *(f"{name}: {why}" for name, why in found["absent"].items())])


def _spread(values: Sequence[float]) -> str:
    low, median, high = values
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _time(ms: Sequence[float]) -> str:
    unit, factor = ("µs", 1000) if ms[1] < 0.1 else ("ms", 1)
    low, median, high = (f"{factor * each:.3g}" for each in ms)
    return f"{median} {unit} ({low} to {high})"


def _name(task: Task) -> str:
    layers = "" if task.case.layers == "but the first" else f", {task.case.layers} layers pruned"
    return f"{task.case.net}, batch {task.case.batch}, sparsity {task.sparsity:g}{layers}"


def _reached(yes: bool) -> str:
    return "yes" if yes else "**no**"


def _goals(there: Sequence[Task], rows: Mapping[str, Found]) -> Iterator[list[str]]:
    for task in there:
        found = rows[task.key]
        for rival, bar in task.bars.items():
            what, goal = f"{_name(task)}: times faster than {rival}", f"{bar:g}"
            ratio = faster(found, rival)
            if ratio is None:
                yield [what, goal, "not measured", ""]
            else:
                yield [what, goal, _spread(ratio), _reached(ratio[1] >= bar)]
        ours = _row(found, "engine")
        if task.case.microseconds and task.scope == "layerwise" and ours:
            reached = _reached(1000 * ours["ms"][1] <= task.case.microseconds)
            yield [f"{_name(task)}: microseconds", f"{task.case.microseconds:g}", _time(ours["ms"]), reached]


def _peaks(there: Sequence[Task], rows: Mapping[str, Found]) -> Iterator[list[str]]:
    for task in there:
        if task.sparsity == 0.9 and task.scope == "layerwise" and task.case.net.startswith(("3x3", "resnet-18")):
            useful, peak = (rows[task.key]["profile"][key] for key in ("gflops", "peak"))
            measured = f"{useful / peak:.0%} ({useful:.1f} of {peak:.1f} GFLOP/s)"
            yield [
                f"{_name(task)}: 3x3 kernels, share of the peak",
                f"{PEAK:.0%}",
                measured,
                _reached(useful >= PEAK * peak),
            ]


def _other_goals(rows: Mapping[str, Found]) -> Iterator[list[str]]:
    if found := rows.get("threads"):
        for batch, each in found["batches"].items():
            measured = f"{_spread(each['ratio'])} on {found['cores']} cores"
            what = f"resnet-18, batch {batch}, sparsity 0.95: two threads, times faster than one"
            yield [what, f"{TWO_THREADS:g}", measured, _reached(each["ratio"][1] >= TWO_THREADS)]
    errors = [
        (row["error"], key) for key, found in rows.items() for row in found.get("rows", ()) if row["name"] == "engine"
    ]
    if known := [(error, key) for error, key in errors if error is not None]:
        worst, key = max(known)
        what = f"largest difference from float64 torch, of {len(known)} rows"
        yield [what, f"{ERROR:.0e}", f"{worst:.1e} ({key})", _reached(worst <= ERROR and len(known) == len(errors))]


def _cells(task: Task, rows: Mapping[str, Found]) -> list[str]:
    found = rows[task.key]
    pruned = {"but the first": "all but the first", "all": "all", "pointwise": "pointwise"}[task.case.layers]
    pruned += ", one ranking" if task.scope == "global" else ""
    ours = _row(found, "engine")
    head = [task.case.net, pruned, f"{task.sparsity:g}", str(task.case.batch), _time(ours["ms"]) if ours else "–"]
    return [*head, *(_beside(found, rival) for rival in RIVALS), f"{ours['error']:.1e}" if ours else "–"]


def _beside(found: Found, rival: str) -> str:
    ratio, theirs = faster(found, rival), _row(found, rival)
    if ratio is None or theirs is None:
        return "–"
    return f"{_spread(ratio)}; {_time(theirs['ms']).split(' (')[0]}"


def _even(rows: Mapping[str, Found]) -> Iterator[str]:
    levels = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
    every = [*tasks(EVEN), *tasks(CASES)]
    lines = []
    for case in EVEN:
        same = {
            task.sparsity: rows[task.key]
            for task in every
            if task.key in rows
            and task.scope == "layerwise"
            and (task.case.net, task.case.layers, task.case.batch) == (case.net, case.layers, case.batch)
        }
        for rival in (TORCH, ONNX):
            cells = [_gain(same[level], rival) if level in same else "" for level in levels]
            lines.append([case.net, rival, *cells])
    yield common.markdown(["network", "against", *(f"{level:g}" for level in levels)], lines)


def _gain(found: Found, rival: str) -> str:
    ratio = faster(found, rival)
    if ratio is None:
        return "–"
    return f"**{ratio[1]:.2f}**" if ratio[0] > 1 else f"{ratio[1]:.2f}"


def _whole(rows: Mapping[str, Found]) -> Iterator[str]:
    if found := rows.get("threads"):
        yield "## Two threads"
        for batch, each in found["batches"].items():
            one, two = map(_time, each["ms"])
            yield f"ResNet-18 at 0.95, batch {batch}: {one} on one thread, {two} on two."
        yield common.paragraph(_THREADS)
    if found := rows.get("files"):
        yield "## Files"
        yield common.paragraph("""ResNet-18 at 0.95. From the file to the first output: reading, getting ready, one
            call; the file is in the cache of the system, and all libraries are imported.""")
        sizes, times = found["bytes"], [_time(ms) for ms in found["ms"]]
        lines = [
            ["engine (.sct)", f"{sizes['engine']:,}", times[0]],
            ["ONNX, zeros stored", f"{sizes['onnx']:,}", times[1]],
        ]
        lines.append(["ONNX, gzipped", f"{sizes['onnx gzipped']:,}", ""])
        yield common.markdown(["file", "bytes", "to the first output"], lines)
    if found := rows.get("memory"):
        yield "## Memory"
        yield common.paragraph("""ResNet-18 at 0.95: the most memory resident in a process that imports what it needs,
            loads the network and runs it once; median of five processes.""")
        names = {"engine": "engine, without torch", "onnx": "ONNX Runtime", "torch": "torch"}
        lines = [[names[what], f"{found[what]['bytes'] / 1e6:.0f} MB"] for what in names]
        yield common.markdown(["process", "peak"], lines)
        if found["engine"]["torch"]:
            yield "The process of the engine imported torch."
