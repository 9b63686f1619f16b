"""All fusions together."""

from __future__ import annotations

import plans
from fusions import FORMULAS, same

from secateur.engine.lowering import fusing


def test_fusing_what_was_fused_changes_nothing() -> None:
    for before in (plans.whole(), *FORMULAS.values()):
        once = fusing.fused(before)
        assert fusing.fused(once).ops == once.ops
        same(before, once)
