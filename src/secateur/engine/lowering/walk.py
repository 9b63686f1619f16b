"""One pass over an exported graph: what depends on the inputs becomes operators, all else is computed now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx

from secateur.engine.lowering.batch import Batch, Fixed, Live, Refused, between, is_live, located
from secateur.engine.lowering.building import Builder, Constant
from secateur.engine.plan import Value
from secateur.engine.plan.values import Array, Shape
from secateur.graph.walk import operation, place
from secateur.vocabulary import SecateurError

__all__ = ["Call", "Rule", "UnsupportedError", "Walk", "bound", "rule_of", "under"]


class UnsupportedError(SecateurError, NotImplementedError):
    """A model does what the engine has no operator for; the text names each such operation and its place."""


@dataclass(frozen=True)
class Call:
    """One operation of the graph: its arguments by the names they have in torch, defaults included.

    Attributes:
        name: of the operation, without its overload.
        given: the arguments: :class:`Live` and :class:`Fixed` tensors, numbers, lists of them.
        shape: of the result, if it is one tensor.
        dtype: of the result, if it is one tensor.
        where: the path of the module it belongs to.
    """

    name: str
    given: Mapping[str, Any]
    shape: Shape
    dtype: torch.dtype
    where: str

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument, or ``default`` if there is none of this name."""
        return self.given.get(name, default)


Rule: TypeAlias = "Callable[[Walk, Call], Any]"


def under(rule: Rule, *names: str) -> dict[str, Rule]:
    """Return a rule under each of its names."""
    return dict.fromkeys(names, rule)


def rule_of(rules: Mapping[str, Rule], node: fx.Node) -> Rule | None:
    """Return the rule of an operation, which is the same in place."""
    name = operation(node)
    return rules.get(name) or rules.get(name.removesuffix("_"))


