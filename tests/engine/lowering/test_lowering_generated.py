"""Networks that nobody drew: whatever follows whatever, the plan computes the same."""

from __future__ import annotations

import torch
from agreement import lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generated import Generated, step
from torch import nn


@settings(max_examples=40)
@given(st.lists(step, min_size=2, max_size=9), st.integers(1, 3), st.integers(0, 10**6))
def test_plans_compute_the_same(steps: list[tuple[str, int, int, int]], heads: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = Generated(steps, heads).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    model.scales.requires_grad_(False)
    lowered(model, torch.randn(2, 3, 6, 6))
