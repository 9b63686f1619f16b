"""Remove dead or chosen units from a network; prove that outputs agree; carry the optimizer along."""

from __future__ import annotations

from typing import Any

from torch import nn

from secateur.shrink.choosing import UnitChoice, unit_weights
from secateur.shrink.manifest import rebuild
from secateur.shrink.shrinking import NothingShrunkWarning, Shrinkage, shrink, shrinkage

__all__ = [
    "NothingShrunkWarning",
    "Shrinkage",
    "UnitChoice",
    "manifest",
    "rebuild",
    "shrink",
    "shrinkage",
    "unit_weights",
]


def manifest(model: nn.Module) -> dict[str, Any] | None:
    """Return what it takes to cut a fresh instance of a shrunk model's class to its shapes; None if it is whole."""
    record = shrinkage(model)
    return None if record is None else record.manifest
