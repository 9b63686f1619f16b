"""Small, realistic run and sweep folders for the report's tests."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

LAYERS = [
    ("fc1.weight", "Linear", [300, 64]),
    ("fc2.weight", "Linear", [100, 300]),
    ("fc3.weight", "Linear", [10, 100]),
]
KEEP = {"fc1.weight": 1300, "fc2.weight": 3120, "fc3.weight": 600}
BIASES = 410


def measured(kept: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a REPORT of LeNet-300-100 on 8 x 8 digits; ``kept`` None is the dense net."""
    layers = []
    for name, kind, shape in LAYERS:
        weights = math.prod(shape)
        left = weights if kept is None else kept[name]
        layers.append(
            {
                "name": name,
                "kind": kind,
                "shape": shape,
                "weights": weights,
                "kept": left,
                "sparsity": 1 - left / weights,
                "mask_sparsity": None if kept is None else 1 - left / weights,
                "macs": weights,
                "macs_effective": left,
            }
        )
    weights = sum(layer["weights"] for layer in layers)
    left = sum(layer["kept"] for layer in layers)
    report = {
        "target_sparsity": None if kept is None else 0.9,
        "targets": share(weights, left),
        "parameters": share(weights + BIASES, left + BIASES),
        "layers": layers,
        "macs": {"dense": weights, "effective": left},
        "bytes": {"dense": 211_000, "gzipped": 195_000 if kept is None else 39_800},
        "latency": latency(0.050) if kept is None else latency(0.051),
        "peak_memory_bytes": 1_250_000,
        "notes": [],
    }
    report.update(changes)
    return report


def share(weights: int, kept: int) -> dict[str, Any]:
    return {
        "weights": weights,
        "kept": kept,
        "sparsity": 1 - kept / weights,
        "compression": weights / kept if kept else None,
    }


def latency(median: float, spread: float = 0.05) -> dict[str, Any]:
    return {
        "median_ms": median,
        "low_ms": median * (1 - spread),
        "high_ms": median * (1 + spread),
        "warmup": 10,
        "repeats": 100,
        "threads": 1,
        "batch": 1,
    }


ENVIRONMENT = {
    "secateur": "0.1.0",
    "torch": "2.13.0",
    "python": "3.11.7",
    "platform": "Linux x86_64",
    "processor": "Generic 64-bit processor",
    "threads": 1,
    "date": "2026-11-21",
}
DATA = {
    "name": "digits",
    "train": 1294,
    "validation": 143,
    "test": 360,
    "shape": [1, 8, 8],
    "classes": 10,
    "notes": ["The test split is the last 360 images."],
}


SENSITIVITY: dict[str, Any] = {
    "whole": 0.97,
    "curves": {
        "fc1.weight": [[0.5, 0.97], [1.0, 0.95]],
        "fc2.weight": [[0.5, 0.96], [1.0, 0.5]],
        "fc3.weight": [[0.5, 0.9], [1.0, 0.1]],
    },
    "allocation": {"fc1.weight": 0.75, "fc2.weight": 0.25, "fc3.weight": 1.0},
}
SEARCH: dict[str, Any] = {
    "floor": 0.95,
    "max_drop": 2.0,
    "tries": [
        {"sparsity": 0.5, "validation": 0.96, "within": 1.0},
        {"sparsity": 0.75, "validation": 0.90, "within": 0.0},
        {"sparsity": 0.625, "validation": 0.94, "within": 0.0},
    ],
    "sparsity": 0.5,
}
DEAD = {"neurons": 3, "connections": 12, "asked": 0.9}


