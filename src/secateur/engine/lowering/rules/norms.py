"""Norms that are computed from the values themselves."""

from __future__ import annotations

from typing import Any

import torch

from secateur.engine.lowering.batch import Live, Refused
from secateur.engine.lowering.building import Constant
from secateur.engine.lowering.rules.layers import standardized
from secateur.engine.lowering.walk import Call, Rule, Walk, under

__all__ = ["RULES"]


def _constants(given: dict[str, Any]) -> dict[str, Constant]:
    if any(isinstance(each, Live) for each in given.values()):
        raise Refused("weights that depend on the input")
    return {role: (each.array(), each.name) for role, each in given.items() if each is not None}


def _layer_norm(walk: Walk, call: Call) -> Any:
    """LayerNorm and RMSNorm, over the last axes."""
    x = _x(walk, call)
    count = len(call["normalized_shape"])
    for dim in range(-count, 0):
        x.axis(dim)
    rms = "rms" in call.name
    # Where none is given, it is that of the type.
    eps = torch.finfo(x.dtype).eps if call["eps"] is None else call["eps"]
    constants = _constants({"weight": call["weight"]} | ({} if rms else {"bias": call["bias"]}))
    name = walk.emit(call, "rms_norm" if rms else "layer_norm", [x], {"axes": count, "eps": float(eps)}, constants)
    y = walk.live(name, x.shape, x.batch)
    return [y, None, None] if call.name.startswith("native") else y


def _group_norm(walk: Walk, call: Call) -> Any:
    x = _x(walk, call)
    groups = call.get("num_groups", call.get("group"))
    y = _grouped(walk, call, x, groups, float(call["eps"]))
    return [y, None, None] if call.name.startswith("native") else y


def _instance_norm(walk: Walk, call: Call) -> Live:
    """A group for each channel; with statistics of its own, a factor and a shift."""
    x = _x(walk, call)
    if call["use_input_stats"]:
        return _grouped(walk, call, x, x.shape[1], float(call["eps"]))
    given = [call[name] for name in ("running_mean", "running_var", "weight", "bias")]
    if any(isinstance(each, Live) for each in given) or given[0] is None:
        raise Refused("weights that depend on the input")
    return standardized(walk, call, x, given)


def _grouped(walk: Walk, call: Call, x: Live, groups: int, eps: float) -> Live:
    if not x.plain:
        raise Refused("it mixes samples of a batch")
    constants = _constants({"weight": call["weight"], "bias": call["bias"]})
    name = walk.emit(call, "group_norm", [x], {"groups": groups, "eps": eps}, constants)
    return walk.live(name, x.shape, x.batch)


def _x(walk: Walk, call: Call) -> Live:
    x = call["input"]
    if not isinstance(x, Live):
        raise Refused("weights that depend on the input")
    return walk.floats(call, x)


RULES: dict[str, Rule] = {
    **under(_layer_norm, "layer_norm", "native_layer_norm", "rms_norm"),
    **under(_group_norm, "group_norm", "native_group_norm"),
    **under(_instance_norm, "instance_norm"),
}
