"""One pass over an exported graph: every operation is run on the example, and on what is known of its operands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from secateur.graph.coupling import Axis, Coupling, Site, Size, grouped
from secateur.graph.flow import Flow, along, spread
from secateur.graph.places import differing, own_axis, own_sizes
from secateur.graph.units import NONE, Units, none

__all__ = ["Rule", "Walk", "operation", "place"]

Rule: TypeAlias = "Callable[[Walk, fx.Node, Any], Flow | list[Flow]]"


class Walk:
    """What rules read and write while a graph is followed.

    Args:
        model: whose graph it is; its names are those of the result.
        rules: by name of the operation.
    """

    def __init__(self, model: nn.Module, rules: dict[str, Rule]) -> None:
        self.model = model
        self.units = Units()
        self.flows: dict[fx.Node, Any] = {}
        self.sites: list[Site] = []
        self.sizes: list[Size] = []
        self.positions: dict[str, int] = {}
        self._rules = rules
        self._axes: dict[tuple[str, int], tuple[str, Tensor]] = {}
        self._unknown: dict[str, None] = {}
        self._names: set[str] = set()

    # -- running ------------------------------------------------------------------------------------------------

    def run(self, program: Any, inputs: Sequence[Any]) -> None:
        """Follow the graph of an exported program from its inputs to its outputs."""
        bound = self._bind(program, inputs)
        for node in list(program.graph.nodes):
            if operation(node) == "_assert_tensor_metadata":  # it would count as one that reads the value
                program.graph.erase_node(node)
        last = _last_uses(program.graph)
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self.flows[node] = bound[node.name]
            elif node.op == "get_attr":
                self.flows[node] = Flow(attrgetter(node.target)(program.graph_module))
            elif node.op == "call_function":
                self.flows[node] = self._call(node)
            else:
                for flow in self.operands(node):
                    self.pin(flow, "an output of the model")
            for each in last.get(node, ()):
                _forget(self.flows[each])

    def result(self) -> Coupling:
        """Return what was found, units by the sets they ended in."""
        units = {Axis(name, dim, role): self.units.roots(labels) for (name, dim), (role, labels) in self._axes.items()}
        sizes = tuple(replace(size, labels=self.units.roots(size.labels)) for size in self.sizes)
        pinned = self.units.pinned()
        groups, sites = grouped(units, pinned), tuple(self._proved(site, units) for site in self.sites)
        return Coupling(units, groups, pinned, sites, sizes, self.positions, tuple(self._unknown))

    def _proved(self, site: Site, units: dict[Axis, Tensor]) -> Site:
        """Return a site that folds only into what lies along the units it writes."""
        bias = units.get(Axis(site.fold, 0, ""))
        made = bias is None and site.fold not in self._names
        alone = bias is None and len(units[site.writes]) == 1  # a number for the only unit is beside it anyway
        along_units = bias is not None and torch.equal(bias, units[site.writes])
        return site if made or alone or along_units else replace(site, fold="")

    def _bind(self, program: Any, inputs: Sequence[Any]) -> dict[str, Flow]:
        signature = program.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants = {**program.state_dict, **program.constants}
        names = {id(t): name for name, t in reversed([*self.model.named_buffers(), *self.model.named_parameters()])}
        self._names = set(names.values())
        given = iter(inputs)
        bound: dict[str, Flow] = {}
        for spec in signature.input_specs:
            node = spec.arg.name
            if node in stored:
                tensor = attrgetter(stored[node])(self.model)
                # Nothing is trained here, but a buffer may be written to.
                value = tensor.detach() if isinstance(tensor, nn.Parameter) else tensor.detach().clone()
                bound[node] = Flow(value, live=_flags(value, False), name=names.get(id(tensor), stored[node]))
            elif spec.target is not None and spec.target in constants:
                value = constants[spec.target]
                bound[node] = Flow(value, live=_flags(value, False))
            else:
                value = next(given)
                value = value.clone() if isinstance(value, Tensor) else value
                bound[node] = Flow(value, live=_flags(value, True))
        return bound

    def _call(self, node: fx.Node) -> Any:
        values = fx.map_arg((node.args, node.kwargs), lambda each: _values(self.flows[each]))
        value = node.target(*values[0], **values[1])  # type: ignore[operator]
        name = operation(node)
        if name == "getitem":
            return self.flows[node.args[0]][node.args[1]]  # type: ignore[index]
        if not isinstance(value, Tensor | list | tuple):
            return Flow(value)
        rule = self._rules.get(name) or self._rules.get(name.removesuffix("_"))
        if rule is None:
            return self.unknown(node, value)
        found = rule(self, node, value)
        if name.endswith("_") and isinstance(found, Flow):
            # In place: whatever still reads the operand reads the result.
            operand = self.flows[node.args[0]]  # type: ignore[index]
            operand.labels, operand.live = found.labels, found.live
            operand.name, operand.places = found.name, found.places
        return found

    # -- for the rules ------------------------------------------------------------------------------------------

    def flow(self, node: Any) -> Flow | None:
        """Return what is known of an argument, or None if it is no tensor."""
        found = self.flows.get(node) if isinstance(node, fx.Node) else None
        return found if isinstance(found, Flow) and isinstance(found.value, Tensor) else None

    def operands(self, node: fx.Node) -> list[Flow]:
        """Return what is known of all tensors among the arguments of a node."""
        return [flow for each in node.all_input_nodes for flow in _leaves(self.flows[each])]

    def plain(self, node: fx.Node, value: Any) -> Any:
        """Return the flow of a value without units; it depends on the inputs if an operand does."""
        live = any(bool(flow.live.any()) for flow in self.operands(node) if flow.live is not None)
        if isinstance(value, list | tuple):
            return [Flow(each, live=_flags(each, live)) for each in value]
        return Flow(value, live=_flags(value, live))

    def unknown(self, node: fx.Node, value: Any, why: str = "") -> Any:
        """Pin what an operation reads, because it cannot be followed, and name it."""
        reason = f"{why or operation(node)} at {place(node)}"
        labelled = [flow for flow in self.operands(node) if flow.labels is not None]
        stored = [flow for flow in self.operands(node) if flow.name]
        # Constants made of a parameter, such as the angles of rotary positions, are nobody's units.
        live = any(flow.live is not None and bool(flow.live.any()) for flow in self.operands(node))
        if labelled or any(live or not flow.places for flow in stored):
            self._unknown[reason] = None
        for flow in labelled:
            self.pin(flow, reason)
        for flow in stored:
            self.keep(flow)
        return self.plain(node, value)

    def pin(self, flow: Flow, reason: str) -> None:
        """Keep the units of a value whole."""
        if flow.labels is not None:
            self.units.pin(flow.labels.unique().tolist(), reason)

    def keep(self, flow: Flow) -> None:
        """Note that a parameter or buffer holds no units, so that it keeps its size."""
        if flow.name:
            for axis, size in enumerate(own_sizes(flow)):
                self._store(flow.name, axis, "follows", none(size))

    def awake(self, flow: Flow) -> Flow:
        """Give a parameter that is computed with, and has one axis, units of its own: what it meets unites with them.

        Anything else is returned as it is.
        """
        dims = [dim for dim, size in enumerate(flow.shape) if size > 1]
        if not flow.name or flow.labels is not None or len(dims) != 1:
            return flow
        labels = self.units.new(flow.shape[dims[0]])
        self.store(flow, dims[0], "follows", labels)
        return Flow(flow.value, spread(labels, dims[0], flow.value.ndim), flow.live)

    def store(self, flow: Flow, dim: int, role: str, labels: Tensor) -> None:
        """Note which unit each index along an axis of a parameter or buffer holds.

        What is used twice holds the same both times. Of an axis that several of the parameter's own became, the units
        are those of one of these, and the others keep their size.
        """
        axis = own_axis(flow, dim)
        if axis is not None:
            self._store(flow.name, axis, role, labels)
            return
        sizes, axes = own_sizes(flow), differing(flow, dim)
        if any(flow.places[axis].numel() > flow.shape[dim] for axis in axes):
            self.units.pin(labels.tolist(), f"{flow.name} is rearranged")
            self.keep(flow)
            return
        laid_out = {axis: none(sizes[axis]) for axis in axes}
        for axis, own in laid_out.items():
            own[flow.places[axis].flatten()] = labels
        whole = [axis for axis, own in laid_out.items() if torch.equal(own[flow.places[axis].flatten()], labels)]
        for axis, own in laid_out.items():
            if axis != (whole or axes)[0]:
                own.fill_(NONE)
            else:
                self.units.unite(own[flow.places[axis].flatten()], labels)
            self._store(flow.name, axis, role, own)

    def _store(self, name: str, dim: int, role: str, labels: Tensor) -> None:
        known = self._axes.get((name, dim))
        if known is None:
            self._axes[name, dim] = role, labels.clone()
        else:
            self.units.unite(known[1], labels, name)

    def even(self, flow: Flow, dims: Iterable[int]) -> None:
        """Unite units along some axes, so that labels differ along others only."""
        for dim in dims:
            labels = flow.labels
            if labels is not None and labels.shape[dim] > 1:
                first = labels.narrow(dim, 0, 1)
                self.units.unite(labels, first)
                flow.labels = first

    def whole(self, flow: Flow, dims: Iterable[int], reason: str) -> None:
        """Make sure no unit is removed along some axes: unite along them, or pin if units lie along no other."""
        if flow.labels is None:
            return
        dims = {dim % flow.labels.ndim for dim in dims} & set(along(flow.labels))
        if dims and dims == set(along(flow.labels)):
            self.pin(flow, reason)
        else:
            self.even(flow, sorted(dims))

    def read(self, flow: Flow, dim: int) -> Tensor | None:
        """Return the units along one axis of an activation, made the only one along which they differ."""
        if flow.labels is None:
            return None
        dim %= flow.labels.ndim
        self.even(flow, [each for each in along(flow.labels) if each != dim])
        return flow.labels.reshape(-1).expand(flow.shape[dim]).clone()

    def count(self, node: fx.Node, labels: Tensor, dim: int, old: int, attribute: str = "") -> None:
        """Note a number in the code that counts units."""
        self.sizes.append(Size(_path(node), attribute, labels, dim, old))


def operation(node: fx.Node) -> str:
    """Return the name of an operation without its overload.

    Example:
        >>> graph = fx.Graph()
        >>> operation(graph.call_function(torch.ops.aten.add.Tensor))
        'add'
    """
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def place(node: fx.Node) -> str:
    """Return the path of the module that an operation belongs to, for messages."""
    return _path(node) or "the model itself"


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path: str = next(reversed([name for name, _ in stack.values()]), "")
    return path


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return for every node the values that nothing after it reads."""
    seen: set[fx.Node] = set()
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(graph.nodes):
        for each in node.all_input_nodes:
            # The parts of a list are freed one by one, as they are taken.
            if each not in seen and operation(node) != "getitem":
                seen.add(each)
                last.setdefault(node, []).append(each)
    return last


def _forget(flows: Any) -> None:
    for flow in _leaves(flows):
        if not flow.name or flow.places:
            flow.value = torch.empty(flow.value.shape, device="meta")


def _leaves(flows: Any) -> Iterator[Flow]:
    for flow in flows if isinstance(flows, list) else [flows]:
        if isinstance(flow.value, Tensor):
            yield flow


def _values(flows: Any) -> Any:
    return [flow.value for flow in flows] if isinstance(flows, list) else flows.value


def _flags(value: Any, flag: bool) -> Tensor | None:
    return torch.full((1,) * value.ndim, flag) if isinstance(value, Tensor) else None
