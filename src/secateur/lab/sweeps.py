"""Sweeps: methods x sparsities x seeds, each cell a run folder, and the Pareto frontier of what came out."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.files import write_json
from secateur.lab import methods
from secateur.lab.data import LabError
from secateur.lab.environment import environment
from secateur.lab.runs import Options, RunFolderError, run, train_dense
from secateur.lab.settings import Settings, read_settings, write_settings
from secateur.lab.summary import frontier, scores, summarise
from secateur.vocabulary import MissingExtraError, SecateurError

__all__ = ["Grid", "cell_name", "sweep"]


@dataclass(frozen=True)
class Grid:
    """The cells of a sweep.

    Raises:
        LabError: an axis is empty, or names a method that does not exist.

    Example:
        >>> len(list(Grid(("gradual", "random"), (0.5, 0.9), (0, 1, 2)).cells(Settings())))
        12
    """

    methods: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for axis in ("methods", "sparsities", "seeds"):
            if not getattr(self, axis):
                raise LabError(f"a sweep needs at least one of its {axis}")
        object.__setattr__(self, "methods", tuple(dict.fromkeys(methods.find(name) for name in self.methods)))

    def cells(self, base: Settings) -> Iterator[Settings]:
        """Yield the settings of every cell."""
        for seed in self.seeds:
            for sparsity in self.sparsities:
                for method in self.methods:
                    yield dataclasses.replace(base, method=method, sparsity=sparsity, seed=seed)


def sweep(
    base: Settings,
    grid: Grid,
    folder: Path,
    options: Options = Options(),  # noqa: B008 - a frozen value
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run every cell that has no result yet; return the sweep, which is also in ``sweep.json``.

    Each seed's dense network is trained once and shared by its cells (and by other sweeps, with ``options.dense``).
    Cells run in ``jobs`` processes through joblib (set another of its backends with ``joblib.parallel_config``). A
    cell that fails is reported, and the others go on; started again, only what is missing is run.

    Raises:
        RunFolderError: the folder holds a sweep with other settings.
    """
    _claim(base, folder)
    seeds = [dataclasses.replace(base, seed=seed) for seed in grid.seeds]
    share = dataclasses.replace(options, events=False, bar=False)
    root = options.dense or folder / "dense"
    dense = [(_dense_cell, each, root / f"seed{each.seed}", share) for each in seeds]
    failed = [f for f in _parallel(dense, jobs, say, "dense nets") if "error" in f]
    bad_seeds = {f["seed"] for f in failed}
    work = []
    for each in grid.cells(base):
        if each.seed not in bad_seeds:
            shared = dataclasses.replace(share, dense=root / f"seed{each.seed}")
            work.append((_cell, each, folder / "cells" / cell_name(each), shared))
    rows = failed + list(_parallel(work, jobs, say, "cells"))
    result = _result(base, grid, rows)
    write_json(folder / "sweep.json", result)
    return result


def cell_name(settings: Settings) -> str:
    """Return the folder name of a cell.

    Example:
        >>> cell_name(Settings())
        'gradual-s0.9-seed0'
    """
    return f"{settings.method}-s{settings.sparsity:g}-seed{settings.seed}"


