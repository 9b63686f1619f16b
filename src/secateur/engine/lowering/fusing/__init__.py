"""Fusions: each takes a plan and returns one that computes the same, with fewer operators.

Constants are of any float type until the end, so that what is folded several times is rounded once.
"""

from __future__ import annotations

from secateur.engine.lowering.fusing.folding import merged, padded, scaled
from secateur.engine.lowering.fusing.joining import activated, summed
from secateur.engine.lowering.fusing.patterns import recognized
from secateur.engine.lowering.fusing.sinking import sunk
from secateur.engine.lowering.fusing.tidying import tidied
from secateur.engine.plan import Plan

__all__ = ["activated", "fused", "merged", "padded", "recognized", "scaled", "summed", "sunk", "tidied"]

_ROUNDS = 10  # each finds something new in what the one before left; two or three are usual


def fused(plan: Plan) -> Plan:
    """Apply all fusions, again and again while there is something to fuse.

    Sums come before activations: a layer that ends with an activation cannot add anything behind it.
    """
    for _ in range(_ROUNDS):
        before = plan.ops
        for step in (tidied, recognized, tidied, sunk, padded, scaled, merged, summed, activated, tidied):
            plan = step(plan)
        if plan.ops == before:
            break
    return plan
