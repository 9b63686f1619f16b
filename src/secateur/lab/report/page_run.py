"""What stands on the page of a run."""

from __future__ import annotations

from typing import Any

from secateur.lab.report import charts, findings, speed, tables, words
from secateur.lab.report.reading import Record, dig
from secateur.lab.report.verdict import run_verdict, target_change

__all__ = ["content", "picture"]


def content(record: Record) -> dict[str, Any]:
    """Return the parts of a run's page by the names the template knows them by."""
    facts, verdict = record.facts, run_verdict(record.facts)
    verdict.remarks += record.remarks
    pruned, accuracy = facts["measure"]["pruned"], facts["accuracy"]
    learned = facts.get("facts") or {}
    tiles = [
        (words.fraction(target_change(facts)[2]), "sparsity of the targets"),
        (words.percent(accuracy["pruned"].get("test")), "test accuracy, pruned"),
        (words.percent((accuracy.get("dense_longer") or accuracy["dense"]).get("test")), "test accuracy, dense"),
        _file_tile(pruned),
    ]
    return {
        "title": facts["name"],
        "summary": dig(facts, "method", "summary") or "",
        "verdict": verdict,
        "tiles": tiles,
        "charts": _charts(record),
        "tables": [
            tables.accuracy_table(accuracy),
            *filter(None, [tables.size_table(facts)]),
            *speed.speed_tables(facts),
            tables.totals_table(facts["measure"]),
            *filter(None, [tables.unit_table(learned)]),
            *findings.tables_of(learned),
            tables.layer_table(pruned),
        ],
        "facts": tables.setting_tables(facts),
        "command": facts.get("command"),
    }


def _file_tile(pruned: dict[str, Any]) -> tuple[str, str]:
    if packed := dig(pruned, "bytes", "packed"):
        return words.size(packed), "packed file"
    return words.size(dig(pruned, "bytes", "gzipped")), "gzipped file"


def picture(record: Record) -> charts.Spec:
    """Return the chart that stands for a run by itself: validation accuracy over epochs."""
    spec: charts.Spec = _training(record)["parts"][0]
    return spec


def _charts(record: Record) -> list[tuple[str, charts.Spec, str]]:
    dense, pruned = record.facts["measure"]["dense"], record.facts["measure"]["pruned"]
    found = []
    if record.metrics:
        spec = _training(record)
        note = "Accuracy is on validation data; lines that leave the first chart below were lower still."
        if spec["best"]:
            note += f" The circle marks epoch {spec['best']} of the last phase that prunes, whose weights were kept."
        if _searched(record) is not None:
            note += " Of the sparsities tried only the one that was kept is shown."
        found.append(("Training", spec, note))
    found += findings.charts_of(record.facts.get("facts") or {})
    if pruned.get("layers"):
        found.append(("Sparsity by layer", charts.layers_chart(pruned["layers"]), ""))
    found += speed.speed_charts(record.facts)
    costs = charts.cost_chart(_costs(dense, pruned))
    found.append(("Pruned against dense", costs, "Left of the dashed line is a gain."))
    return found


def _training(record: Record) -> charts.Spec:
    best = dig(record.facts, "accuracy", "pruned", "best_epoch")
    return charts.curves_chart(record.metrics, best, _searched(record))


def _searched(record: Record) -> float | None:
    """Return the sparsity that a search ended at, if there was one."""
    found: float | None = dig(record.facts, "facts", "search", "sparsity")
    return found


def _costs(dense: dict[str, Any], pruned: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    keys = {
        "target weights kept": ("targets", "kept"),
        "gzipped file": ("bytes", "gzipped"),
        "packed file": ("bytes", "packed"),
        "uncompressed file": ("bytes", "dense"),
        "effective multiply-adds": ("macs", "effective"),
        "latency": ("latency", "median_ms"),
        "peak memory": ("peak_memory_bytes",),
    }
    return [(what, dig(dense, *path), dig(pruned, *path)) for what, path in keys.items()]