class Walk:
    """What rules read and write while a graph is lowered.

    Args:
        rules: by name of the operation.
        samples: how many of them the example has.
    """

    def __init__(self, rules: Mapping[str, Rule], samples: int) -> None:
        self.builder = Builder()
        self.samples = samples
        self.known: dict[fx.Node, Any] = {}
        self.refusals: dict[str, None] = {}
        self._rules = rules

    # -- running ---------------------------------------------------------------------------------------------------

    def take(self, node: fx.Node, name: str) -> str:
        """Take a placeholder as an input of the plan, its first axis the batch; return the name of the value."""
        tensor = node.meta["val"]
        shape, whole = tuple(tensor.shape), not (tensor.is_floating_point() or tensor.dtype == torch.bool)
        value = Value(shape[1:], "I64" if whole else "F32")
        name = self.builder.declare(name, value)
        self.known[node] = Live(name, shape, Batch(0, 1, 1, self.samples), tensor.dtype, value)
        return name

    def call(self, node: fx.Node) -> None:
        """Lower one operation; what cannot be lowered is noted, and an unknown value stands for it from here on."""
        args, kwargs = self._held(node.args), self._held(dict(node.kwargs))
        if operation(node) == "getitem":
            found = args[0][args[1]]
            if found is None and node.users:
                # A rule leaves out what is seldom read: the places of a maximum, statistics of a norm.
                self.refuse(node.args[0], f"its result number {args[1]}")  # type: ignore[arg-type]
                found = self._unknown(node)
            self.known[node] = found
            return
        try:
            self.known[node] = self._result(node, args, kwargs)
        except Refused as refused:
            self.refuse(node, str(refused))
            self.known[node] = self._unknown(node)

    def _result(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        name = operation(node)
        rule = rule_of(self._rules, node)
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and rule is None:
            raise Refused("chance")
        if not is_live(args) and not is_live(list(kwargs.values())):
            return _computed(node.target(*_tensors(args), **_tensors(kwargs)))  # type: ignore[operator]
        if rule is None:
            raise Refused("")
        value = node.meta.get("val")
        shape, dtype = (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else ((), torch.float32)
        where = "" if place(node) == "the model itself" else place(node)
        try:
            result = rule(self, Call(name, bound(node, args, kwargs), shape, dtype, where))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise Refused(f"used in an unusual way ({type(error).__name__}: {error})") from error
        if isinstance(result, Live) and isinstance(value, Tensor) and result.shape != shape:
            raise Refused(f"its result has the shape {result.shape}, where torch has {shape}")
        if name.endswith("_") and not name.endswith("__"):
            # In place: whatever reads the operand from here on reads the result.
            self.known[node.args[0]] = result  # type: ignore[index]
        return result

    def refuse(self, node: fx.Node, why: str) -> None:
        """Note an operation that cannot be lowered."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        kind = stack[-1][1] if stack else ""
        kind = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
        forward = f" (forward of {kind.rpartition('.')[2]})" if kind else ""
        name = operation(node).strip("_") or operation(node)
        self.refusals[f"aten.{name} at {place(node)}{forward}" + (f": {why}" if why else "")] = None

    def _held(self, thing: Any) -> Any:
        """Return arguments with what is known in place of nodes."""
        if isinstance(thing, fx.Node):
            return self.known[thing]
        if isinstance(thing, dict):
            return {name: self._held(each) for name, each in thing.items()}
        return [self._held(each) for each in thing] if isinstance(thing, list | tuple) else thing

    def _unknown(self, node: fx.Node) -> Any:
        """Return values of the right shapes, so that what reads them can be looked at too."""
        return torch.utils._pytree.tree_map(self._stand_in, node.meta.get("val"))

    def _stand_in(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        shape = tuple(value.shape)
        dim = next((d for d, size in enumerate(shape) if size and size % self.samples == 0), None)
        if dim is None:
            return Fixed(torch.zeros(shape, dtype=value.dtype))
        batch = Batch(dim, 1, shape[dim] // self.samples, self.samples)
        own = Value(batch.sample(shape))
        return Live(self.builder.declare("unknown", own), shape, batch, value.dtype, own)

    # -- for the rules ---------------------------------------------------------------------------------------------

    def emit(
        self,
        call: Call,
        kind: str,
        inputs: Sequence[Live | str],
        attributes: Mapping[str, Any] | None = None,
        constants: Mapping[str, Constant] | None = None,
    ) -> str:
        """Add an operator and return the name of what it writes."""
        names = [each.name if isinstance(each, Live) else each for each in inputs]
        return self.builder.add(kind, names, attributes or {}, constants or {}, call.where)

    def live(self, name: str, shape: Sequence[int], batch: Batch, dtype: torch.dtype = torch.float32) -> Live:
        """Return what is known of a value that was just written.

        Raises:
            Refused: one sample of a tensor of this shape is not what the value is.
        """
        value = self.builder.values[name]
        if batch.sample(shape) != value.shape:
            raise Refused(f"one sample is {value.shape}, not {batch.sample(shape)}")
        return Live(name, tuple(shape), batch, dtype, value)

    def reshaped(self, call: Call, x: Live, shape: Sequence[int]) -> Live:
        """Lay out a tensor in another shape; its numbers stay in order.

        Raises:
            Refused: samples would end up together.
        """
        batch = located(shape, between(x), self.samples)
        return self.live(self.shaped(call, x.name, batch.sample(shape)), shape, batch, x.dtype)

    def shaped(self, call: Call, name: str, shape: Shape) -> str:
        """Lay out the samples of a value in another shape."""
        if self.builder.values[name].shape == shape:
            return name
        return self.emit(call, "reshape", [name], {"shape": tuple(shape)})

    def floats(self, call: Call, x: Live) -> Live:
        """Return a tensor whose value is F32."""
        if x.value.dtype == "F32":
            return x
        return self.live(self.emit(call, "cast", [x]), x.shape, x.batch, x.dtype)

    def filled(self, call: Call, array: Array) -> str:
        """Return a value that is the same for every sample."""
        return self.emit(call, "constant", [], {}, {"value": (np.asarray(array), "")})


def _tensors(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {name: _tensors(each) for name, each in thing.items()}
    if isinstance(thing, list):
        return [_tensors(each) for each in thing]
    return thing.tensor if isinstance(thing, Fixed) else thing


def _computed(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_computed(each) for each in value]
    return Fixed(value.cpu()) if isinstance(value, Tensor) else value


def bound(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {str(number): each for number, each in enumerate(args)} | dict(kwargs)
    given = {each.name: each.default_value for each in schema.arguments if each.has_default_value()}
    given |= {each.name: value for each, value in zip(schema.arguments, args, strict=False)}
    return given | dict(kwargs)