def _claim(base: Settings, folder: Path) -> None:
    config = folder / "config.toml"
    if config.exists():
        # Methods, sparsities and seeds may grow from one call to the next; all else must stay.
        there = dataclasses.replace(
            Settings(**read_settings(config)), method=base.method, sparsity=base.sparsity, seed=base.seed
        )
        if different := base.differences(there):
            raise RunFolderError(
                f"{folder} holds a sweep with other settings ({'; '.join(different)}); choose another --out"
            )
    elif folder.exists() and {path.name for path in folder.iterdir()} - {"dense"}:  # another sweep may have made those
        raise RunFolderError(f"{folder} is not empty and is no sweep folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(config, base, "the settings that all cells of this sweep share")


Work = tuple[Callable[[Settings, Path, Options], dict[str, Any]], Settings, Path, Options]


def _parallel(work: Sequence[Work], jobs: int, say: Callable[[str], None], what: str) -> Iterator[dict[str, Any]]:
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise MissingExtraError("sweeps need joblib: pip install 'secateur[lab]'") from error
    calls = [delayed(_guarded)(*each) for each in work]
    done = Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
    for count, row in enumerate(done, start=1):
        text = row["error"] if "error" in row else row.pop("line")
        say(f"[{count}/{len(calls)} {what}] {row['cell']}: {text}")
        yield row


def _guarded(
    function: Callable[[Settings, Path, Options], dict[str, Any]], settings: Settings, folder: Path, options: Options
) -> dict[str, Any]:
    """Turn the errors a cell may meet into a row, so that one bad cell does not end the sweep."""
    try:
        return function(settings, folder, options)
    except (SecateurError, OSError) as error:
        return {"cell": cell_name(settings), "seed": settings.seed, "error": str(error)}


def _dense_cell(settings: Settings, folder: Path, options: Options) -> dict[str, Any]:
    train_dense(settings, folder, options)
    return {"cell": f"dense-seed{settings.seed}", "line": "trained"}


def _cell(settings: Settings, folder: Path, options: Options) -> dict[str, Any]:
    result = run(settings, folder, dataclasses.replace(options, forms=False))
    # What a run goes on from is of no use once it has ended, and a sweep has hundreds: of ResNet-18 50 MB each.
    shutil.rmtree(folder / "phases", ignore_errors=True)
    accuracy, pruned = result["accuracy"], result["measure"]["pruned"]
    reference = accuracy.get("dense_longer", accuracy["dense"])["test"]
    row = {
        "cell": cell_name(settings),
        "method": settings.method,
        "sparsity": settings.sparsity,
        # Of the dense model's targets: a narrower dense model is as sparse as it is smaller.
        "achieved": 1 - pruned["targets"]["kept"] / result["measure"]["dense"]["targets"]["weights"],
        "asked": pruned["target_sparsity"],
        "seed": settings.seed,
        "folder": f"cells/{folder.name}",
        "validation": accuracy["pruned"]["validation"],
        "best_epoch": accuracy["pruned"]["best_epoch"],
        "epochs": accuracy["pruned"]["epochs"],
        "test": accuracy["pruned"]["test"],
        "dense_test": accuracy["dense"]["test"],
        "reference_test": reference,
        "kept": pruned["targets"]["kept"],
        "weights": result["measure"]["dense"]["targets"]["weights"],
        "compression": _ratio(result["measure"]["dense"]["targets"]["weights"], pruned["targets"]["kept"]),
        "bytes_gzipped": pruned["bytes"]["gzipped"],
        "smallest": _smallest(pruned["layers"]),
        "latency_ms": (pruned["latency"] or {}).get("median_ms"),
        "seconds": result["seconds"]["pruned"],
        "data": result["data"],
    }
    return row | {"line": f"test {row['test']:.4f}, dense trained as long {reference:.4f}"}


def _smallest(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the smallest target, which a sparsity of its own hits hardest."""
    least = min(layers, key=lambda layer: int(layer["weights"]))
    return {key: least[key] for key in ("name", "weights", "kept")}


def _ratio(weights: int, kept: int) -> float | None:
    return weights / kept if kept else None


def _result(base: Settings, grid: Grid, rows: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [{"cell": row["cell"], "error": row["error"]} for row in rows if "error" in row]
    cells = [row for row in rows if "test" in row]
    data = [cell.pop("data") for cell in cells]
    cells.sort(key=lambda cell: (cell["method"], cell["sparsity"], cell["seed"]))
    summary = summarise(cells)
    axes = (
        f" --methods {','.join(grid.methods)} --sparsities {','.join(f'{s:.12g}' for s in grid.sparsities)}"
        f" --seeds {','.join(map(str, grid.seeds))}"
    )
    shared = dataclasses.replace(base, method=Settings().method, sparsity=Settings().sparsity, seed=Settings().seed)
    command = shared.command("sweep").replace(f" --method {shared.method} --sparsity {shared.sparsity}", "")
    return {
        "format": 1,
        "kind": "sweep",
        "settings": base.as_dict(),
        "command": command + axes,
        "environment": environment(),
        "data": data[0] if data else {},
        "methods": {name: methods.summary(name) for name in grid.methods},
        "cells": cells,
        "summary": summary,
        "frontier": frontier(summary),
        "scores": scores(cells, data[0]["classes"]) if cells else [],
        "failed": failed,
    }
