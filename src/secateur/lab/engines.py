"""The end of a run: the pruned network compiled for the sparse engine, and timed beside the dense one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import secateur as sc
from secateur.lab.contest import Entry, hold, line_up
from secateur.lab.runtimes import TORCH, Runtime, ready_engine, reason
from secateur.lab.timing import Pace

__all__ = ["compile_and_time"]

PACE = Pace(turns=15, seconds=0.02)


def compile_and_time(nets: Mapping[str, nn.Module], images: Tensor, path: Path) -> dict[str, Any]:
    """Leave an engine file and return how fast it is; where there can be none, return why.

    Nothing here ends a run: what was trained is worth more than its last measurement.

    Args:
        nets: "dense", "pruned" and, if units were dead, "shrunk", which the engine is then made of.
        images: (B, C, H, W); the first alone is timed, on one thread.
        path: of the engine file.

    Raises:
        OSError: it cannot be written.
    """
    source = "shrunk" if "shrunk" in nets else "pruned"
    start = time.perf_counter()
    absent: dict[str, str] = {}
    entries = [Entry("dense, torch", TORCH, nets["dense"])]
    if source == "shrunk":
        entries.append(Entry("shrunk, torch", TORCH, nets["shrunk"]))
    facts: dict[str, Any] = {"of": source}
    try:
        engine = sc.compile(nets[source], images)
    except Exception as error:  # the tracer of torch fails at unusual networks in many ways
        absent["engine"] = reason(error)
    else:
        facts["seconds"] = round(time.perf_counter() - start, 2)
        engine.save(path)
        facts["bytes"] = path.stat().st_size
        entries.append(Entry("engine", Runtime("engine", lambda *_: ready_engine(engine)), nets[source]))
    lineup = line_up(entries, images)
    rows = hold(lineup, images[:1], 1, PACE)
    return {
        "rows": [row.to_json() for row in rows],
        "absent": absent | dict(lineup.absent),
        "notes": lineup.notes,
        "turns": PACE.turns,
        "engine": facts,
    }
