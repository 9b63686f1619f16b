"""The last step of a run: the pruned network packed with codebooks, whose values are trained on a little."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

import secateur as sc
from secateur.lab.bench import Bench, Outcome, Training

__all__ = ["Quantized", "quantize"]

# Centroids start where they should be nearly: they are moved more carefully than weights were.
_RATE = 0.1


@dataclass(frozen=True)
class Quantized:
    """A network as it came back from a packed file, how it was trained and for how long, and the file's size."""

    model: nn.Module
    outcome: Outcome
    epochs: float
    seconds: float
    bytes: int


def quantize(bench: Bench, path: Path) -> Quantized:
    """Let the weights of the bench's model share few values, train these, and pack it; the bench is left as it is."""
    settings = bench.settings
    twin = bench.fork(settings, "quantized")
    # Untrained centroids are a result too, which training has to beat.
    rate = _RATE * settings.retrain_rate
    training = Training(rate=rate, smoothing=settings.smoothing, bits=settings.bits, from_here=True)
    twin.phase("share", settings.share_epochs, training=training)
    model = copy.deepcopy(twin.model).eval().cpu()
    packed = sc.pack(model, path, bits=settings.bits)
    return Quantized(sc.unpack(path, into=model), twin.last, twin.trained, twin.seconds, packed.size)
