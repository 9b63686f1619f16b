"""Prune neural networks and prove what the pruning bought.

Weights -> scores -> masks -> training under masks -> measured report. The names below are the public interface;
see the guide in ``docs/guide.md``.
"""

from secateur.choose import criteria, stats
from secateur.choose.criteria.magnitude import lamp
from secateur.choose.granularity import Block, Column, Element, Row
from secateur.choose.oneshot import prune
from secateur.choose.scope import Global, PerRow, PerTensor, Window, erk, uniform
from secateur.choose.selection import Choice, select
from secateur.choose.targets import prunable
from secateur.masks import Masks, apply
from secateur.measure import Report, Timing, latencies, measure
from secateur.train.hold import Hold, hold
from secateur.train.pruner import Pruner
from secateur.train.regrow import Regrow
from secateur.train.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    LinearSchedule,
    OneShotSchedule,
    PolynomialSchedule,
    RoundsSchedule,
    geometric_rounds,
)

__version__ = "0.1.0"

__all__ = [
    "Block",
    "Choice",
    "Column",
    "ConstantSchedule",
    "CosineSchedule",
    "Element",
    "ExponentialSchedule",
    "Global",
    "Hold",
    "LinearSchedule",
    "Masks",
    "OneShotSchedule",
    "PerRow",
    "PerTensor",
    "PolynomialSchedule",
    "Pruner",
    "Regrow",
    "Report",
    "RoundsSchedule",
    "Row",
    "Timing",
    "Window",
    "apply",
    "criteria",
    "erk",
    "geometric_rounds",
    "hold",
    "lamp",
    "latencies",
    "measure",
    "prunable",
    "prune",
    "select",
    "stats",
    "uniform",
]
