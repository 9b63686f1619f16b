"""Engines beside the reference interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from numpy.typing import NDArray

from secateur import native
from secateur.engine.engine import Engine
from secateur.engine.plan import Plan

SETS: list[str] = native.load().sets() if native.available() else []
TOLERANCE = 1e-5

Arrays = dict[str, NDArray[Any]]


def given(plan: Plan, samples: int, seed: int = 0) -> Arrays:
    """Return numbers for the inputs of a plan; whole ones where they are indices."""
    random = np.random.default_rng(seed)
    inputs: Arrays = {}
    for name in plan.inputs:
        shape = (samples, *plan.values[name].shape)
        whole = plan.values[name].dtype == "I64"
        inputs[name] = random.integers(0, 3, shape) if whole else random.normal(size=shape).astype(np.float32)
    return inputs


def difference(wanted: Arrays, found: Arrays) -> float:
    """Return the largest difference, as a share of the largest number of an output, or of 1 if that is larger."""
    worst = 0.0
    assert wanted.keys() == found.keys()
    for name, array in wanted.items():
        other = found[name]
        assert other.dtype == np.float32 and other.shape == array.shape
        if array.size:
            worst = max(worst, float(np.abs(array - other).max()) / max(1.0, float(np.abs(array).max())))
    return worst


def agrees(plan: Plan, engine: Engine, samples: int, tolerance: float = TOLERANCE) -> None:
    """Compare an engine with the reference on so many samples."""
    inputs = given(plan, samples)
    found = difference(reference.run(plan, inputs), engine.run(inputs))
    assert found <= tolerance, f"off by {found:.2g} for {samples} samples on {engine.instructions}\n{plan}"
