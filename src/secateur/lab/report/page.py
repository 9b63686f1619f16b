"""From a folder to a page: reads the record, asks for verdict, charts and tables, fills the template."""

from __future__ import annotations

import functools
import json
import statistics
from pathlib import Path
from typing import Any

from secateur.files import write_bytes, write_text
from secateur.lab.report import charts, findings, words
from secateur.lab.report.reading import Record, dig, read
from secateur.lab.report.verdict import run_verdict
from secateur.lab.report.verdict_sweep import sweep_verdict
from secateur.lab.summary import SCORE
from secateur.vocabulary import MissingExtraError, SecateurError

__all__ = ["build", "save_picture"]

NEAR = 0.04  # the first sweep chart shows accuracies down to this share below the dense net


def build(folder: Path) -> Path:
    """Write ``report.html`` into a run or sweep folder and return its path.

    The page holds everything it needs; it loads nothing from anywhere.

    Raises:
        SecateurError: the folder holds neither a finished run nor a sweep.
        CorruptFileError: a file in it is damaged.
        MissingExtraError: jinja2, altair or vl-convert-python is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("reports need jinja2: pip install 'secateur[lab]'") from error
    record = read(folder)
    content = _run(record) if record.kind == "run" else _sweep(record)
    loader = jinja2.PackageLoader("secateur.lab.report", "templates")
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html.j2")
    html = template.render(vega=_vega(), words=words, **content)
    path = record.folder / "report.html"
    write_text(path, html)
    return path


def save_picture(folder: Path, path: Path) -> None:
    """Write the main chart of a run or sweep as an .svg or .png file, on white.

    Raises:
        SecateurError: the file's ending is another.
    """
    vl_convert = _vl_convert()
    record = read(folder)
    spec = (
        charts.sweep_chart(record.facts, NEAR)
        if record.kind == "sweep"
        else charts.curves_chart(record.metrics)["parts"][0]
    )
    spec |= {"width": 560, "background": "white"}
    if path.suffix == ".svg":
        write_text(path, vl_convert.vegalite_to_svg(spec))
    elif path.suffix == ".png":
        write_bytes(path, vl_convert.vegalite_to_png(spec, scale=2))
    else:
        raise SecateurError(f"a picture is .svg or .png, not {path.suffix or path.name!r}")


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtraError("reports need vl-convert-python: pip install 'secateur[lab]'") from error
    return vl_convert


@functools.cache
def _vega() -> str:
    # A closing script tag inside the bundle would end the script element early.
    import altair

    # The runtime of the version that altair writes specifications for ("v6.4.1" -> "6.4").
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return str(_vl_convert().javascript_bundle(vl_version=version)).replace("</script", "<\\/script")


def _embed(spec: dict[str, Any]) -> str:
    """Return JSON that is safe inside a script element."""
    return json.dumps(spec).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _chart(title: str, spec: dict[str, Any], note: str = "") -> dict[str, Any]:
    parts = spec.get("parts", [spec])
    return {"title": title, "specs": [_embed(part) for part in parts], "note": note}


def _run(record: Record) -> dict[str, Any]:
    facts, verdict = record.facts, run_verdict(record.facts)
    verdict.remarks += record.remarks
    dense, pruned = facts["measure"]["dense"], facts["measure"]["pruned"]
    accuracy = facts["accuracy"]
    tiles = [
        (words.fraction(dig(pruned, "targets", "sparsity")), "sparsity of the targets"),
        (words.percent(accuracy["pruned"].get("test")), "test accuracy, pruned"),
        (words.percent((accuracy.get("dense_longer") or accuracy["dense"]).get("test")), "test accuracy, dense"),
        (words.size(dig(pruned, "bytes", "gzipped")), "gzipped file"),
    ]
    pictures = []
    if record.metrics:
        pictures.append(
            _chart(
                "Training",
                charts.curves_chart(record.metrics, accuracy["pruned"].get("best_epoch")),
                "Accuracy is on validation data, the circle the epoch that was kept; lines that leave the first chart "
                "below were lower still.",
            )
        )
    learned = facts.get("facts") or {}
    pictures += [_chart(*each) for each in findings.charts_of(learned)]
    if pruned.get("layers"):
        pictures.append(_chart("Sparsity by layer", charts.layers_chart(pruned["layers"])))
    pictures.append(
        _chart("Pruned against dense", charts.cost_chart(_costs(dense, pruned)), "Left of the dashed line is a gain.")
    )
    return {
        "title": facts["name"],
        "summary": dig(facts, "method", "summary") or "",
        "verdict": verdict,
        "tiles": tiles,
        "charts": pictures,
        "tables": [
            _accuracy_table(accuracy),
            _totals_table(dense, pruned),
            *findings.tables_of(learned),
            _layer_table(pruned),
        ],
        "facts": _facts(facts),
        "command": facts.get("command"),
    }


def _costs(dense: dict[str, Any], pruned: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    keys = {
        "target weights kept": ("targets", "kept"),
        "gzipped file": ("bytes", "gzipped"),
        "uncompressed file": ("bytes", "dense"),
        "effective multiply-adds": ("macs", "effective"),
        "latency": ("latency", "median_ms"),
        "peak memory": ("peak_memory_bytes",),
    }
    return [(what, dig(dense, *path), dig(pruned, *path)) for what, path in keys.items()]


def _accuracy_table(accuracy: dict[str, Any]) -> dict[str, Any]:
    names = {
        "dense": "dense, before pruning",
        "dense_longer": "dense, trained as long as the pruned net",
        "pruned": "pruned",
    }
    rows = [
        [label, words.count(row.get("epochs")), words.fraction(row.get("validation")), words.fraction(row.get("test"))]
        for key, label in names.items()
        if (row := accuracy.get(key))
    ]
    return {"title": "Accuracy", "head": ["net", "epochs", "validation accuracy", "test accuracy"], "rows": rows}


def _totals_table(dense: dict[str, Any], pruned: dict[str, Any]) -> dict[str, Any]:
    def row(label: str, show: Any, *path: str) -> list[str]:
        return [label, show(dig(dense, *path)), show(dig(pruned, *path))]

    rows = [
        row("target weights", words.count, "targets", "weights"),
        row("target weights kept", words.count, "targets", "kept"),
        row("sparsity of the targets", words.fraction, "targets", "sparsity"),
        row("compression ratio (target weights / kept)", words.ratio, "targets", "compression"),
        row("all parameters", words.count, "parameters", "weights"),
        row("sparsity of all parameters", words.fraction, "parameters", "sparsity"),
        row("multiply-adds of one example", words.count, "macs", "dense"),
        row("multiply-adds with a weight that is not zero", words.count, "macs", "effective"),
        row("file (safetensors)", words.size, "bytes", "dense"),
        row("file, gzipped", words.size, "bytes", "gzipped"),
        row("latency, median", words.milliseconds, "latency", "median_ms"),
        row("latency, 10th percentile", words.milliseconds, "latency", "low_ms"),
        row("latency, 90th percentile", words.milliseconds, "latency", "high_ms"),
        row("peak memory of a forward pass", words.size, "peak_memory_bytes"),
    ]
    latency = pruned.get("latency")
    note = ""
    if latency:
        note = (
            f"Latency: batch {latency['batch']}, {words.plural(latency['threads'], 'thread')}, "
            f"{latency['repeats']} calls after {latency['warmup']}, dense kernels."
        )
    return {"title": "Everything measured", "head": ["", "dense", "pruned"], "rows": rows, "note": note}


def _layer_table(pruned: dict[str, Any]) -> dict[str, Any]:
    head = ["target", "kind", "shape", "weights", "kept", "sparsity", "multiply-adds", "effective"]
    rows = [
        [
            layer["name"],
            layer["kind"],
            " x ".join(map(str, layer["shape"])),
            words.count(layer["weights"]),
            words.count(layer["kept"]),
            words.fraction(layer["sparsity"]),
            words.count(layer.get("macs")),
            words.count(layer.get("macs_effective")),
        ]
        for layer in pruned.get("layers") or ()
    ]
    return {"title": "By layer", "head": head, "rows": rows}


def _facts(facts: dict[str, Any]) -> list[dict[str, Any]]:
    tables = []
    for key, title in (
        ("settings", "Settings"),
        ("data", "Data"),
        ("environment", "Environment"),
        ("seconds", "Seconds"),
    ):
        values = facts.get(key) or {}
        rows = [[name.replace("_", " "), _plain(value)] for name, value in values.items() if value not in ([], "")]
        if rows:
            tables.append({"title": title, "head": [], "rows": rows})
    return tables


def _plain(value: Any) -> str:
    return (
        " x ".join(map(str, value))
        if isinstance(value, list) and all(isinstance(v, int) for v in value)
        else str(value)
    )


def _link(folder: Path, cell: dict[str, Any]) -> str | dict[str, str]:
    """Return a cell's method, leading to the report of that run if it has one."""
    page = f"{cell.get('folder', '')}/report.html"
    return {"text": cell["method"], "href": page} if (folder / page).is_file() else cell["method"]


