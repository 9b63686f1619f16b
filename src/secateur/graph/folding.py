"""Where a layer's constants can be moved to: what is added right behind it, or taken away."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from secateur.graph.flow import Flow
from secateur.graph.walk import Walk, operation

__all__ = ["WITH_BIAS", "fold_of"]

WITH_BIAS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # a bias may be made for these if they have none

_COPIES = ("to", "_to_copy", "contiguous", "clone", "alias", "detach")
_MOVES = frozenset((*_COPIES, "permute", "transpose", "t", "movedim", "view", "reshape", "unsqueeze"))
_ADDS = frozenset(("add", "add_"))
_TAKES_AWAY = frozenset(("sub", "sub_", "subtract", "subtract_"))


def fold_of(walk: Walk, node: fx.Node, bias: Any, weight: fx.Node) -> tuple[str, int]:
    """Return the tensor that constants a layer reads can be moved into, "" if there is none, and the sign.

    Args:
        walk: that has reached the layer.
        node: the layer.
        bias: its argument.
        weight: its argument.
    """
    if (known := walk.flow(bias)) is not None:
        return (known.name if known.value.ndim == 1 and not known.places and _used_once(bias) else ""), 1
    users = list(node.users)
    if len(users) == 1 and operation(users[0]) == "batch_norm" and users[0].args[0] is node:
        mean: Any = users[0].args[3]
        found = walk.flow(mean)
        own = found is not None and not found.places and _used_once(mean) and not users[0].args[5]
        return (found.name if found is not None and own else ""), -1
    behind, sign = _behind(walk, node)
    if behind is not None:
        return behind.name, sign
    path, _, leaf = walk.flows[weight].name.rpartition(".")
    owner = walk.model.get_submodule(path)
    plain = type(owner) in WITH_BIAS and leaf == "weight" and _used_once(weight)
    return (f"{path}.bias".lstrip(".") if plain and owner.bias is None and not owner._forward_hooks else ""), 1


def _behind(walk: Walk, node: fx.Node) -> tuple[Flow | None, int]:
    """Return the parameter of one axis that alone meets what a layer writes, in a sum or a difference."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        name = operation(user)
        if name in _ADDS | _TAKES_AWAY:
            if user.kwargs or len(user.args) != 2 or (name in _TAKES_AWAY and user.args[0] is not node):
                break
            vector = _vector(walk, user.args[1] if user.args[0] is node else user.args[0])
            return vector, -1 if name in _TAKES_AWAY else 1
        if name not in _MOVES or user.args[0] is not node:
            break
        node = user
    return None, 1


def _vector(walk: Walk, node: Any) -> Flow | None:
    """Return the parameter of one axis that an argument is, if nothing else reads it.

    No buffer: those that are not saved would be made anew without what was folded into them.
    """
    while isinstance(node, fx.Node) and _used_once(node):
        flow = walk.flow(node)
        if flow is not None:
            plain = flow.value.ndim == 1 and not flow.places and _is_parameter(walk, flow.name)
            return flow if plain else None
        if operation(node) not in _MOVES:
            return None
        node = node.args[0]
    return None


def _is_parameter(walk: Walk, name: str) -> bool:
    path, _, leaf = name.rpartition(".")
    return bool(leaf) and leaf in walk.model.get_submodule(path)._parameters


def _used_once(node: fx.Node) -> bool:
    return len(node.users) == 1
