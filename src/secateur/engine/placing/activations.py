"""Activation functions and operations by the kernels' numbers."""

from __future__ import annotations

from typing import Any

from secateur.engine.plan.values import Op

__all__ = ["FUNCTIONS", "NON_NEGATIVE", "OPERATIONS", "applied"]

# In the order of the enumeration in native/src/engine/steps.h.
_NAMES = (
    "none relu clamp leaky_relu elu sigmoid tanh silu gelu gelu_tanh hardswish hardsigmoid softplus "
    "exp log sqrt reciprocal abs negative square rsqrt sin cos erf floor power"
)
FUNCTIONS = {name: number for number, name in enumerate(_NAMES.split())}
NON_NEGATIVE = ("relu", "relu6", "sigmoid", "hardsigmoid", "softplus", "exp", "sqrt", "abs")
_OPERATIONS = "add subtract multiply divide maximum minimum power equal not_equal less less_equal greater greater_equal"
OPERATIONS = {name: number for number, name in enumerate(_OPERATIONS.split())}


def applied(kernels: Any, op: Op) -> Any:
    """Return the function that an operator ends with."""
    name = str(op.attributes.get("activation", op.attributes.get("how", "none")))
    alpha, beta = float(op.attributes.get("alpha", 0.0)), float(op.attributes.get("beta", 0.0))  # type: ignore[arg-type]
    if name == "relu6":
        name, alpha, beta = "clamp", 0.0, 6.0
    return kernels.Applied(FUNCTIONS[name], alpha, beta)
