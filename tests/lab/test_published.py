"""Published settings on real data; minutes long, so marked slow (`make test-slow` with SECATEUR_DATA set)."""

from __future__ import annotations

import dataclasses
import os
import statistics
from pathlib import Path

import pytest

from secateur.lab import runs
from secateur.lab.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("SECATEUR_DATA"), reason="needs MNIST: set SECATEUR_DATA"),
]


def test_the_tutorial_convnet_beats_its_published_accuracies(tmp_path: Path) -> None:
    settings = Settings(
        data="mnist",
        model="tutorial-convnet",
        epochs=4,
        prune_epochs=2,
        batch_size=128,
        initial_sparsity=0.5,
        sparsity=0.8,
        learning_rate=0.003,
    )
    found = [runs.run(dataclasses.replace(settings, seed=seed), tmp_path / str(seed))["accuracy"] for seed in range(3)]
    assert statistics.mean(each["dense"]["test"] for each in found) > 0.9726
    assert statistics.mean(each["pruned"]["test"] for each in found) > 0.9689
