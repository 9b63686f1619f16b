"""Where a command writes: never over what it reads."""

from __future__ import annotations

from pathlib import Path

from secateur.lab.data import LabError

__all__ = ["destination"]

# Files of a run that no command may write over; the run would be taken for finished with them.
_OF_A_RUN = ("config.toml", "result.json", "report.html", "metrics.jsonl", "model.safetensors", "masks.safetensors")


def destination(out: Path | None, default: Path, source: Path) -> Path:
    """Return the file to write.

    Args:
        out: what the user named.
        default: if nothing.
        source: the file or the folder of a run that is read.

    Raises:
        LabError: ``out`` is what is read, or a file of the run.

    Example:
        >>> destination(None, Path("model.sct"), Path("model.safetensors")).name
        'model.sct'
    """
    if out is None:
        return default
    kept = [source / name for name in _OF_A_RUN] if source.is_dir() else [source]
    if any(out.exists() and each.exists() and out.samefile(each) for each in kept):
        told = f"belongs to the run in {source}" if source.is_dir() else "is the file that is read"
        raise LabError(f"--out {out} {told}, and would be lost; name another file")
    return out
