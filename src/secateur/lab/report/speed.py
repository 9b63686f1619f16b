"""How fast the run's engine is beside the dense net in torch (``speed`` in ``result.json``): chart, table, sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from secateur.lab.report import words
from secateur.lab.report.charts import PALETTE, Spec, altair, finish
from secateur.lab.report.reading import dig

__all__ = ["engine_gain", "judge_speed", "speed_charts", "speed_tables"]

ENGINE = "engine"


def judge_speed(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield ("gained" | "not_gained", sentence) for the engine; nothing for a run that was not to have one."""
    if not (speed := result.get("speed")):
        return
    row, first = _row(speed, ENGINE), (speed.get("rows") or [{}])[0]
    if why := dig(speed, "absent", ENGINE):
        yield "not_gained", f"The pruned net could not be compiled for the sparse engine: {why}."
    elif row is None or not row.get("ms") or not row.get("ratio"):
        why = (row or {}).get("note") or "the dense net could not be timed beside it"
        yield "not_gained", f"It is not known how fast the sparse engine is: {why}."
    else:
        yield _judged(row, first)


def engine_gain(result: dict[str, Any]) -> float | None:
    """Return how many times faster than the dense net in torch the engine is, if that is a gain.

    Example:
        >>> rows = [{"name": "engine", "ms": [1, 1, 1], "ratio": [1.9, 2.0, 2.1], "gain": True}]
        >>> engine_gain({"speed": {"rows": rows}}), engine_gain({})
        (2.0, None)
    """
    row = _row(result.get("speed") or {}, ENGINE)
    return float(row["ratio"][1]) if row and row.get("gain") and row.get("ratio") else None


def _row(speed: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((row for row in speed.get("rows") or () if row["name"] == name), None)


def _judged(row: dict[str, Any], first: dict[str, Any]) -> tuple[str, str]:
    low, times, high = row["ratio"]
    numbers = f"{words.duration(row['ms'][1])} against {words.duration(first['ms'][1])}"
    setting = f"batch of 1, 1 thread; {words.ratio(low)} to {words.ratio(high)} times over the turns"
    if row["gain"]:
        text = f"In the sparse engine inference is {words.ratio(times)} times faster than in torch"
        return "gained", f"{text}, dense: {numbers} ({setting})."
    return "not_gained", f"The sparse engine brings no gain over torch, dense: {numbers} ({setting})."


def speed_charts(result: dict[str, Any]) -> list[tuple[str, Spec, str]]:
    """Return title, specification and note of the chart of times; none if nothing was timed."""
    speed = result.get("speed") or {}
    rows = [row for row in speed.get("rows") or () if row.get("ms")]
    if not rows:
        return []
    note = "Milliseconds of a call with one input on one thread: median, and quartiles as a line."
    if not (_row(speed, ENGINE) or {}).get("gain"):
        note += " No gain from the engine."
    return [("Inference time", _bars(rows), note)]


def _bars(rows: list[dict[str, Any]]) -> Spec:
    alt = altair()
    values = [
        {"what": row["name"], "low": row["ms"][0], "ms": row["ms"][1], "high": row["ms"][2], "gain": row["gain"]}
        for row in rows
    ]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=150))
    )
    tips = ["what:N", *(alt.Tooltip(f"{key}:Q", format=".4~g") for key in ("low", "ms", "high"))]
    bars = base.mark_bar(color=PALETTE[0], cornerRadiusEnd=2).encode(
        x=alt.X("ms:Q", title="milliseconds", scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=5)), tooltip=tips
    )
    spread = base.mark_rule(strokeWidth=2, color=PALETTE[6]).encode(x="low:Q", x2="high:Q", tooltip=tips)
    return finish(alt.layer(bars, spread).properties(height=28 * max(2, len(values))))


def speed_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table of times; none for a run that was not to have an engine."""
    if not (speed := result.get("speed")):
        return []
    rows = [_cells(row, row is speed["rows"][0]) for row in speed["rows"]]
    rows += [[name, "–", "–", "–", "–"] for name in speed.get("absent") or {}]
    remarks = [f"{name}: {why}." for name, why in (speed.get("absent") or {}).items()]
    remarks += [f"{row['name']}: {row['note']}." for row in speed["rows"] if row.get("note")]
    remarks += [f"{note}." for note in speed.get("notes") or ()]
    note = (
        f"One input, one thread, {speed.get('turns')} turns; batch norms are folded into convolutions. Error: largest "
        "difference from the same net in float64, as a share of its largest output. "
    )
    engine = speed.get("engine") or {}
    if engine.get("bytes"):
        note += f"The engine was compiled from the {engine['of']} net in {words.seconds(engine['seconds'])} and takes "
        note += f"{words.size(engine['bytes'])} on disk. "
    head = ["net", "median", "quartiles", "times as fast", "error"]
    return [{"title": "Inference time", "head": head, "rows": rows, "note": (note + " ".join(remarks)).strip()}]


def _cells(row: dict[str, Any], first: bool) -> list[str]:
    error = "–" if row.get("error") is None else f"{row['error']:.1e}"
    if not row.get("ms"):
        return [row["name"], "–", "–", "–", error]
    low, median, high = map(words.duration, row["ms"])
    times = "1" if first else words.ratio(row["ratio"][1] if row.get("ratio") else None)
    gain = "" if first or row["gain"] else " (no gain)"
    return [row["name"], median, f"{low} to {high}", times + gain, error]
