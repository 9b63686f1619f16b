"""The types of attributes: what an operator may say, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["ACTIVATIONS", "ARITHMETIC", "UNARY", "Choice", "Flag", "Int", "Ints", "Real", "Type", "check_parameters"]

# No attribute and no sum of a few of them can leave the range of 64 bits.
LARGEST = (1 << 31) - 1

# How many of alpha and beta each activation takes; the others are 0. Formulas are in docs/design/plan.md.
ACTIVATIONS = {
    "none": 0,
    "relu": 0,
    "relu6": 0,
    "gelu": 0,
    "gelu_tanh": 0,
    "silu": 0,
    "hardswish": 0,
    "hardsigmoid": 0,
    "sigmoid": 0,
    "tanh": 0,
    "leaky_relu": 1,
    "elu": 1,
    "clamp": 2,
    "softplus": 2,
}
UNARY = {name: count for name, count in ACTIVATIONS.items() if name != "none"} | {
    "exp": 0,
    "log": 0,
    "sqrt": 0,
    "rsqrt": 0,
    "abs": 0,
    "negative": 0,
    "reciprocal": 0,
    "sin": 0,
    "cos": 0,
    "erf": 0,
    "floor": 0,
    "power": 1,
}
# The comparisons give 1 where they hold and 0 where they do not.
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
ARITHMETIC = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", *_COMPARISONS)


class Type(Protocol):
    """What an attribute must be."""

    def fits(self, value: Any) -> bool:
        """Say if ``value`` is one."""


@dataclass(frozen=True)
class Int:
    """A whole number, ``low`` to 2^31 - 1."""

    low: int = 0

    def fits(self, value: Any) -> bool:
        """Say if ``value`` is one."""
        return type(value) is int and self.low <= value <= LARGEST


@dataclass(frozen=True)
class Ints:
    """A tuple of whole numbers, ``low`` to ``high``; ``count`` of them, or any number if that is 0."""

    count: int = 0
    low: int = 0
    high: int = LARGEST

    def fits(self, value: Any) -> bool:
        """Say if ``value`` is one."""
        return (
            type(value) is tuple
            and len(value) == (self.count or len(value))
            and all(type(each) is int and self.low <= each <= self.high for each in value)
        )


@dataclass(frozen=True)
class Real:
    """A float, finite in 32 bits, ``low`` at least."""

    low: float = -math.inf

    def fits(self, value: Any) -> bool:
        """Say if ``value`` is one."""
        return type(value) is float and abs(value) <= 3.4e38 and value >= self.low


@dataclass(frozen=True)
class Flag:
    """A bool."""

    def fits(self, value: Any) -> bool:
        """Say if ``value`` is one."""
        return type(value) is bool


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def fits(self, value: Any) -> bool:
        """Say if ``value`` is one."""
        return type(value) is str and value in self.words


def check_parameters(how: str, alpha: float, beta: float) -> None:
    """Refuse parameters that a function does not take, or with which it makes no sense.

    Raises:
        ValueError: saying which.
    """
    count = UNARY.get(how, 0)
    if (count < 1 and alpha != 0) or (count < 2 and beta != 0):
        raise ValueError(f"alpha is {alpha:g} and beta {beta:g}, but {how} takes {count} parameters: the others are 0")
    if how == "clamp" and alpha > beta:
        raise ValueError(f"clamp to {alpha:g} and above, and {beta:g} and below")
    if how == "softplus" and alpha <= 0:
        raise ValueError(f"softplus with the factor {alpha:g}, which is not positive")
