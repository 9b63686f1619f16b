"""What a method would refuse, refused before anything is trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import partial

from secateur.lab.bench import Bench
from secateur.lab.data.lookup import LabError
from secateur.lab.methods.iterative import check_iterative
from secateur.lab.methods.neurons import check_neurons
from secateur.lab.methods.parts import choice, levels, ramp
from secateur.lab.methods.small_dense import check_small_dense
from secateur.lab.methods.three_step import check_three_step

__all__ = ["CHECKS", "check"]


def _risen(bench: Bench) -> None:
    ramp(bench)
    choice(bench)


def _in_rounds(bench: Bench) -> None:
    levels(bench)
    choice(bench)


def _nothing(bench: Bench) -> None:
    """These take all settings that they heed."""


CHECKS: dict[str, Callable[[Bench], object]] = {
    "threshold": partial(choice, scope="global", biases=True),
    "threshold-layerwise": partial(choice, scope="layerwise", biases=True),
    "freeze": partial(choice, scope="global", biases=True),
    "masked-retraining": partial(choice, scope="global", biases=True),
    "one-shot": choice,
    "one-shot-layerwise": partial(choice, scope="layerwise"),
    "one-shot-erk": partial(choice, scope="erk"),
    "one-shot-lamp": partial(choice, scope="lamp"),
    "sensitivity": _nothing,
    "three-step": check_three_step,
    "iterative": check_iterative,
    "gradual": _risen,
    "surgery": _risen,
    "lottery-ticket": _in_rounds,
    "learning-rate-rewinding": _in_rounds,
    "snip": _nothing,
    "neurons": check_neurons,
    "random": _nothing,
    "small-dense": check_small_dense,
}
"""By method, what raises a LabError for settings or a model that the method cannot work with."""


def check(bench: Bench) -> None:
    """Raise for what the settings' method cannot do with them, or with this model.

    Args:
        bench: with the model before any training; it is left as it is.

    Raises:
        LabError: the method, or the control after it, would refuse.
    """
    settings = bench.settings
    twin = copy.copy(bench)
    if settings.max_drop:  # which tries sparsities between 0 and 1
        twin.settings = dataclasses.replace(settings, sparsity=0.5)
    twin.notes = []
    CHECKS[settings.method](twin)
    if settings.method == "small-dense" and settings.control != "none":
        raise LabError("--control needs a mask, and small-dense makes none; leave --control out")
