"""Pruning for Keras 3, on any of its backends, with the interface that tfmot's users know.

    from secateur.integrations import keras as sk

    model = sk.prune_low_magnitude(model, pruning_schedule=sk.PolynomialDecay(0.5, 0.8, 0, 1000))
    model.compile(...)
    model.fit(..., callbacks=[sk.UpdatePruningStep()])
    model = sk.strip_pruning(model)
    small = sk.shrink(model)

Weights stay the plain variables they are: masks stand beside them and hold zeros as constraints. What is chosen and
how much is the core's: any criterion that needs only weights, any granularity, scope and allocation.
"""

from __future__ import annotations

from secateur.vocabulary import MissingExtraError

try:
    import keras as _keras  # noqa: F401 - to say, before anything else fails, what is missing
except ImportError as error:
    raise MissingExtraError("secateur.integrations.keras needs Keras 3: pip install 'secateur[keras]'") from error

from secateur.integrations.keras.callbacks import PruningSummaries, UpdatePruningStep
from secateur.integrations.keras.measuring import measure
from secateur.integrations.keras.packing import pack, unpack
from secateur.integrations.keras.pruning import (
    apply_masks,
    masks_of,
    prune,
    prune_low_magnitude,
    strip_pruning,
)
from secateur.integrations.keras.schedules import ConstantSparsity, PolynomialDecay
from secateur.integrations.keras.shrinking import shrink
from secateur.integrations.keras.targets import prunable
from secateur.integrations.keras.tracing import couple, example_for
from secateur.integrations.keras.units import prune_units
from secateur.shrink.shrinking import shrinkage

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PruningSummaries",
    "UpdatePruningStep",
    "apply_masks",
    "couple",
    "example_for",
    "masks_of",
    "measure",
    "pack",
    "prunable",
    "prune",
    "prune_low_magnitude",
    "prune_units",
    "shrink",
    "shrinkage",
    "strip_pruning",
    "unpack",
]
