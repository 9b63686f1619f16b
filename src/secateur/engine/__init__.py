"""The sparse engine: a model is lowered to a plan of operators, and native kernels run it without torch."""

from secateur.engine.arguments import InputError
from secateur.engine.engine import Engine
from secateur.engine.loading import load
from secateur.engine.placing import TooLargeError
from secateur.engine.profile import Profile

__all__ = ["Engine", "InputError", "Profile", "TooLargeError", "load"]
