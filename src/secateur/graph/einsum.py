"""Einstein sums of an activation and a weight: a letter that is summed over reads units, a new one writes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import fx

from secateur.graph.flow import Flow, spread, vector
from secateur.graph.layers import Layer, site_of, store_reads
from secateur.graph.units import none
from secateur.graph.walk import Rule, Walk, operation

__all__ = ["RULES"]


@dataclass(frozen=True)
class _Letters:
    """An equation of an activation, a weight and what comes out, a letter for each axis."""

    x: str
    weight: str
    out: str

    @property
    def summed(self) -> list[str]:
        return [letter for letter in self.weight if letter in self.x and letter not in self.out]

    @property
    def new(self) -> list[str]:
        return [letter for letter in self.weight if letter not in self.x and letter in self.out]

    def is_layer(self) -> bool:
        """Say if every letter of the weight is summed over or new, and the others go through."""
        once = all(len(set(part)) == len(part) for part in (self.x, self.weight, self.out))
        through = [letter for letter in self.x if letter not in self.weight]
        whole = len(self.summed) + len(self.new) == len(self.weight) and set(through) <= set(self.out)
        return once and whole and bool(self.summed) and bool(self.new)


def _einsum(walk: Walk, node: fx.Node, value: Any) -> Any:
    found = _read(walk, node)
    if found is None:
        return walk.unknown(node, value)
    x, weight, nodes, letters = found
    # Units lie along one axis; along others that are summed over with it they are made to agree.
    ends = [letters.x.index(letter) for letter in letters.summed]
    dim = next((end for end in ends if x.labels is not None and x.labels.shape[end] > 1), ends[0])
    in_dim, out_dim = letters.weight.index(letters.x[dim]), letters.weight.index(letters.new[0])
    layer = Layer(x, weight, None, dim, in_dim, out_dim, 1, padded=False)
    reads = walk.read(x, dim)
    assert x.live is not None
    live = vector(x.live, dim, x.shape[dim])
    site = site_of(walk, node, layer, live, nodes[1])
    if site is None:
        return walk.unknown(node, value, f"{operation(node)} with a weight whose axes are rearranged")
    # A constant would have to go into a bias of as many axes as are new.
    walk.sites.append(site if len(letters.new) == 1 else replace(site, fold=""))
    walk.positions[weight.name] = walk.positions.get(weight.name, 0) + x.value.numel() // prod(x.shape[e] for e in ends)
    store_reads(walk, layer, reads)
    for other, size in enumerate(weight.shape):
        if other not in (in_dim, out_dim):
            walk.store(weight, other, "follows", none(size))
    outputs = walk.units.new(weight.shape[out_dim])
    walk.store(weight, out_dim, "writes", outputs)
    used = ((layer.matrix()[0] != 0).any(-1) & live).any(-1)
    place = letters.out.index(letters.new[0])
    return Flow(value, spread(outputs, place, value.ndim), spread(used, place, value.ndim))


def _read(walk: Walk, node: fx.Node) -> tuple[Flow, Flow, tuple[Any, Any], _Letters] | None:
    """Return the activation, the weight, both nodes, and the letters; None if it is not one of each."""
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    inputs, arrow, out = equation.partition("->")
    parts = inputs.split(",")
    if not arrow or len(parts) != 2 or not isinstance(operands, list | tuple) or len(operands) != 2:
        return None
    pairs = sorted(zip(parts, operands, strict=True), key=lambda pair: bool(_named(walk, pair[1])))
    (of_x, x_node), (of_weight, weight_node) = pairs
    x, weight = walk.flow(x_node), walk.flow(weight_node)
    if x is None or weight is None or x.name or not weight.name or "..." in of_weight:
        return None
    # The axes that an ellipsis stands for are letters of their own.
    rest = "".join(chr(0xE000 + count) for count in range(x.value.ndim - len(of_x.replace("...", ""))))
    letters = _Letters(of_x.replace("...", rest), of_weight, out.replace("...", rest))
    return (x, weight, (x_node, weight_node), letters) if letters.is_layer() else None


def _named(walk: Walk, node: Any) -> str:
    flow = walk.flow(node)
    return "" if flow is None else flow.name


RULES: dict[str, Rule] = {"einsum": _einsum}
