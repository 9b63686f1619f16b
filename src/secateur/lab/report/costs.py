"""What pruning did to the bytes, the work, the time and the memory of a run, judged one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from secateur.lab.report import words
from secateur.lab.report.reading import dig

__all__ = ["judge_costs", "judge_packed", "judge_shrunk", "latency_judgement"]

# Sizes closer than this, as a ratio, are called the same.
SAME_SIZE = 0.01

# "gained", "lost" or "not_gained", and the sentence that says it.
Finding = tuple[str, str]


def judge_costs(result: dict[str, Any]) -> Iterator[Finding]:
    """Yield ("gained" | "lost" | "not_gained", sentence) for file sizes, work, inference time and memory."""
    yield from _sizes(result)
    yield from _work(result)
    yield from _latency(result)
    yield from judge_shrunk(result)
    yield from _memory(result)


def _sizes(result: dict[str, Any]) -> Iterator[Finding]:
    """Say what became of the file, gzipped and as it is."""
    packed = dig(result, "measure", "pruned", "bytes", "packed")
    if packed and (dense := dig(result, "measure", "dense", "bytes", "dense")):
        yield judge_packed(dense, packed)
    for key, file in (("gzipped", "gzipped file"), ("dense", "uncompressed file")):
        before, after = (dig(result, "measure", name, "bytes", key) for name in ("dense", "pruned"))
        if not before or not after:
            yield "not_gained", f"The size of the {file} was not measured."
            continue
        numbers = f"{words.size(before)} → {words.size(after)}"
        if abs(before - after) <= SAME_SIZE * before:
            yield "not_gained", f"The {file} is not smaller: {numbers}."
        elif after < before:
            yield "gained", f"The {file} is {words.ratio(before / after)} times smaller: {numbers}."
        else:
            yield "lost", f"The {file} is {words.ratio(after / before)} times larger: {numbers}."


def judge_packed(dense: int, packed: int) -> Finding:
    """Say what packing makes of the file."""
    numbers = f"{words.size(dense)} → {words.size(packed)}"
    if packed < dense * (1 - SAME_SIZE):
        return "gained", f"Packed without loss, the file is {words.ratio(dense / packed)} times smaller: {numbers}."
    return "not_gained", f"Packing does not make the file smaller: {numbers}."


def _shrunk(result: dict[str, Any]) -> bool:
    """Say if units were removed physically, so that fewer parameters are stored than before."""
    before, after = (dig(result, "measure", name, "parameters", "weights") for name in ("dense", "pruned"))
    return bool(before and after and after < before)


def _work(result: dict[str, Any]) -> Iterator[Finding]:
    """Say how many multiplications are left, and for whom."""
    before, after = (dig(result, "measure", name, "macs", "dense") for name in ("dense", "pruned"))
    effective = dig(result, "measure", "pruned", "macs", "effective")
    if not before or after is None:
        yield "not_gained", "Multiply-accumulates were not counted."
        return
    if after < before:
        fewer = f"{words.ratio(before / after)} times fewer: " if after else ""
        yield (
            "gained",
            (f"Multiply-accumulates of a forward pass: {fewer}{words.count(before)} → {words.count(after)}."),
        )
        return
    text = f"The work in torch is the same: {words.count(after)} multiply-accumulates a forward pass"
    if effective is not None and effective < after:
        text += f"; only an engine that skips zeros gets by with {words.count(effective)}"
    yield "not_gained", text + "."


def _latency(result: dict[str, Any]) -> Iterator[Finding]:
    """Say if inference became faster; overlapping spreads are no change."""
    before, after = (dig(result, "measure", name, "latency") for name in ("dense", "pruned"))
    judged = latency_judgement(before, after)
    if judged == "unknown":
        yield "not_gained", "Inference time was not measured for both nets, so nothing is said of speed."
        return
    old, new = before["median_ms"], after["median_ms"]
    numbers = f"{words.milliseconds(new)} against {words.milliseconds(old)} dense"
    spreads = f"spreads {_spread(after)} and {_spread(before)}"
    setting = f"batch of {after.get('batch', '?')}, {words.plural(after.get('threads') or 1, 'thread')}"
    why = "" if _shrunk(result) else "; zeros in a dense tensor do not make torch faster"
    if judged == "different":
        yield (
            "not_gained",
            f"The two inference times were not taken alike and cannot be compared ({numbers}).",
        )
    elif judged == "same":
        yield (
            "not_gained",
            (f"Inference is not faster, there is no measurable change: {numbers}, {spreads} overlap ({setting}){why}."),
        )
    elif judged == "faster":
        yield (
            "gained",
            f"Inference is {words.ratio(old / new)} times faster: {numbers} ({setting}; {spreads}).",
        )
    else:
        yield (
            "lost",
            (f"Inference is {words.ratio(new / old)} times slower: {numbers} ({setting}; {spreads}){why}."),
        )


def latency_judgement(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """Compare two latencies: "unknown", "different" (in batch or threads), "same", "faster" or "slower".

    Example:
        >>> slow = {"median_ms": 2.0, "low_ms": 1.9, "high_ms": 2.2}
        >>> latency_judgement(slow, {"median_ms": 1.0, "low_ms": 0.9, "high_ms": 1.1})
        'faster'
    """
    keys = ("median_ms", "low_ms", "high_ms")
    if not before or not after or any(not side.get(key) for side in (before, after) for key in keys):
        return "unknown"
    if any(before.get(key) != after.get(key) for key in ("batch", "threads")):
        return "different"
    if after["high_ms"] < before["low_ms"]:
        return "faster"
    return "slower" if after["low_ms"] > before["high_ms"] else "same"


def judge_shrunk(result: dict[str, Any], runtime: str = "torch") -> Iterator[Finding]:
    """Say what deleting dead units was worth: parameters, work and time of the dense network that is left."""
    small = dig(result, "measure", "shrunk")
    if not small:
        return
    whole = dig(result, "measure", "dense")
    before, after = (dig(net, "parameters", "weights") for net in (whole, small))
    text = (
        f"With its dead units deleted the network is a smaller dense one with the same outputs: {words.count(before)}"
    )
    text += f" → {words.count(after)} parameters"
    if (work := dig(whole, "macs", "dense")) and (left := dig(small, "macs", "dense")) is not None:
        text += f", {words.count(work)} → {words.count(left)} multiply-accumulates"
    if (one := dig(whole, "bytes", "dense")) and (other := dig(small, "bytes", "dense")):
        text += f", {words.size(one)} → {words.size(other)} uncompressed"
    yield "gained", f"{text}."
    judged = latency_judgement(whole.get("latency"), small.get("latency"))
    if judged not in ("faster", "slower", "same"):
        return
    old, new = whole["latency"]["median_ms"], small["latency"]["median_ms"]
    numbers = f"{words.milliseconds(new)} against {words.milliseconds(old)}"
    if judged == "faster":
        yield "gained", f"Shrunk, it runs {words.ratio(old / new)} times faster in plain {runtime}: {numbers}."
    else:
        yield "not_gained", f"Shrunk, it runs no faster in plain {runtime}: {numbers}; spreads overlap or it is slower."


def _spread(latency: dict[str, Any]) -> str:
    places = words.decimals(latency["median_ms"])
    return f"{latency['low_ms']:.{places}f} to {latency['high_ms']:.{places}f} ms"


def _memory(result: dict[str, Any]) -> Iterator[Finding]:
    """Say what became of the peak memory, if it was measured."""
    before, after = (dig(result, "measure", name, "peak_memory_bytes") for name in ("dense", "pruned"))
    if not before or not after:
        return
    numbers = f"{words.size(before)} → {words.size(after)}"
    if after < before * (1 - SAME_SIZE):
        yield "gained", f"Peak memory at inference is {words.ratio(before / after)} times smaller: {numbers}."
    elif after > before * (1 + SAME_SIZE):
        yield "lost", f"Peak memory at inference is {words.ratio(after / before)} times larger: {numbers}."
    else:
        yield "not_gained", f"Peak memory at inference is not smaller: {numbers}."
