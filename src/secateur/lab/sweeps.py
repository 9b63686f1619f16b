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
from secateur.lab.folders import claim_sweep, locked
from secateur.lab.runs import Options, run, train_dense
from secateur.lab.settings import Settings
from secateur.lab.summary import frontier, scores, summarise
from secateur.vocabulary import MissingExtraError, SecateurError

__all__ = ["Grid", "cell_name", "sweep"]


@dataclass(frozen=True)
class Grid:
    """The cells of a sweep.

    What is named twice counts once.

    Raises:
        LabError: an axis is empty, names a method that does not exist, or sparsities too close to tell apart.

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
            object.__setattr__(self, axis, tuple(dict.fromkeys(getattr(self, axis))))
        object.__setattr__(self, "methods", tuple(dict.fromkeys(methods.find(name) for name in self.methods)))
        if len({f"{sparsity:g}" for sparsity in self.sparsities}) < len(self.sparsities):
            raise LabError("two of the sparsities agree to six digits, and cells are named by those; leave one out")

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
        LabError: several sparsities are asked for where none of them is heeded.
        RunFolderError: the folder holds a sweep with other settings, or another process works in it.
    """
    if (base.max_drop or base.quality) and len(grid.sparsities) > 1:
        flag = "--max-drop finds" if base.max_drop else "--quality sets"
        raise LabError(f"{flag} the sparsities, so every one of --sparsities would be the same run; give a single one")
    claim_sweep(folder, base)
    with locked(folder):
        result = _result(base, grid, _rows(base, grid, folder, options, jobs, say))
        write_json(folder / "sweep.json", result)
    return result


def _rows(
    base: Settings, grid: Grid, folder: Path, options: Options, jobs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train the dense nets that are missing, then the cells; return a row for each that ended, well or not."""
    share = dataclasses.replace(options, events=False, bar=False)
    root = options.dense or folder / "dense"
    cells = {folder / "cells" / cell_name(each): each for each in grid.cells(base)}
    missing = {each.seed for place, each in cells.items() if not (place / "result.json").exists()}
    seeds = [dataclasses.replace(base, seed=seed) for seed in grid.seeds if seed in missing]
    dense = [(_dense_cell, each, root / f"seed{each.seed}", share) for each in seeds]
    failed = [row for row in _parallel(dense, jobs, say, "dense nets") if "error" in row]
    lost = {row["seed"] for row in failed}  # what had ended before stays in the sweep
    work = [
        (_cell, each, place, dataclasses.replace(share, dense=root / f"seed{each.seed}"))
        for place, each in cells.items()
        if each.seed not in lost or (place / "result.json").exists()
    ]
    return failed + list(_parallel(work, jobs, say, "cells"))


def cell_name(settings: Settings) -> str:
    """Return the folder name of a cell.

    Example:
        >>> cell_name(Settings())
        'gradual-s0.9-seed0'
    """
    return f"{settings.method}-s{settings.sparsity:g}-seed{settings.seed}"


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
        name = cell_name(settings) if function is _cell else _dense_name(settings)
        return {"cell": name, "seed": settings.seed, "error": str(error)}


def _dense_name(settings: Settings) -> str:
    return f"dense-seed{settings.seed}"


def _dense_cell(settings: Settings, folder: Path, options: Options) -> dict[str, Any]:
    train_dense(settings, folder, options)
    return {"cell": _dense_name(settings), "line": "trained"}


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
        "reference_epochs": accuracy.get("dense_longer", accuracy["dense"])["epochs"],
        "warnings": result["warnings"],
        "data": result["data"],
    }
    return row | {"line": f"test {row['test']:.4f}, dense trained further {reference:.4f}"}


def _smallest(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the smallest target, which a sparsity of its own hits hardest."""
    least = min(layers, key=lambda layer: int(layer["weights"]))
    return {key: least[key] for key in ("name", "weights", "kept")}


def _ratio(weights: int, kept: int) -> float | None:
    return weights / kept if kept else None


def _warnings(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the cells warned of, each text once with how many said it."""
    said: dict[str, list[str]] = {}
    for cell in cells:
        for text in cell.pop("warnings"):
            said.setdefault(text, []).append(cell["cell"])
    return [f"{text} ({names[0] if len(names) == 1 else f'{len(names)} cells'})" for text, names in said.items()]


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
        # Where nets end at sparsities of their own there is no common axis.
        "scores": [] if not cells or base.max_drop or base.quality else scores(cells, data[0]["classes"]),
        "failed": failed,
        "warnings": _warnings(cells),
    }
