"""Where numbers were measured: versions, processor, threads."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any

import torch

import secateur

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Return what a reader needs to place a measurement."""
    return {
        "secateur": secateur.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
