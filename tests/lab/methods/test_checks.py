"""What a method refuses is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secateur.lab import methods, runs
from secateur.lab.data import LabError
from secateur.lab.methods.checks import CHECKS
from secateur.lab.settings import Settings

TINY: dict[str, Any] = {"model": "mlp:16", "epochs": 1, "prune_epochs": 2, "bits": 0, "engine": False}


def test_every_method_has_its_check() -> None:
    assert list(CHECKS) == list(methods.TABLE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"method": "one-shot", "scope": "layerwise", "layers": "fc9=0.3"}, "no target"),
        ({"method": "gradual", "layers": "fc1=0.3"}, "--scope layerwise"),
        ({"method": "gradual", "schedule": "exponential", "sparsity": 1.0}, "never reaches"),
        ({"method": "one-shot", "scope": "layerwise", "layers": "fc1=0.3,fc1.weight=0.5"}, "twice"),
        ({"method": "small-dense", "control": "scratch"}, "needs a mask"),
        ({"method": "iterative", "rounds": 1000}, "do not fit"),
        ({"method": "iterative", "prune_epochs": 0}, "prune-epochs"),
        ({"method": "lottery-ticket", "sparsity": 1.0}, "never reached"),
        ({"method": "three-step", "fixed": "dense"}, "no layer"),
        ({"method": "neurons", "sparsity": 1.0}, "below 1"),
        ({"method": "neurons", "ignore": "fc2"}, "no neuron can be removed"),
        ({"include": "fc9*"}, "--include"),
        ({"ignore": "fc*"}, "--ignore"),
    ],
    ids=str,
)
def test_bad_settings_cost_no_training(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=text):
        runs.run(Settings(**(TINY | changes)), tmp_path / "run")
    assert not list(tmp_path.rglob("*.safetensors"))
    # The settings put right may use the folder.
    assert runs.run(Settings(**TINY), tmp_path / "run")["accuracy"]


def test_a_search_is_not_held_against_the_sparsity_it_passes_over(tmp_path: Path) -> None:
    settings = Settings(**TINY, method="iterative", sparsity=1.0, max_drop=100.0, rounds=2)
    assert runs.run(settings, tmp_path / "run")["facts"]["search"]["sparsity"] < 1
    quality = Settings(**TINY, method="three-step", sparsity=1.0, quality=0.5, rounds=2)
    assert runs.run(quality, tmp_path / "quality")["measure"]["pruned"]["targets"]["kept"] > 0


def test_biases_that_a_method_prunes_may_have_sparsities_of_their_own(tmp_path: Path) -> None:
    settings = Settings(**TINY, method="threshold-layerwise", sparsity=0.5, layers="fc2.bias=0")
    layers = {each["name"]: each for each in runs.run(settings, tmp_path / "run")["measure"]["pruned"]["layers"]}
    assert layers["fc2.bias"]["kept"] == 10 and layers["fc1.bias"]["kept"] == 8
