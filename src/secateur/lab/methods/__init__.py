"""Named pruning methods: each a short composition of library parts that works at a Bench.

To add one, write a function in a file of its own and name it in ``TABLE``; its docstring's first line is what
``secateur methods`` and the report say about it.
"""

from __future__ import annotations

from collections.abc import Callable

from secateur.lab.bench import Bench
from secateur.lab.data.lookup import LabError, resolve
from secateur.lab.methods.freeze import freeze, masked_retraining
from secateur.lab.methods.gradual import gradual
from secateur.lab.methods.iterative import iterative
from secateur.lab.methods.lottery import learning_rate_rewinding, lottery_ticket
from secateur.lab.methods.neurons import neurons
from secateur.lab.methods.one_shot import one_shot, one_shot_erk, one_shot_lamp, one_shot_layerwise
from secateur.lab.methods.random import random
from secateur.lab.methods.sensitivity import sensitivity
from secateur.lab.methods.small_dense import small_dense
from secateur.lab.methods.snip import snip
from secateur.lab.methods.surgery import surgery
from secateur.lab.methods.three_step import three_step
from secateur.lab.methods.threshold import threshold, threshold_layerwise
from secateur.vocabulary import near_matches

__all__ = ["TABLE", "Method", "find", "summary"]

Method = Callable[[Bench], None]

TABLE: dict[str, Method] = {
    "threshold": threshold,
    "threshold-layerwise": threshold_layerwise,
    "freeze": freeze,
    "masked-retraining": masked_retraining,
    "one-shot": one_shot,
    "one-shot-layerwise": one_shot_layerwise,
    "one-shot-erk": one_shot_erk,
    "one-shot-lamp": one_shot_lamp,
    "sensitivity": sensitivity,
    "three-step": three_step,
    "iterative": iterative,
    "gradual": gradual,
    "surgery": surgery,
    "lottery-ticket": lottery_ticket,
    "learning-rate-rewinding": learning_rate_rewinding,
    "snip": snip,
    "neurons": neurons,
    "random": random,
    "small-dense": small_dense,
}


def find(name: str) -> str:
    """Return the name of a method as the table spells it.

    Raises:
        LabError: there is no such method; near matches are named.

    Example:
        >>> find("One_Shot")
        'one-shot'
    """
    found = resolve(name, TABLE)
    if found is None:
        raise LabError(f"unknown method {name!r}; {near_matches(name, TABLE)}")
    return found


def summary(name: str) -> str:
    """Return the one line that says what a method does."""
    return (TABLE[name].__doc__ or "").strip().splitlines()[0]