def speed(
    times: tuple[float, float, float] = (8.5, 9.0, 9.5), shrunk: bool = False, absent: str = ""
) -> dict[str, Any]:
    """Return the times of a run's engine, so many times faster than torch, or why there is none."""

    def row(name: str, ms: float, ratio: tuple[float, float, float]) -> dict[str, Any]:
        head = {"name": name, "threads": 1, "batch": 1, "error": 8.6e-8, "calls": 7470, "note": ""}
        return head | {"ms": [0.95 * ms, ms, 1.1 * ms], "ratio": list(ratio), "gain": ratio[0] > 1}

    rows = [row("dense, torch", 0.036, (1.0, 1.0, 1.0))]
    rows += [row("shrunk, torch", 0.030, (1.15, 1.2, 1.25))] if shrunk else []
    rows += [] if absent else [row("engine", 0.036 / times[1], times)]
    engine: dict[str, Any] = {"of": "shrunk" if shrunk else "pruned"}
    engine |= {} if absent else {"seconds": 0.55, "bytes": 19_753}
    return {"rows": rows, "absent": {"engine": absent} if absent else {}, "notes": [], "turns": 15, "engine": engine}


def run_result(test: float = 0.9694, longer: float | None = 0.9722) -> dict[str, Any]:
    """Return a run's result.json; ``test`` is the pruned net's accuracy, ``longer`` the reference's."""
    kept = KEEP
    accuracy = {
        "dense": {"validation": 0.972, "test": 0.9694, "epochs": 20},
        "dense_longer": {"validation": 0.979, "test": longer, "epochs": 40},
        "pruned": {"validation": 0.972, "test": test, "epochs": 40, "best_epoch": 17},
    }
    if longer is None:
        del accuracy["dense_longer"]
    return {
        "format": 1,
        "kind": "run",
        "name": "gradual-s0.9-seed0",
        "settings": {
            "data": "digits",
            "model": "lenet-300-100",
            "method": "gradual",
            "sparsity": 0.9,
            "seed": 0,
            "epochs": 20,
            "prune_epochs": 20,
            "batch_size": 64,
            "learning_rate": 0.001,
        },
        "command": "secateur run --data digits --model lenet-300-100 --method gradual --sparsity 0.9 --seed 0",
        "environment": dict(ENVIRONMENT),
        "data": copy.deepcopy(DATA),
        "method": {"name": "gradual", "summary": "Raises the sparsity along a cubic curve while training goes on."},
        "accuracy": accuracy,
        "measure": {"dense": measured(), "pruned": measured(exactly(kept, 0.9))},
        "seconds": {"dense": 3.1, "dense-longer": 3.0, "prune": 4.0},
        "warnings": [],
    }


def exactly(kept: dict[str, int], sparsity: float) -> dict[str, int]:
    """Return ``kept`` with the first layer changed so that the total meets ``sparsity`` exactly."""
    total = sum(math.prod(shape) for _, _, shape in LAYERS)
    wanted = total - round(sparsity * total)
    rest = sum(kept.values()) - kept["fc1.weight"]
    return {**kept, "fc1.weight": wanted - rest}


def run_metrics() -> list[dict[str, Any]]:
    """Return 20 epochs each of dense, dense-longer and prune."""
    rows = []
    for phase, start in (("dense", 0), ("dense-longer", 20), ("prune", 20)):
        for epoch in range(1, 21):
            age = start + epoch
            sparsity = 0.9 * (1 - (1 - min(epoch, 14) / 14) ** 3) if phase == "prune" else 0.0
            hurt = 0.12 * sparsity * math.exp(-max(0, epoch - 9) / 3) if phase == "prune" else 0.0
            wobble = 0.004 * math.sin(7 * age + len(phase))
            loss = 2.1 * math.exp(-age / 4) + 0.02 / age + 2 * hurt
            rows.append(
                {
                    "phase": phase,
                    "epoch": epoch,
                    "step": 21 * epoch,
                    "loss": loss,
                    "train_accuracy": min(1.0, 1 - 0.6 * math.exp(-age / 3) - hurt),
                    "validation_accuracy": 0.975 - 0.6 * math.exp(-age / 3) - hurt + wobble,
                    "validation_loss": loss + 0.09 + wobble,
                    "learning_rate": 0.001,
                    "sparsity": sparsity,
                    "layers": {"fc1.weight": {"sparsity": sparsity, "threshold": 0.01}},
                    "seconds": 0.15,
                }
            )
    return rows


