"""How the arguments of a call hold the inputs of a plan, and how its outputs make the result.

Both are told as a small tree, which JSON can hold. A tree is a dict with one of these keys:

========== ======================================================================================
value      the name of a value; beside it may stand ``"merged": true``: an array [batch * n, ...] is
           the value [n, ...] of each sample
tuple      a list of trees
list       a list of trees
dict       trees by name
constant   None, a bool, a number or a string; an argument must be the same
ignored    true; an argument that may be anything, because nothing depends on it
========== ======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from secateur.vocabulary import SecateurError

__all__ = ["ArgumentsError", "check_tree", "gathered", "leaves", "structured"]

MAX_DEPTH = 50


class ArgumentsError(SecateurError, TypeError):
    """A plan was called with other arguments than the model's example had."""


def leaves(tree: Mapping[str, Any]) -> Iterator[str]:
    """Return the names of the values in a tree, in order.

    Example:
        >>> list(leaves({"tuple": [{"value": "a"}, {"dict": {"k": {"value": "b"}}}]}))
        ['a', 'b']
    """
    if "value" in tree:
        yield tree["value"]
    for each in _inner(tree):
        yield from leaves(each)


def check_tree(tree: Any, depth: int = 0) -> None:
    """Refuse what is no tree.

    Raises:
        ValueError: saying what is wrong.
    """
    if not isinstance(tree, Mapping) or depth > MAX_DEPTH:
        raise ValueError("an argument or result is described by no tree, or one that is too deep")
    if not _fits(tree):
        raise ValueError(f"an argument or result is described by a tree with the keys {sorted(map(str, tree))[:5]}")
    for each in _inner(tree):
        check_tree(each, depth + 1)


def _fits(tree: Mapping[str, Any]) -> bool:
    keys = set(tree)
    if "value" in keys:
        return isinstance(tree["value"], str) and keys <= {"value", "merged"} and tree.get("merged", True) is True
    if len(keys) != 1:
        return False
    key, content = next(iter(tree.items()))
    if key == "dict":
        return isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if key in ("tuple", "list"):
        return isinstance(content, list)
    if key == "constant":
        return type(content) in (type(None), bool, int, float, str)
    return key == "ignored" and content is True


def _inner(tree: Mapping[str, Any]) -> list[Any]:
    if "dict" in tree:
        return list(tree["dict"].values())
    found: list[Any] = tree.get("tuple", tree.get("list", []))
    return found


def structured(tree: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """Return the result of a call: what the model would have returned, of arrays.

    Args:
        tree: the ``structure`` of a plan.
        outputs: arrays [batch, *shape] by name.

    Example:
        >>> structured({"dict": {"logits": {"value": "y"}, "loss": {"constant": None}}}, {"y": 7})
        {'logits': 7, 'loss': None}
    """
    if "value" in tree:
        array = outputs[tree["value"]]
        return array.reshape(-1, *array.shape[2:]) if "merged" in tree else array
    if "dict" in tree:
        return {name: structured(each, outputs) for name, each in tree["dict"].items()}
    if "tuple" in tree:
        return tuple(structured(each, outputs) for each in tree["tuple"])
    if "list" in tree:
        return [structured(each, outputs) for each in tree["list"]]
    return tree.get("constant")


def gathered(arguments: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a plan, by name, out of the arguments of a call.

    Args:
        arguments: the ``arguments`` of a plan: under "args" pairs of a name and a tree, under "kwargs" trees by name.
        args: arguments by position; those of the example may also be given by their names.
        kwargs: arguments by name.

    Raises:
        ArgumentsError: an argument is missing, unknown, or of another structure than in the example.

    Example:
        >>> gathered({"args": [["x", {"value": "a"}]], "kwargs": {"flag": {"constant": True}}}, (7,), {"flag": True})
        {'a': 7}
    """
    trees = dict(arguments["args"])
    given = dict(zip(trees, args, strict=False))
    if len(args) > len(trees) or given.keys() & kwargs.keys():
        raise ArgumentsError(
            f"called with {len(args)} arguments by position; the example had {', '.join(trees) or 'none'}"
        )
    trees |= arguments["kwargs"]
    given |= kwargs
    if given.keys() != trees.keys():
        missing, unknown = trees.keys() - given.keys(), given.keys() - trees.keys()
        raise ArgumentsError(
            f"called without {sorted(missing)} and with {sorted(unknown)}; the example had {list(trees)}"
        )
    found: dict[str, Any] = {}
    for name, tree in trees.items():
        _collect(tree, given[name], name, found.__setitem__)
    return found


def _collect(tree: Mapping[str, Any], given: Any, place: str, put: Callable[[str, Any], None]) -> None:
    if "value" in tree:
        put(tree["value"], given)
    elif "constant" in tree:
        if type(given) is not type(tree["constant"]) or given != tree["constant"]:
            raise ArgumentsError(
                f"{place} is {given!r}; the plan was made with {tree['constant']!r}, and for that only"
            )
    elif "dict" in tree:
        if not isinstance(given, Mapping) or given.keys() != tree["dict"].keys():
            raise ArgumentsError(f"{place} is not a dict with the keys {sorted(tree['dict'])}, as in the example")
        for name, each in tree["dict"].items():
            _collect(each, given[name], f"{place}[{name!r}]", put)
    elif "ignored" not in tree:
        inner = _inner(tree)
        if not isinstance(given, tuple | list) or len(given) != len(inner):
            raise ArgumentsError(f"{place} is not a {next(iter(tree))} of {len(inner)}, as in the example")
        for number, each in enumerate(inner):
            _collect(each, given[number], f"{place}[{number}]", put)
