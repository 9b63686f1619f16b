"""A plan, run by the reference, gives what torch gives in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import reference
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secateur.engine.lowering import lower
from secateur.engine.plan import Plan, check, from_json, gathered, structured, to_json

TOLERANCE = 1e-6


def lowered(model: nn.Module, example: Any) -> Plan:
    """Return the plan of a model in float32, after a trip through JSON; its outputs are compared with torch's."""
    model = model.float()
    modes = [module.training for module in model.modules()]
    narrow = pytree.tree_map(lambda leaf: leaf.float() if _floats(leaf) else leaf, example)
    plan = lower(model, narrow)
    assert [module.training for module in model.modules()] == modes
    check(plan)
    plan = from_json(to_json(plan), plan.constants)
    wide = copy.deepcopy(model).double().eval()
    for samples in (1, 3):
        args, kwargs = other(example, samples)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad():
                wanted = wide(*args, **kwargs)
        finally:
            torch.set_default_dtype(torch.float32)
        assert difference(wanted, computed(plan, args, kwargs)) < TOLERANCE
    return plan


def _floats(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def other(example: Any, samples: int) -> tuple[Any, Any]:
    """Return arguments like those of an example, with other numbers and another number of samples."""

    def fresh(leaf: Any) -> Any:
        if _floats(leaf):
            return torch.randn(samples, *leaf.shape[1:], dtype=torch.float64)
        return leaf[torch.randint(len(leaf), (samples,))] if isinstance(leaf, Tensor) else leaf

    arguments = (
        ((), example) if isinstance(example, dict) else (example if isinstance(example, tuple) else (example,), {})
    )
    args, kwargs = pytree.tree_map(fresh, arguments)
    return args, kwargs


def computed(plan: Plan, args: Any, kwargs: Any) -> Any:
    """Return the result of a call of a plan, of arrays."""
    args, kwargs = pytree.tree_map(lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf, (args, kwargs))
    return structured(plan.structure, reference.run(plan, gathered(plan.arguments, args, kwargs)))


def difference(wanted: Any, found: Any) -> float:
    """Return the largest difference between two results, as a share of the largest number in each tensor."""
    assert _outline(wanted) == _outline(found)
    worst = 0.0
    tensors = [leaf for leaf in pytree.tree_leaves(_plain(wanted)) if isinstance(leaf, Tensor)]
    arrays = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, np.ndarray)]
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tensor.shape == array.shape
        scale = float(tensor.abs().max())
        assert scale > 0, "a test that compares zeros"
        worst = max(worst, float(np.abs(tensor.numpy() - array).max()) / scale)
    return worst


def _plain(thing: Any) -> Any:
    """Return a result with plain dicts, as plans give."""
    if isinstance(thing, dict):
        return {name: _plain(each) for name, each in thing.items()}
    return thing


def _outline(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {name: _outline(each) for name, each in thing.items()}
    if isinstance(thing, list | tuple):
        return [_outline(each) for each in thing]
    return "array" if isinstance(thing, Tensor | np.ndarray) else thing


def kinds(plan: Plan) -> list[str]:
    """Return the kinds of the operators of a plan, in order; how they work for those that do several things."""
    return [
        str(op.attributes.get("how", op.kind)) if op.kind in ("unary", "binary", "reduce") else op.kind
        for op in plan.ops
    ]
