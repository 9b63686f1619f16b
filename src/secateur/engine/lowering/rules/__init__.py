"""What becomes of each operation of torch: one rule each, by name, in the file of its family."""

from __future__ import annotations

from secateur.engine.lowering.rules import (
    arithmetic,
    elements,
    layers,
    moving,
    norms,
    padding,
    parts,
    pooling,
    products,
    reducing,
)
from secateur.engine.lowering.walk import Rule

__all__ = ["RULES"]

RULES: dict[str, Rule] = {
    **moving.RULES,
    **parts.RULES,
    **elements.RULES,
    **arithmetic.RULES,
    **reducing.RULES,
    **layers.RULES,
    **pooling.RULES,
    **padding.RULES,
    **norms.RULES,
    **products.RULES,
}
