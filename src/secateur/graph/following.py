"""Which units of a network are coupled: followed through the graph that ``torch.export`` makes of it.

Every activation carries a label for each of its elements: the unit it belongs to. Reshapes, permutations, slices and
concatenations are run on the labels as they are on the values; sums and products unite labels element by element;
layers read the labels along one axis and write new ones. An operation without a rule pins what it reads, so that it is
left whole, and is named.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from secateur.graph import attention, combining, einsum, layers, moving, norms
from secateur.graph.coupling import Coupling
from secateur.graph.walk import Rule, Walk
from secateur.modules import in_eval_mode, refuse_keras, unwrap
from secateur.silence import silence
from secateur.vocabulary import SecateurError, first_line

__all__ = ["TraceError", "couple", "trace"]

_RULES: dict[str, Rule] = moving.RULES | combining.RULES | layers.RULES | norms.RULES | attention.RULES | einsum.RULES


class TraceError(SecateurError, ValueError):
    """``torch.export`` cannot make a graph of a model; the text says where."""


def couple(model: nn.Module, example: Any) -> Coupling:
    """Follow the units of a network from the weights that write them to those that read them.

    Args:
        model: any module that ``torch.export`` can trace; it is looked at in eval mode, and not changed.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name.

    Returns:
        the coupling, which prints as a table. What cannot be followed is named there, and its units are pinned.

    Raises:
        TraceError: the model cannot be traced.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> print(couple(net, torch.zeros(1, 4)))
        units  written by  read by   left whole because
        -----  ----------  --------  ----------------------
        8      0.weight    2.weight
        2      2.weight    -         an output of the model
    """
    refuse_keras(model, "couple", inside=True)
    model = unwrap(model)
    args, kwargs = arguments(example)
    with in_eval_mode(model), torch.no_grad():
        program = trace(model, args, kwargs)
        walk = Walk(model, _RULES)
        walk.run(program, pytree.tree_leaves((args, kwargs)))
    return walk.result()


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and named inputs that an example stands for.

    Example:
        >>> arguments({"x": 1})
        ((), {'x': 1})
    """
    if isinstance(example, dict):
        return (), dict(example)
    return (example if isinstance(example, tuple) else (example,)), {}


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the exported program of a model in eval mode.

    Raises:
        TraceError: it cannot be exported.
    """
    try:
        with silence():  # of what it raises it also prints a traceback or a graph
            return torch.export.export(model, args, kwargs or None)
    except Exception as error:
        raise TraceError(f"torch.export cannot trace {type(model).__name__}: {first_line(error)}") from error
