"""From a model of torch to a plan: traced, lowered operation by operation, fused."""

from secateur.engine.lowering.lowering import lower
from secateur.engine.lowering.tracing import ExampleError
from secateur.engine.lowering.walk import UnsupportedError

__all__ = ["ExampleError", "UnsupportedError", "lower"]
