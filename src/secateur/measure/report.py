"""What was measured, as values that print as a table and go to JSON and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.vocabulary import CorruptFileError

__all__ = ["Bytes", "Latency", "LayerReport", "Macs", "Report", "Share"]


@dataclass(frozen=True)
class Share:
    """Weights and how many of them are kept (not zero).

    Example:
        >>> Share(weights=10, kept=4).sparsity, Share(weights=10, kept=4).compression
        (0.6, 2.5)
    """

    weights: int
    kept: int

    @property
    def sparsity(self) -> float:
        """Zeros over weights, in [0, 1]."""
        return (self.weights - self.kept) / self.weights if self.weights else 0.0

    @property
    def compression(self) -> float | None:
        """Weights over kept weights; None when none is kept."""
        return self.weights / self.kept if self.kept else None

    def to_json(self) -> dict[str, Any]:
        """Return the counts and what follows from them."""
        return {**dataclasses.asdict(self), "sparsity": self.sparsity, "compression": self.compression}


@dataclass(frozen=True)
class LayerReport:
    """One target: its counts, what its mask says, and its multiply-adds for one example."""

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    kept: int
    mask_sparsity: float | None = None
    macs: int | None = None

    @property
    def sparsity(self) -> float:
        """Zeros over weights, in [0, 1]."""
        return Share(self.weights, self.kept).sparsity

    @property
    def macs_effective(self) -> int | None:
        """Multiply-adds with a weight that is not zero (every weight of a layer is used equally often)."""
        if self.macs is None:
            return None
        return round(self.macs * self.kept / self.weights) if self.weights else 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields and what follows from them."""
        derived = {"sparsity": self.sparsity, "macs_effective": self.macs_effective}
        return {**dataclasses.asdict(self), "shape": list(self.shape), **derived}


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one example: all, and those with a weight that is not zero."""

    dense: int
    effective: int


@dataclass(frozen=True)
class Bytes:
    """Bytes of the ``state_dict`` in four forms; None where they were not counted.

    Attributes:
        dense: as safetensors.
        gzipped: that file gzipped at level 6.
        csr: float matrices as ``torch.sparse_csr``, the rest dense; values and indices alone, no header.
        packed: as the file that :func:`secateur.pack` writes without loss.
    """

    dense: int
    gzipped: int
    csr: int | None = None
    packed: int | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one call: median and the 10th and 90th percentile of ``repeats`` calls."""

    median_ms: float
    low_ms: float
    high_ms: float
    warmup: int
    repeats: int
    threads: int
    batch: int


@dataclass(frozen=True)
class Report:
    """Everything :func:`secateur.measure` found; ``print`` it, or send ``to_json`` somewhere.

    Attributes:
        targets: the prunable weights alone.
        parameters: all parameters, biases and norms included; tied ones once.
        layers: one entry for each target.
        peak_memory_bytes: weights, buffers and live activations at their most during one forward pass.
        notes: what a reader must know, such as a mask that leaks.
    """

    targets: Share
    parameters: Share
    layers: tuple[LayerReport, ...]
    bytes: Bytes
    target_sparsity: float | None = None
    macs: Macs | None = None
    latency: Latency | None = None
    peak_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def reached(self) -> Share:
        """What ``target_sparsity`` is held against: the targets that masks name, or all where there are no masks."""
        masked = [layer for layer in self.layers if layer.mask_sparsity is not None] or self.layers
        return Share(sum(layer.weights for layer in masked), sum(layer.kept for layer in masked))

    def to_json(self) -> dict[str, Any]:
        """Return a dict of plain values that ``json`` writes and :meth:`from_json` reads."""
        return {
            "target_sparsity": self.target_sparsity,
            "targets": self.targets.to_json(),
            "parameters": self.parameters.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
            "macs": self.macs and dataclasses.asdict(self.macs),
            "bytes": dataclasses.asdict(self.bytes),
            "latency": self.latency and dataclasses.asdict(self.latency),
            "peak_memory_bytes": self.peak_memory_bytes,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that :meth:`to_json` was called on.

        Raises:
            CorruptFileError: ``data`` is not what :meth:`to_json` returns.
        """
        try:
            return cls._read(data)
        except (KeyError, TypeError) as error:
            raise CorruptFileError(f"not a report of secateur.measure ({type(error).__name__}: {error})") from error

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Report:
        def pick(kind: type, value: Mapping[str, Any]) -> Any:
            fields = [field.name for field in dataclasses.fields(kind)]
            return kind(**{name: value[name] for name in fields})

        layers = tuple(pick(LayerReport, {**layer, "shape": tuple(layer["shape"])}) for layer in data["layers"])
        return cls(
            targets=pick(Share, data["targets"]),
            parameters=pick(Share, data["parameters"]),
            layers=layers,
            bytes=pick(Bytes, {"csr": None, "packed": None, **data["bytes"]}),  # older reports lack two
            target_sparsity=data["target_sparsity"],
            macs=data["macs"] and pick(Macs, data["macs"]),
            latency=data["latency"] and pick(Latency, data["latency"]),
            peak_memory_bytes=data["peak_memory_bytes"],
            notes=tuple(data["notes"]),
        )

    def __str__(self) -> str:
        head = ["target", "kind", "shape", "weights", "kept", "sparsity", "MACs", "effective"]
        rows = [_row(layer) for layer in self.layers]
        macs = [f"{self.macs.dense:,}", f"{self.macs.effective:,}"] if self.macs else ["-", "-"]
        for name, share, tail in (
            ("all targets", self.targets, macs),
            ("all parameters", self.parameters, ["", ""]),
        ):
            counts = [f"{share.weights:,}", f"{share.kept:,}", _decimals(share.sparsity)]
            rows.append([name, "", "", *counts, *tail])
        return "\n".join([*_aligned(head, rows), *self._totals()])

    def _totals(self) -> list[str]:
        lines = []
        if self.targets.compression:
            lines.append(f"compression ratio {self.targets.compression:.2f} (target weights over kept target weights)")
        if self.target_sparsity is not None:
            lines.append(f"sparsity asked for {self.target_sparsity:g}, reached {self.reached.sparsity:.6f}")
        sizes = {"gzipped": self.bytes.gzipped, "as torch CSR": self.bytes.csr, "packed": self.bytes.packed}
        others = "".join(f", {what} {size:,}" for what, size in sizes.items() if size is not None)
        lines.append(f"bytes: file {self.bytes.dense:,}{others}")
        if self.latency:
            t = self.latency
            lines.append(
                f"latency {t.median_ms:.3f} ms (10th to 90th percentile {t.low_ms:.3f} to {t.high_ms:.3f}; batch "
                f"{t.batch}, threads {t.threads}, {t.repeats} calls after {t.warmup})"
            )
        if self.peak_memory_bytes is not None:
            lines.append(f"peak memory of a forward pass {self.peak_memory_bytes:,} bytes")
        return [*lines, *(f"note: {note}" for note in self.notes)]


def _row(layer: LayerReport) -> list[str]:
    macs = ["-" if value is None else f"{value:,}" for value in (layer.macs, layer.macs_effective)]
    shape = "x".join(map(str, layer.shape))
    counts = [f"{layer.weights:,}", f"{layer.kept:,}", _decimals(layer.sparsity)]
    return [layer.name, layer.kind, shape, *counts, *macs]


def _decimals(sparsity: float) -> str:
    """Print a sparsity with four places, or as many more as keep it from reading as all or nothing."""
    places = next((p for p in range(4, 15) if float(f"{sparsity:.{p}f}") not in (0, 1)), 4)
    return f"{sparsity:.{places}f}"


def _aligned(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *map(line, rows)]
