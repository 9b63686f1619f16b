"""Named pruning methods: each a short composition of library parts that works at a Bench.

To add one, write a function in a file of its own and name it in ``TABLE``; its docstring's first line is what
``secateur methods`` and the report say about it.
"""

from __future__ import annotations

from collections.abc import Callable

from secateur.lab.bench import Bench
from secateur.lab.data.lookup import LabError, resolve
from secateur.lab.methods.gradual import gradual
from secateur.lab.methods.iterative import iterative
from secateur.lab.methods.one_shot import one_shot, one_shot_layerwise
from secateur.lab.methods.random import random
from secateur.vocabulary import near_matches

__all__ = ["TABLE", "Method", "find", "summary"]

Method = Callable[[Bench], None]

TABLE: dict[str, Method] = {
    "gradual": gradual,
    "iterative": iterative,
    "one-shot": one_shot,
    "one-shot-layerwise": one_shot_layerwise,
    "random": random,
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
