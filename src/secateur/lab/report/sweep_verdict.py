"""A sweep's verdict in words: which method wins where, what it costs, what failed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from secateur.lab.report import words
from secateur.lab.report.verdict import Verdict

__all__ = ["sweep_verdict"]


def sweep_verdict(sweep: dict[str, Any]) -> Verdict:
    """Judge a sweep; a difference within one standard deviation of either side is not called a win."""
    verdict = Verdict()
    by_sparsity: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in sweep["summary"]:
        by_sparsity[row["sparsity"]].append(row)
    for sparsity, rows in sorted(by_sparsity.items()):
        _judge(sparsity, sorted(rows, key=lambda row: -row["mean"]), verdict)
    safe = [row for row in sweep["summary"] if row["mean"] >= row["reference_mean"] - row["reference_std"]]
    if safe:
        top = max(safe, key=lambda row: row["sparsity"])
        verdict.headline = (
            f"Up to sparsity {top['sparsity']:g} ({top['method']}), accuracy stays within one standard deviation of "
            "the dense net trained as long."
        )
    else:
        verdict.headline = "At every sparsity tried, accuracy is below the dense net trained as long."
    for failed in sweep.get("failed") or ():
        verdict.first.append(f"{failed['cell']} failed: {failed['error']}")
    if any(row["runs"] < 3 for row in sweep["summary"]):
        verdict.remarks.append("Some cells have fewer than three seeds, so their spread says little.")
    verdict.not_gained.append(
        "No net of this sweep is faster or smaller than dense as it stands: zeros in a dense tensor gain nothing until "
        "the file is compressed or an engine skips them."
    )
    return verdict


def _judge(sparsity: float, rows: list[dict[str, Any]], verdict: Verdict) -> None:
    best = rows[0]
    change = best["mean"] - best["reference_mean"]
    text = (
        f"At sparsity {sparsity:g} {best['method']} is best: {words.percent(best['mean'])} of the test images right, "
        f"{words.points(change)} {'above' if change > 0 else 'below'} the dense net trained as long"
    )
    near = [row["method"] for row in rows[1:] if best["mean"] - row["mean"] <= max(best["std"], row["std"])]
    if near:
        text += f"; {words.join(near)} cannot be told apart from it at this number of seeds"
    (verdict.gained if change >= -best["reference_std"] else verdict.lost).append(text + ".")
