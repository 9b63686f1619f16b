"""Reading a run or sweep folder into one checked record."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.files import read_json
from secateur.vocabulary import CorruptFileError, SecateurError

__all__ = ["Record", "dig", "read"]

FORMAT = 1
# What the page cannot do without; everything else may be missing and is then said to be missing.
REQUIRED = {
    "run": ("name", "settings", "accuracy", "measure"),
    "sweep": ("cells", "summary"),
}


@dataclass(frozen=True)
class Record:
    """What a folder holds: its ``result.json`` or ``sweep.json``, its metrics, and what was odd in them."""

    folder: Path
    kind: str
    facts: dict[str, Any]
    metrics: tuple[dict[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()


def dig(facts: Any, *keys: str) -> Any:
    """Return ``facts[key][key]...``, or None where any step of the way is missing.

    Example:
        >>> dig({"macs": {"dense": 3}}, "macs", "dense"), dig({"macs": None}, "macs", "dense")
        (3, None)
    """
    for key in keys:
        if not isinstance(facts, dict):
            return None
        facts = facts.get(key)
    return facts


def read(folder: Path) -> Record:
    """Read the run or sweep in ``folder``.

    NaN and infinite numbers become None: they mean "no number" wherever they come up in a report.

    Raises:
        SecateurError: the folder holds neither a run nor a sweep, or one of another format.
        CorruptFileError: a file is damaged or lacks something the report needs.
    """
    folder = Path(folder)
    for kind, name in (("sweep", "sweep.json"), ("run", "result.json")):
        path = folder / name
        if path.is_file():
            facts = _facts(path, kind)
            metrics, remarks = _metrics(folder / "metrics.jsonl") if kind == "run" else ((), ())
            return Record(folder, kind, facts, metrics, remarks)
    raise SecateurError(
        f"{folder} is not a finished run or sweep: expected result.json (written by 'secateur run') or "
        "sweep.json (written by 'secateur sweep') in it"
    )


def _facts(path: Path, kind: str) -> dict[str, Any]:
    facts = _finite(read_json(path))
    if not isinstance(facts, dict):
        raise CorruptFileError(f"{path} should hold a JSON object, not {type(facts).__name__}")
    if facts.get("format") != FORMAT or facts.get("kind") != kind:
        raise SecateurError(
            f"{path} has format {facts.get('format')!r} and kind {facts.get('kind')!r}; this version of "
            f"secateur reads format {FORMAT} of kind {kind!r}: build the report with the version that ran it"
        )
    missing = [key for key in REQUIRED[kind] if facts.get(key) is None]
    if kind == "run" and not missing:
        missing += [f"accuracy.{key}" for key in ("dense", "pruned") if not facts["accuracy"].get(key)]
        missing += [f"measure.{key}" for key in ("dense", "pruned") if not facts["measure"].get(key)]
    if missing:
        raise CorruptFileError(f"{path} lacks {', '.join(missing)}: run the experiment again to write it anew")
    return facts


def _metrics(path: Path) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Read one line per epoch; of an epoch that a resumed run wrote twice, the later line counts."""
    if not path.is_file():
        return (), ("There is no metrics.jsonl beside result.json, so there are no training curves.",)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    remarks: list[str] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _finite(json.loads(line))
            rows[str(row["phase"]), int(row["epoch"])] = row
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise CorruptFileError(f"{path}, line {number} is not an epoch's record ({error})") from error
            remarks.append("The last line of metrics.jsonl is cut short and was left out.")
    return tuple(rows.values()), tuple(remarks)


def _finite(value: Any) -> Any:
    """Return ``value`` with every number that is not finite replaced by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