def write_run(folder: Path, result: dict[str, Any], metrics: list[dict[str, Any]] | None = None) -> Path:
    """Write a run folder; ``metrics`` None leaves metrics.jsonl out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))
    if metrics is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return folder


METHODS = {
    "one-shot": "Removes the smallest weights at once, then trains on.",
    "gradual": "Raises the sparsity along a cubic curve while training goes on.",
    "iterative": "Ten rounds of pruning and retraining.",
    "random": "Removes weights by chance: what every other method must beat.",
}
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
# Test accuracy lost by method and sparsity, as such sweeps usually come out.
LOST = {
    "one-shot": (-0.001, 0.002, 0.008, 0.031, 0.16, 0.41),
    "gradual": (-0.002, 0.0, 0.002, 0.007, 0.035, 0.12),
    "iterative": (-0.003, -0.002, 0.001, 0.004, 0.022, 0.085),
    "random": (0.004, 0.02, 0.061, 0.17, 0.44, 0.71),
}


def sweep_result(methods: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a sweep.json of 4 methods x 6 sparsities x 3 seeds; ``methods`` renames or adds to them."""
    methods = METHODS if methods is None else methods
    weights = sum(math.prod(shape) for _, _, shape in LAYERS)
    cells, summary = [], []
    for place, method in enumerate(methods):
        lost = list(LOST.values())[place % len(LOST)]
        for sparsity, loss in zip(SPARSITIES, lost, strict=True):
            kept = weights - round(sparsity * weights)
            tests = [
                round(360 * (0.972 - loss - 0.003 * (place // 4) + 0.004 * (seed - 1) * (1 + 20 * abs(loss)))) / 360
                for seed in range(3)
            ]
            references = [349 / 360, 350 / 360, 351 / 360]
            for seed in range(3):
                cells.append(
                    {
                        "method": method,
                        "sparsity": sparsity,
                        "achieved": 1 - kept / weights,
                        "seed": seed,
                        "folder": f"cells/{method}-s{sparsity}-seed{seed}",
                        "validation": tests[seed] + 0.004,
                        "test": tests[seed],
                        "dense_test": references[seed] - 0.002,
                        "reference_test": references[seed],
                        "kept": kept,
                        "weights": weights,
                        "compression": weights / kept,
                        "bytes_gzipped": round(3000 + 4.1 * kept),
                        "latency_ms": 0.05 + 0.001 * seed,
                        "seconds": 7.0 + place,
                    }
                )
            summary.append(
                {
                    "method": method,
                    "sparsity": sparsity,
                    "achieved": 1 - kept / weights,
                    "compression": weights / kept,
                    "mean": mean(tests),
                    "std": std(tests),
                    "runs": 3,
                    "reference_mean": mean(references),
                    "reference_std": std(references),
                }
            )
    return {
        "format": 1,
        "kind": "sweep",
        "settings": {"data": "digits", "model": "lenet-300-100", "epochs": 20, "prune_epochs": 20, "batch_size": 64},
        "command": "secateur sweep --data digits --methods one-shot,gradual,iterative,random --seeds 3",
        "environment": dict(ENVIRONMENT),
        "data": copy.deepcopy(DATA),
        "methods": methods,
        "cells": cells,
        "summary": summary,
        "frontier": frontier(summary),
        "failed": [],
    }


def frontier(summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that no other row beats in both accuracy and compression."""
    best, rows = -1.0, []
    for row in sorted(summary, key=lambda row: (-row["compression"], -row["mean"])):
        if row["mean"] > best:
            best = row["mean"]
            rows.append({key: row[key] for key in ("method", "sparsity", "compression", "mean")})
    return rows[::-1]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def std(values: list[float]) -> float:
    return math.sqrt(sum((value - mean(values)) ** 2 for value in values) / (len(values) - 1))


def write_sweep(folder: Path, sweep: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(sweep))
    return folder
