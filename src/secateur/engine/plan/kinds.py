"""The one table of operators: their attributes, inputs and constants, and the shape they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from secateur.engine.plan import shapes
from secateur.engine.plan.attributes import ACTIVATIONS, ARITHMETIC, UNARY, Choice, Flag, Int, Ints, Real, Type
from secateur.engine.plan.values import Shape

__all__ = ["ACTIVATIONS", "KINDS", "Kind"]

Attributes: TypeAlias = "Mapping[str, Any]"
Constants: TypeAlias = "Mapping[str, Shape]"


@dataclass(frozen=True)
class Kind:
    """What there is to know of a kind of operator.

    Attributes:
        shape: from attributes, the shapes of inputs and those of constants by role, the shape of the output; raises
            ``ValueError`` where they do not go together.
        inputs: the fewest and the most values it reads.
        attributes: the type of each; an operator has all of them.
        required: roles of constants that it must have.
        optional: roles of constants that it may have.
        reads: type of the values it reads; "" if any, all the same, and what it writes is that too.
    """

    shape: Callable[[Attributes, list[Shape], Constants], Shape]
    inputs: tuple[int, int] = (1, 1)
    attributes: Mapping[str, Type] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    reads: str = "F32"


_MANY = 1 << 20
_ACTIVATION: Mapping[str, Type] = {"activation": Choice(tuple(ACTIVATIONS)), "alpha": Real(), "beta": Real()}
_WINDOW: Mapping[str, Type] = {"kernel": Ints(2, 1), "stride": Ints(2, 1), "padding": Ints(4)}
_CONV: Mapping[str, Type] = {"stride": Ints(2, 1), "padding": Ints(4), "dilation": Ints(2, 1), "groups": Int(1)}
_UNARY: Mapping[str, Type] = {"how": Choice(tuple(UNARY)), "alpha": Real(), "beta": Real()}
_REDUCE: Mapping[str, Type] = {"how": Choice(("mean", "sum", "max", "min")), "axes": Ints(), "keep": Flag()}
_SLICE: Mapping[str, Type] = {"axis": Int(), "start": Int(), "stop": Int(1), "step": Int(1)}
_ADAPTIVE: Mapping[str, Type] = {"size": Ints(2, 1), "how": Choice(("average", "max"))}
_NORM: Mapping[str, Type] = {"axes": Int(1), "eps": Real(0.0)}

KINDS: Mapping[str, Kind] = {
    # Layers with weights. A second input is added before the activation.
    "conv": Kind(shapes.conv, (1, 2), {**_CONV, **_ACTIVATION}, ("weight",), ("bias",)),
    "linear": Kind(shapes.linear, (1, 2), _ACTIVATION, ("weight",), ("bias",)),
    "embedding": Kind(shapes.embedding, required=("weight",), reads="I64"),
    # Windows of a map [C, H, W].
    "max_pool": Kind(shapes.pool, attributes={**_WINDOW, "dilation": Ints(2, 1)}),
    "average_pool": Kind(shapes.pool, attributes={**_WINDOW, "count_padding": Flag()}),
    "adaptive_pool": Kind(shapes.adaptive_pool, attributes=_ADAPTIVE),
    "upsample_nearest": Kind(shapes.upsample, attributes={"factors": Ints(2, 1)}),
    # Number by number.
    "unary": Kind(shapes.same, attributes=_UNARY),
    "binary": Kind(
        shapes.binary, (1, 2), {"how": Choice(ARITHMETIC), "swapped": Flag(), **_ACTIVATION}, optional=("other",)
    ),
    "cast": Kind(shapes.same, reads="I64"),
    # Over axes.
    "reduce": Kind(shapes.reduce, attributes=_REDUCE),
    "softmax": Kind(shapes.softmax, attributes={"axis": Int()}),
    "layer_norm": Kind(shapes.norm, attributes=_NORM, optional=("weight", "bias")),
    "rms_norm": Kind(shapes.norm, attributes=_NORM, optional=("weight",)),
    "group_norm": Kind(shapes.group_norm, attributes={"groups": Int(1), "eps": Real(0.0)}, optional=("weight", "bias")),
    # Products of values.
    "matmul": Kind(shapes.matmul, (1, 2), {"swapped": Flag()}, optional=("other",)),
    "attention": Kind(shapes.attention, (3, 4), {"scale": Real(), "causal": Flag()}, optional=("mask",)),
    # Moving numbers.
    "reshape": Kind(shapes.reshape, attributes={"shape": Ints(0, 1)}, reads=""),
    "permute": Kind(shapes.permute, attributes={"order": Ints()}, reads=""),
    "expand": Kind(shapes.expand, attributes={"shape": Ints(0, 1)}, reads=""),
    "slice": Kind(shapes.slice, attributes=_SLICE, reads=""),
    "concat": Kind(shapes.concat, (2, _MANY), {"axis": Int()}, reads=""),
    "pad": Kind(shapes.pad, attributes={"padding": Ints(), "value": Real()}),
    "constant": Kind(shapes.constant, (0, 0), required=("value",)),
}
