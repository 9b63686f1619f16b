"""Rules that give importance: each a function from weights (and statistics) to scores, higher = keep."""

from secateur.choose.criteria import neurons
from secateur.choose.criteria.gradient import gradient, snip
from secateur.choose.criteria.magnitude import lamp, magnitude
from secateur.choose.criteria.random import random

__all__ = ["gradient", "lamp", "magnitude", "neurons", "random", "snip"]
