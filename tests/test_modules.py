"""What every room asks of a module before it works with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.vocabulary import BadTargetError

MASKS = sc.Masks({"weight": torch.ones(2, 3, dtype=torch.bool)})
STEADY = sc.ConstantSchedule(0.5, begin_step=0, end_step=1)
WORKS: dict[str, Callable[[nn.Module], Any]] = {
    "prune": lambda net: sc.prune(net, 0.5),
    "select": lambda net: sc.select(dict(net.named_parameters()), 0.5),
    "apply": lambda net: sc.apply(net, MASKS),
    "hold": lambda net: sc.hold(torch.optim.SGD(net.parameters(), lr=0.1), MASKS, model=net),
    "Pruner": lambda net: sc.Pruner(net, torch.optim.SGD(net.parameters(), lr=0.1), STEADY),
    "sensitivity": lambda net: sc.sensitivity(net, lambda _: 1.0),
    "codebooks": lambda net: sc.codebooks(sc.prunable(net), bits=2),
    "shrink": lambda net: sc.shrink(net, torch.ones(1, 3)),
    "measure": sc.measure,
    "pack": lambda net: sc.pack(net, Path("never.sct")),
}


@pytest.mark.parametrize("work", WORKS)
def test_weights_that_hold_no_values_are_named(work: str) -> None:
    with pytest.raises(BadTargetError, match="'weight' holds no values yet: load weights"):
        WORKS[work](nn.Linear(3, 2, device="meta"))