def _sweep(record: Record) -> dict[str, Any]:
    facts = record.facts
    best = {(row["method"], row["sparsity"]) for row in facts["frontier"]}
    summary = [
        [
            row["method"] + (" (frontier)" if (row["method"], row["sparsity"]) in best else ""),
            words.fraction(row["achieved"]),
            words.ratio(row["compression"]),
            f"{row['mean']:.4f} ± {row['std']:.4f}",
            f"{row['reference_mean']:.4f} ± {row['reference_std']:.4f}",
            words.count(row["runs"]),
        ]
        for row in facts["summary"]
    ]
    cells = [
        [
            _link(record.folder, cell),
            words.fraction(cell["achieved"]),
            str(cell["seed"]),
            *(words.fraction(cell[key]) for key in ("validation", "test", "reference_test")),
            words.count(cell["kept"]),
            words.size(cell["bytes_gzipped"]),
            words.milliseconds(cell["latency_ms"]),
        ]
        for cell in facts["cells"]
    ]
    references = [row["reference_mean"] for row in facts["summary"] if row["reference_mean"] is not None]
    reference = statistics.mean(references) if references else None
    tiles = [
        (words.count(len(facts["cells"])), "runs"),
        (words.count(len({row["method"] for row in facts["summary"]})), "methods"),
        (words.count(len({cell["seed"] for cell in facts["cells"]})), "seeds"),
        (words.percent(reference), "dense test accuracy"),
    ]
    scores = [[row["method"], f"{row['mean']:.4f} ± {row['std']:.4f}"] for row in facts.get("scores") or ()]
    head = ["method", "sparsity", "compression ratio", "test accuracy, mean ± sd", "dense, trained as long", "seeds"]
    each = ["method", "sparsity", "seed", "validation", "test", "dense test", "kept", "gzipped", "latency"]
    note = "Circles mark the Pareto frontier, bars one standard deviation over seeds, the dashed line the dense net."
    methods = [[name, text] for name, text in (facts.get("methods") or {}).items()]
    return {
        "title": f"{dig(facts, 'settings', 'model')} on {dig(facts, 'settings', 'data')}",
        "summary": f"{words.plural(len(facts['cells']), 'run')}: methods x sparsities x seeds",
        "verdict": sweep_verdict(facts),
        "tiles": tiles,
        "charts": [
            _chart("Accuracy over sparsity", charts.sweep_chart(facts, NEAR), note),
            _chart("The whole range", charts.sweep_chart(facts)),
        ]
        if references
        else [],
        "tables": [
            {"title": "Score", "head": ["method", "score"], "rows": scores, "note": f"The score is {SCORE}."},
            {"title": "Summary", "head": head, "rows": summary},
            {"title": "Methods", "head": [], "rows": methods},
            {"title": "Every run", "head": each, "rows": cells},
            {"title": "Failed", "head": [], "rows": [[f["cell"], f["error"]] for f in facts.get("failed") or ()]},
        ],
        "facts": _facts(facts),
        "command": facts.get("command"),
    }
