"""The plan: a model as a flat list of operators over values. Needs numpy alone.

A value is what one sample brings: the batch axis is implicit, and first. ``kinds`` says what operators there are,
``shapes`` what they give; ``checking`` holds a plan to that; ``texts`` writes and reads it as JSON; ``calling`` says
how the arguments of a call become its inputs, and its outputs the result.
"""

from secateur.engine.plan.calling import gathered, structured
from secateur.engine.plan.checking import check
from secateur.engine.plan.kinds import ACTIVATIONS, KINDS, Kind
from secateur.engine.plan.texts import from_json, to_json
from secateur.engine.plan.values import Op, Plan, Value

__all__ = [
    "ACTIVATIONS",
    "KINDS",
    "Kind",
    "Op",
    "Plan",
    "Value",
    "check",
    "from_json",
    "gathered",
    "structured",
    "to_json",
]
