"""Prune neural networks and prove what the pruning bought.

Weights -> scores -> masks -> training under masks -> measured report. The names below are the public interface;
see the guide in ``docs/guide.md``. Each is imported on first use, so that what runs a packed model needs no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secateur.choose import criteria, stats
    from secateur.choose.chains import Chain, Dead, chains, drop_dead
    from secateur.choose.criteria.magnitude import lamp
    from secateur.choose.granularity import Block, Column, Element, Row
    from secateur.choose.oneshot import prune
    from secateur.choose.scope import Global, PerRow, PerTensor, Window, erk, scaled, uniform
    from secateur.choose.selection import Choice, select
    from secateur.choose.targets import prunable, register
    from secateur.engine.accelerating import Acceleration, accelerate, acceleration
    from secateur.engine.engine import Engine, compile  # noqa: A004
    from secateur.graph import Coupling, couple
    from secateur.masks import Masks, apply
    from secateur.measure import Report, Sensitivity, Timing, latencies, measure, sensitivity
    from secateur.measure.budget import prune_units
    from secateur.measure.speeds import LayerTimes, layer_times
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
    "Acceleration",
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
    "Engine",
    "ExponentialSchedule",
    "Freeze",
    "Global",
    "Hold",
    "LayerTimes",
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
    "accelerate",
    "acceleration",
    "apply",
    "chains",
    "codebooks",
    "compile",
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
    "layer_times",
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

# Where each name comes from; the imports above say the same to type checkers.
_NAMES_OF_MODULES = {
    "choose": "criteria stats",
    "choose.chains": "Chain Dead chains drop_dead",
    "choose.criteria.magnitude": "lamp",
    "choose.granularity": "Block Column Element Row",
    "choose.oneshot": "prune",
    "choose.scope": "Global PerRow PerTensor Window erk scaled uniform",
    "choose.selection": "Choice select",
    "choose.targets": "prunable register",
    "engine.accelerating": "Acceleration accelerate acceleration",
    "engine.engine": "Engine compile",
    "graph": "Coupling couple",
    "masks": "Masks apply",
    "measure": "Report Sensitivity Timing latencies measure sensitivity",
    "measure.budget": "prune_units",
    "measure.speeds": "LayerTimes layer_times",
    "pack.container": "Packed read_index",
    "pack.csr": "to_csr",
    "pack.packing": "pack",
    "pack.unpacking": "unpack",
    "shrink": "Shrinkage UnitChoice manifest rebuild shrink shrinkage unit_weights",
    "train.distill": "distillation",
    "train.dropout": "Dropouts",
    "train.freeze": "Freeze freeze pruned_layers",
    "train.hold": "Hold hold",
    "train.pruner": "Pruner",
    "train.recalibrate": "recalibrate",
    "train.regrow": "Regrow",
    "train.regularize": "penalty",
    "train.rewind": "rewind",
    "train.schedules": "ChainSchedule ConstantSchedule CosineSchedule ExponentialSchedule LinearSchedule "
    "OneShotSchedule PolynomialSchedule RoundsSchedule Schedule geometric_rounds",
    "train.share": "Codebooks Sharing codebooks share",
    "vocabulary": "Scores Weights",
}
_HOMES = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names.split()}


def _found(name: str) -> object:
    """Return what ``from HOME import name`` gives, or the submodule of that name."""
    if name not in _HOMES:
        return import_module(f"{__name__}.{name}")
    return getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)


class _Package(ModuleType):
    """This module: public names, and submodules, are imported when they are first asked for, and then kept."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value: object = _found(name)
        except ModuleNotFoundError as error:
            if error.name == f"{__name__}.{name}":
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
            if error.name != "torch":
                raise
            from secateur.vocabulary import MissingExtraError

            text = f"secateur.{name} needs torch, which is not installed here: `pip install secateur` brings it"
            raise MissingExtraError(text, name="torch") from error
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # An import of secateur.shrink ends with setting that name here; it belongs to the function.
        if name in _HOMES and isinstance(value, ModuleType) and value.__name__ == f"{__name__}.{name}":
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})

    def __reduce__(self) -> tuple[object, tuple[str]]:
        # Pickled by name where others pickle modules by their exact type, as joblib does for a script's functions.
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _Package
