"""From a model and an example to an exported program with a chosen number of samples, of known operations only."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.graph.following import arguments, trace
from secateur.graph.walk import operation
from secateur.vocabulary import SecateurError

__all__ = ["ExampleError", "Leaf", "leaves", "program", "repeated", "sizes", "tree"]

# Operations whose result has the shape of an operand, and nothing else of it.
LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
ROUNDS = 5  # of decompositions, which bring operations that may have one themselves


class ExampleError(SecateurError, ValueError):
    """An example that does not say what one sample is."""


@dataclass(frozen=True)
class Leaf:
    """One tensor or plain value among the arguments of the example, and the name of its place."""

    place: str
    value: Any


def leaves(model: nn.Module, example: Any) -> list[Leaf]:
    """Return what the arguments of the example hold, in the order in which a graph takes it."""
    return [leaf for _, argument, name in _arguments(model, example) for leaf in _leaves(argument, name)]


def tree(model: nn.Module, example: Any, names: Iterator[str | None]) -> dict[str, Any]:
    """Return how the arguments of a call hold the inputs of the plan.

    Args:
        model: whose forward names them.
        example: one call.
        names: for every leaf in order, the name of the input of the plan, or None if it is none.
    """
    found: dict[str, Any] = {"args": [], "kwargs": {}}
    for by_name, argument, name in _arguments(model, example):
        described = _described(argument, names)
        if by_name:
            found["kwargs"][name] = described
        else:
            found["args"].append([name, described])
    return found


def _arguments(model: nn.Module, example: Any) -> Iterator[tuple[bool, Any, str]]:
    args, kwargs = arguments(example)
    parameters = list(inspect.signature(model.forward).parameters.values())
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    for number, argument in enumerate(args):
        yield False, argument, names[number] if number < len(names) else f"argument {number}"
    for name, argument in kwargs.items():
        yield True, argument, name


def _leaves(argument: Any, place: str) -> Iterator[Leaf]:
    if isinstance(argument, dict):
        for name, each in argument.items():
            yield from _leaves(each, f"{place}[{name!r}]")
    elif isinstance(argument, list | tuple):
        for number, each in enumerate(argument):
            yield from _leaves(each, f"{place}[{number}]")
    elif argument is None or isinstance(argument, Tensor | bool | int | float | str):
        yield Leaf(place, argument)
    else:
        raise ExampleError(
            f"the argument {place} is a {type(argument).__name__}; known are tensors, numbers, texts, None"
        )


def _described(argument: Any, names: Iterator[str | None]) -> dict[str, Any]:
    if isinstance(argument, dict):
        return {"dict": {name: _described(each, names) for name, each in argument.items()}}
    if isinstance(argument, list | tuple):
        return {"list" if isinstance(argument, list) else "tuple": [_described(each, names) for each in argument]}
    name = next(names)
    if isinstance(argument, Tensor):
        return {"ignored": True} if name is None else {"value": name}
    return {"constant": argument}


def sizes(found: list[Leaf]) -> tuple[int, list[int]]:
    """Return the samples of an example and two other numbers of samples, that are no size of an axis in it.

    Raises:
        ExampleError: it has no tensor with a batch axis.
    """
    tensors = [leaf.value for leaf in found if isinstance(leaf.value, Tensor)]
    batches = [len(tensor) for tensor in tensors if tensor.ndim]
    if not batches or not batches[0]:
        raise ExampleError(
            "the example has no tensor with samples along its first axis, so that there is nothing to run"
        )
    taken = {size for tensor in tensors for size in tensor.shape[1:]}
    free = (n for n in itertools.count(5, 2) if n not in taken and all(n % d for d in range(3, n, 2)))
    return batches[0], [next(free), next(free)]


def repeated(example: Any, samples: int, wanted: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an example with another number of samples, those it has again and again."""

    def again(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or len(leaf) != samples:
            return leaf
        return leaf.index_select(0, torch.arange(wanted, device=leaf.device) % samples)

    args, kwargs = pytree.tree_map(again, arguments(example))
    return args, kwargs


def program(model: nn.Module, args: Any, kwargs: Any, known: Callable[[fx.Node], bool]) -> Any:
    """Return the exported program of a model, with operations that are not ``known`` taken apart where torch can.

    Raises:
        TraceError: it cannot be exported.
    """
    found = trace(model, args, kwargs)
    for _ in range(ROUNDS):
        missing = {node.target for node in _live(found) if not known(node)}
        # Where torch knows no other way, the operation is left, and named when it is lowered.
        every = _decompositions() if missing else {}
        table = {op: every[op] for op in missing if op in every}
        if not table and not _needs_functions(found):
            break
        found = found.run_decompositions(table)
    return found


def _decompositions() -> Any:
    newer = getattr(torch.export, "default_decompositions", None)
    return newer() if newer is not None else torch._decomp.core_aten_decompositions()


def _live(found: Any) -> list[fx.Node]:
    """Return the operations that depend on what the inputs hold."""
    given = set(found.graph_signature.user_inputs)
    reached: set[fx.Node] = set()
    for node in found.graph.nodes:
        if node.op == "placeholder":
            live = node.name in given
        else:
            live = operation(node) not in LIKE and any(each in reached for each in node.all_input_nodes)
        if live:
            reached.add(node)
    return [node for node in found.graph.nodes if node in reached and node.op == "call_function"]


def _needs_functions(found: Any) -> bool:
    """Say if an operation writes in place to what something else may see.

    What was just computed by an operation of its own, for this reader alone, nobody else can see.
    """
    for node in found.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        if operation(node) == "dropout_" and node.args[2:] == (False,):
            continue
        written = node.args[0] if node.args else None
        alone = isinstance(written, fx.Node) and list(written.users) == [node] and written.op == "call_function"
        if not alone or _views(written) or not operation(node).endswith("_"):
            return True
    return False


def _views(node: Any) -> bool:
    """Say if what an operation returns may share the memory of what it reads."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or any(each.alias_info is not None for each in schema.returns):
        return True
    # A BatchNorm is marked for the statistics it writes in training.
    return torch.Tag.maybe_aliasing_or_mutating in node.target.tags and operation(node) != "batch_norm"
