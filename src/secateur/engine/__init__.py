"""The sparse engine: a model is lowered to a plan of operators, and native kernels run it without torch."""

from secateur.engine.engine import Engine, InputError, load
from secateur.engine.profile import Profile

__all__ = ["Engine", "InputError", "Profile", "load"]
