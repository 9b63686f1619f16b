"""What stands on the page of one measured model that no run made: a Keras file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from secateur.lab.report import charts, tables, words
from secateur.lab.report.costs import judge_packed, judge_shrunk
from secateur.lab.report.reading import dig
from secateur.lab.report.verdict import Verdict

__all__ = ["content"]


def content(facts: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the parts of a model's page by the names the template knows them by.

    Args:
        facts: of :func:`secateur.lab.keras_models.examine`.
        path: of the model, for the command that makes the page again.
    """
    whole, small = facts["measure"]["pruned"], facts["measure"].get("shrunk")
    learned = facts["facts"]
    tiles = [
        (words.fraction(dig(whole, "targets", "sparsity")), "sparsity of the targets"),
        (words.size(dig(whole, "bytes", "packed")), "packed file"),
        (words.count(dig(small or whole, "parameters", "weights")), "parameters" + (", shrunk" if small else "")),
        (words.milliseconds(dig(small or whole, "latency", "median_ms")), "latency" + (", shrunk" if small else "")),
    ]
    backend = facts["environment"]["backend"]
    return {
        "title": facts["name"],
        "summary": f"A Keras model, measured as it is on the {backend} backend; what it was before it was pruned, and "
        "how accurate it is, are not known here.",
        "verdict": _verdict(facts),
        "tiles": tiles,
        "charts": list(_charts(whole, small)),
        "tables": [
            _size_table(facts),
            tables.totals_table(facts["measure"]),
            *filter(None, [tables.unit_table(learned)]),
            tables.layer_table(whole),
        ],
        "facts": tables.setting_tables({"environment": facts["environment"]}),
        "command": shlex.join(["secateur", "report", path]),
    }


def _verdict(facts: dict[str, Any]) -> Verdict:
    whole, small = facts["measure"]["pruned"], facts["measure"].get("shrunk")
    verdict = Verdict()
    weights, kept = (dig(whole, "targets", key) or 0 for key in ("weights", "kept"))
    gone = f"{words.count(weights - kept)} of {words.count(weights)} target weights are zero"
    if kept == weights:
        verdict.not_gained.append("No weight of the targets is zero.")
    else:
        verdict.gained.append(f"{gone}, {words.percent(1 - kept / weights)}.")
    found = [judge_packed(dig(whole, "bytes", "dense"), dig(whole, "bytes", "packed"))]
    found += judge_shrunk({"measure": {"dense": whole, "shrunk": small}}, "Keras") if small else []
    for section, sentence in found:
        getattr(verdict, section).append(sentence)
    if not small:
        verdict.not_gained.append(
            "No unit is dead, so that shrinking deletes nothing; zeros alone make nothing faster."
        )
    ratio = dig(whole, "bytes", "dense") / dig(whole, "bytes", "packed")
    verdict.headline = f"{gone}; packed without loss the weights take {words.ratio(ratio)} times less"
    if small:
        before, after = (dig(net, "parameters", "weights") for net in (whole, small))
        verdict.headline += f"; without dead units {words.ratio(before / after)} times fewer parameters are left"
    verdict.headline += "."
    verdict.remarks += [f"{note}." for note in whole.get("notes") or ()]
    verdict.remarks.append("Inputs were noise, one example at a time: they do for counts and times, not for accuracy.")
    return verdict


def _charts(whole: dict[str, Any], small: dict[str, Any] | None) -> Iterator[tuple[str, charts.Spec, str]]:
    if whole.get("layers"):
        yield "Sparsity by layer", charts.layers_chart(whole["layers"]), ""
    if small:
        keys = {
            "parameters": ("parameters", "weights"),
            "uncompressed file": ("bytes", "dense"),
            "packed file": ("bytes", "packed"),
            "multiply-adds": ("macs", "dense"),
            "latency": ("latency", "median_ms"),
        }
        costs = [(what, dig(whole, *path), dig(small, *path)) for what, path in keys.items()]
        chart = charts.cost_chart(costs, "shrunk / as it is")
        yield "Shrunk against as it is", chart, "Left of the dashed line is a gain."


def _size_table(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the forms that the model can be stored in side by side, against its own Keras file."""
    names = {"dense": "safetensors", "gzipped": "safetensors, gzipped", "packed": "packed, lossless"}
    base, rows = facts["file"]["pruned"], []
    for net, report in facts["measure"].items():
        which = "shrunk, " if net == "shrunk" else ""
        sizes = {".keras file": facts["file"][net]}
        sizes |= {label: dig(report, "bytes", key) for key, label in names.items() if dig(report, "bytes", key)}
        rows += [[f"{which}{label}", words.size(size), words.ratio(base / size)] for label, size in sizes.items()]
    note = "The .keras file is without the state of an optimizer."
    return {"title": "Sizes", "head": ["stored as", "bytes", "times smaller"], "rows": rows, "note": note}
