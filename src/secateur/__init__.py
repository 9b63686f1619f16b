"""Prune neural networks and prove what the pruning bought.

Weights -> scores -> masks -> training under masks -> measured report. The names below are the public interface;
see the guide in ``docs/guide.md``.
"""

from secateur.choose import criteria, stats
from secateur.choose.chains import Chain, Dead, chains, drop_dead
from secateur.choose.criteria.magnitude import lamp
from secateur.choose.granularity import Block, Column, Element, Row
from secateur.choose.oneshot import prune
from secateur.choose.scope import Global, PerRow, PerTensor, Window, erk, scaled, uniform
from secateur.choose.selection import Choice, select
from secateur.choose.targets import prunable, register
from secateur.graph import Coupling, couple
from secateur.masks import Masks, apply
from secateur.measure import Report, Sensitivity, Timing, latencies, measure, sensitivity
from secateur.measure.budget import prune_units
from secateur.pack.container import Packed, read_index
from secateur.pack.csr import to_csr
from secateur.pack.packing import pack
from secateur.pack.unpacking import unpack
from secateur.shrink import Shrinkage, UnitChoice, manifest, rebuild, shrink, shrinkage, unit_weights
from secateur.train.distill import distillation
from secateur.train.dropout import Dropouts
from secateur.train.freeze import Freeze, freeze, pruned_layers
from secateur.train.hold import Hold, hold
from secateur.train.pruner import Pruner
from secateur.train.recalibrate import recalibrate
from secateur.train.regrow import Regrow
from secateur.train.regularize import penalty
from secateur.train.rewind import rewind
from secateur.train.schedules import (
    ChainSchedule,
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    LinearSchedule,
    OneShotSchedule,
    PolynomialSchedule,
    RoundsSchedule,
    Schedule,
    geometric_rounds,
)
from secateur.train.share import Codebooks, Sharing, codebooks, share
from secateur.vocabulary import Scores, Weights

__version__ = "0.1.0"

__all__ = [
    "Block",
    "Chain",
    "ChainSchedule",
    "Choice",
    "Codebooks",
    "Column",
    "ConstantSchedule",
    "CosineSchedule",
    "Coupling",
    "Dead",
    "Dropouts",
    "Element",
    "ExponentialSchedule",
    "Freeze",
    "Global",
    "Hold",
    "LinearSchedule",
    "Masks",
    "OneShotSchedule",
    "Packed",
    "PerRow",
    "PerTensor",
    "PolynomialSchedule",
    "Pruner",
    "Regrow",
    "Report",
    "RoundsSchedule",
    "Row",
    "Schedule",
    "Scores",
    "Sensitivity",
    "Sharing",
    "Shrinkage",
    "Timing",
    "UnitChoice",
    "Weights",
    "Window",
    "apply",
    "chains",
    "codebooks",
    "couple",
    "criteria",
    "distillation",
    "drop_dead",
    "erk",
    "freeze",
    "geometric_rounds",
    "hold",
    "lamp",
    "latencies",
    "manifest",
    "measure",
    "pack",
    "penalty",
    "prunable",
    "prune",
    "prune_units",
    "pruned_layers",
    "read_index",
    "rebuild",
    "recalibrate",
    "register",
    "rewind",
    "scaled",
    "select",
    "sensitivity",
    "share",
    "shrink",
    "shrinkage",
    "stats",
    "to_csr",
    "uniform",
    "unit_weights",
    "unpack",
]
