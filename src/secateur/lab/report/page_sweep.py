"""What stands on the page of a sweep."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from secateur.lab.report import charts, tables, words
from secateur.lab.report.reading import Record, dig
from secateur.lab.report.verdict import MISS
from secateur.lab.report.verdict_sweep import sweep_verdict
from secateur.lab.summary import SCORE

__all__ = ["content", "picture"]

NEAR = 0.04  # the first sweep chart shows accuracies down to this share below the dense net


def content(record: Record) -> dict[str, Any]:
    """Return the parts of a sweep's page by the names the template knows them by."""
    facts = record.facts
    references = [row["reference_mean"] for row in facts["summary"] if row["reference_mean"] is not None]
    tiles = [
        (words.count(len(facts["cells"])), "runs"),
        (words.count(len({row["method"] for row in facts["summary"]})), "methods"),
        (words.count(len({cell["seed"] for cell in facts["cells"]})), "seeds"),
        (words.percent(statistics.mean(references) if references else None), "dense test accuracy"),
    ]
    note = "Circles mark the Pareto frontier, bars one standard deviation over seeds, the dashed line the dense net."
    pictures = []
    if references and any(row["compression"] for row in facts["summary"]):
        pictures = [
            ("Accuracy over sparsity", charts.sweep_chart(facts, NEAR), note),
            ("The whole range", charts.sweep_chart(facts), ""),
        ]
    methods = [[name, text] for name, text in (facts.get("methods") or {}).items()]
    failed = [[each["cell"], each["error"]] for each in facts.get("failed") or ()]
    return {
        "title": f"{dig(facts, 'settings', 'model')} on {dig(facts, 'settings', 'data')}",
        "summary": f"{words.plural(len(facts['cells']), 'run')}: methods x sparsities x seeds",
        "verdict": sweep_verdict(facts),
        "tiles": tiles,
        "charts": pictures,
        "tables": [
            _score_table(facts),
            _summary_table(facts),
            {"title": "Methods", "head": [], "rows": methods, "prose": True},
            _cell_table(facts, record.folder),
            {"title": "Failed", "head": [], "rows": failed, "prose": True},
        ],
        "facts": tables.setting_tables(facts | {"settings": _shared(facts.get("settings") or {})}),
        "command": facts.get("command"),
    }


def picture(record: Record, whole: bool = False) -> charts.Spec:
    """Return the chart that stands for a sweep by itself: of accuracies near the dense net's, or of all."""
    return charts.sweep_chart(record.facts, None if whole else NEAR)


def _shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that all cells share: not the axes, nor what only a run makes."""
    own = {"method", "sparsity", "seed", "bits", "share_epochs", "engine"}
    return {name: value for name, value in settings.items() if name not in own}


def _score_table(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the methods in the order of their scores; without rows for sweeps from before there were any."""
    rows = [
        [
            f"{place}. {row['method']}",
            words.fraction(row["mean"]),
            words.fraction(row["std"] if row["runs"] > 1 else None),
            words.count(row["runs"]),
        ]
        for place, row in enumerate(facts.get("scores") or (), start=1)
    ]
    note = f"The score is {SCORE}."
    furthest = max(facts["summary"], key=lambda row: abs(row["achieved"] - row["sparsity"]), default=None)
    if furthest and abs(furthest["achieved"] - furthest["sparsity"]) > MISS:
        note += (
            f" It counts the sparsity asked for; furthest from that is {furthest['method']}, which reached "
            f"{furthest['achieved']:.4g} instead of {furthest['sparsity']:.4g}."
        )
    head = ["method, best first", "score, mean", "sd over seeds", "seeds"]
    return {"title": "Score", "head": head, "rows": rows, "note": note}


def _summary_table(facts: dict[str, Any]) -> dict[str, Any]:
    best = {(row["method"], row["sparsity"]) for row in facts["frontier"]}
    rows = [
        [
            row["method"] + (" (frontier)" if (row["method"], row["sparsity"]) in best else ""),
            words.fraction(row["achieved"]),
            words.ratio(row["compression"]),
            f"{row['mean']:.4f} ± {row['std']:.4f}",
            f"{words.fraction(row['reference_mean'])} ± {words.fraction(row['reference_std'])}",
            words.count(row["runs"]),
        ]
        for row in facts["summary"]
    ]
    head = ["method", "sparsity", "compression ratio", "test accuracy, mean ± sd", "dense, trained further", "seeds"]
    return {"title": "Summary", "head": head, "rows": rows}


def _cell_table(facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    rows = [
        [
            _link(folder, cell),
            words.fraction(cell["achieved"]),
            str(cell["seed"]),
            *(words.fraction(cell[key]) for key in ("validation", "test", "reference_test")),
            words.count(cell["kept"]),
            words.size(cell["bytes_gzipped"]),
            words.milliseconds(cell["latency_ms"]),
        ]
        for cell in facts["cells"]
    ]
    linked = any(isinstance(row[0], dict) for row in rows)
    note = "An underlined method leads to the report of that run. " if linked else ""
    note += "secateur report FOLDER builds the report of a run; build this page anew afterwards to link it here."
    head = ["method", "sparsity", "seed", "validation", "test", "dense test", "kept", "gzipped", "latency"]
    return {"title": "Every run", "head": head, "rows": rows, "note": note}


def _link(folder: Path, cell: dict[str, Any]) -> str | dict[str, str]:
    """Return a cell's method, leading to the report of that run if it lies beside the sweep."""
    if cell.get("folder") and (folder / cell["folder"] / "report.html").is_file():
        return {"text": cell["method"], "href": f"./{cell['folder']}/report.html"}
    return str(cell["method"])
