"""The tables of a run's page: every number that was measured, and the settings it was measured with."""

from __future__ import annotations

from typing import Any

from secateur.lab.report import words
from secateur.lab.report.reading import dig

__all__ = ["accuracy_table", "layer_table", "setting_tables", "size_table", "totals_table", "unit_table"]


def accuracy_table(accuracy: dict[str, Any]) -> dict[str, Any]:
    """Return epochs and accuracies of every net of the run."""
    names = {
        "dense": "dense, before pruning",
        "dense_longer": "dense, trained further",
        "pruned": "pruned",
        "quantized": "pruned, its weights sharing few values",
    }
    rows = [
        [label, words.count(row.get("epochs")), words.fraction(row.get("validation")), words.fraction(row.get("test"))]
        for key, label in names.items()
        if (row := accuracy.get(key))
    ]
    return {"title": "Accuracy", "head": ["net", "epochs", "validation accuracy", "test accuracy"], "rows": rows}


def totals_table(measured: dict[str, Any]) -> dict[str, Any]:
    """Return every measured number, dense beside pruned, and beside the shrunk net if units were dead."""
    nets = [name for name in ("dense", "pruned", "shrunk") if name in measured]

    def row(label: str, show: Any, *path: str) -> list[str]:
        return [label, *(show(dig(measured[name], *path)) for name in nets)]

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
        row("as torch CSR", words.size, "bytes", "csr"),
        row("packed, lossless", words.size, "bytes", "packed"),
        row("latency, median", words.milliseconds, "latency", "median_ms"),
        row("latency, 10th percentile", words.milliseconds, "latency", "low_ms"),
        row("latency, 90th percentile", words.milliseconds, "latency", "high_ms"),
        row("peak memory of a forward pass", words.size, "peak_memory_bytes"),
    ]
    latency = measured["pruned"].get("latency")
    note = ""
    if latency:
        note = (
            f"Latency: batch {latency['batch']}, {words.plural(latency['threads'], 'thread')}, "
            f"{latency['repeats']} calls after {latency['warmup']}, dense kernels."
        )
    return {"title": "Everything measured", "head": ["", *nets], "rows": rows, "note": note}


def unit_table(learned: dict[str, Any]) -> dict[str, Any] | None:
    """Return the units that each layer of the shrunk net has left; None if there is no shrunk net."""
    units, stays = dig(learned, "shrunk", "units"), dig(learned, "shrunk", "stays") or []
    if not units:
        return None
    rows = [[name, words.count(there), words.count(kept)] for name, (kept, there) in units.items()]
    note = "Outputs of the shrunk net were compared with those of the pruned one before it was kept."
    if stays:
        note += " Dead, but left: " + "; ".join(stays) + "."
    return {"title": "Units (neurons, channels)", "head": ["written by", "units", "kept"], "rows": rows, "note": note}


def size_table(facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the forms the pruned net was stored in side by side, against the dense one; None if it was not packed."""
    dense, forms = dig(facts, "measure", "dense", "bytes", "dense"), dig(facts, "measure", "pruned", "bytes") or {}
    if not dense or not forms.get("packed"):
        return None
    test = words.fraction(dig(facts, "accuracy", "pruned", "test"))
    names = {
        "dense": "safetensors, zeros stored",
        "gzipped": "safetensors, gzipped",
        "csr": "torch CSR (64-bit indices)",
        "packed": "packed, lossless",
    }
    rows = [
        [
            "safetensors of the dense net",
            words.size(dense),
            "1",
            words.fraction(dig(facts, "accuracy", "dense", "test")),
        ]
    ]
    rows += [
        [label, words.size(size), words.ratio(dense / size), test]
        for key, label in names.items()
        if (size := forms.get(key))
    ]
    if quantized := dig(facts, "accuracy", "quantized"):
        label = f"packed, codebooks of {quantized.get('bits')} bits"
        size = quantized["bytes"]
        rows.append([label, words.size(size), words.ratio(dense / size), words.fraction(quantized.get("test"))])
    return {"title": "Sizes", "head": ["stored as", "bytes", "times smaller", "test accuracy"], "rows": rows}


def layer_table(pruned: dict[str, Any]) -> dict[str, Any]:
    """Return what is left of every target."""
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


def setting_tables(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the run or sweep was made with: settings, data, machine, time."""
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
