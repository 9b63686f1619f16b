"""Random plans: operators of every kind on values of odd sizes, read by several, returned in the middle, given back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plans
from hypothesis import strategies as st
from numpy.typing import NDArray

from secateur.engine.plan import Op, Plan, Value
from secateur.engine.plan.checking import infer

# None of these makes a small error large.
SMOOTH = ["none", "relu", "relu6", "gelu", "gelu_tanh", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh"]
ENDINGS = [(how, 0.0, 0.0) for how in SMOOTH]
ENDINGS += [("leaky_relu", 0.1, 0.0), ("elu", 0.7, 0.0), ("clamp", -0.5, 0.75), ("softplus", 2.0, 5.0)]
UNARY = [
    *ENDINGS[1:],
    ("abs", 0.0, 0.0),
    ("negative", 0.0, 0.0),
    ("sin", 0.0, 0.0),
    ("cos", 0.0, 0.0),
    ("erf", 0.0, 0.0),
]
LARGEST = 3000  # elements of a value


@dataclass
class Draft:
    """A plan under way."""

    draw: st.DrawFn
    values: dict[str, Value] = field(default_factory=dict)
    ops: list[tuple[Any, ...]] = field(default_factory=list)
    constants: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def one_of(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def constant(self, *shape: int, fan: int = 1, sparse: bool = False) -> str:
        """Add numbers of a size that keeps sums of ``fan`` of them near 1; perhaps most of them zeros."""
        seed = self.number(0, 1 << 20)
        made = plans.numbers(*shape, seed=seed) / math.sqrt(fan)
        if sparse:
            kept = np.random.default_rng(seed).random(shape) >= self.one_of([0.0, 0.5, 0.9, 0.99, 1.0])
            made = np.where(kept, made, 0).astype(np.float32)
        name = f"c{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(made, np.float32)
        return name

    def ending(self) -> dict[str, Any]:
        how, alpha, beta = self.one_of(ENDINGS)
        return {"activation": how, "alpha": alpha, "beta": beta}

    def like(self, shape: tuple[int, ...]) -> str | None:
        """Return a value of a shape, if there is one."""
        found = [name for name, value in self.values.items() if value == Value(shape)]
        return self.one_of(found) if found else None

    def add(
        self, kind: str, inputs: list[str], attributes: dict[str, Any], constants: dict[str, str] | None = None
    ) -> bool:
        """Add an operator, if it fits and its result is not too large."""
        constants = constants or {}
        output = f"v{len(self.ops)}"
        op = Op(kind, tuple(inputs), output, attributes, constants)
        shapes = {role: self.constants[name].shape for role, name in constants.items()}
        try:
            value = infer(op, [self.values[name] for name in inputs], shapes)
        except ValueError:
            return False
        if math.prod(value.shape) > LARGEST:
            return False
        self.values[output] = value
        self.ops.append((output, kind, " ".join(inputs), attributes, constants))
        return True


def _conv(draft: Draft, x: str) -> bool:
    channels = draft.shape(x)[0]
    groups = draft.one_of([g for g in range(1, channels + 1) if channels % g == 0])
    outputs = groups * draft.number(1, 9 // groups + 1)
    kernel = draft.number(1, 4), draft.number(1, 4)
    attributes = {
        "stride": (draft.number(1, 4), draft.number(1, 4)),
        "padding": tuple(draft.number(0, 4) for _ in range(4)),
        "dilation": (draft.number(1, 3), draft.number(1, 3)),
        "groups": groups,
    }
    if draft.flag():
        attributes |= {"stride": (1, 1)}
    if draft.flag():
        kernel = draft.one_of([(1, 1), (3, 3)])
        attributes |= {"padding": (kernel[0] // 2,) * 4, "dilation": (1, 1)}
    fan = channels // groups * kernel[0] * kernel[1]
    roles = {"weight": draft.constant(outputs, channels // groups, *kernel, fan=fan, sparse=True)}
    if draft.flag():
        roles["bias"] = draft.constant(outputs)
    return _with_residual(draft, "conv", x, {**attributes, **draft.ending()}, roles)


def _linear(draft: Draft, x: str) -> bool:
    inputs, outputs = draft.shape(x)[-1], draft.number(1, 20)
    if draft.flag():
        outputs = inputs
    roles = {"weight": draft.constant(outputs, inputs, fan=inputs, sparse=True)}
    if draft.flag():
        roles["bias"] = draft.constant(outputs)
    return _with_residual(draft, "linear", x, draft.ending(), roles)


def _with_residual(draft: Draft, kind: str, x: str, attributes: dict[str, Any], roles: dict[str, str]) -> bool:
    shapes = {role: draft.constants[name].shape for role, name in roles.items()}
    try:
        made = infer(Op(kind, (x,), "", attributes, roles), [draft.values[x]], shapes)
    except ValueError:
        return False
    other = draft.like(made.shape) if draft.flag() else None
    return draft.add(kind, [x] if other is None else [x, other], attributes, roles)


def _pool(draft: Draft, x: str) -> bool:
    kernel = (draft.number(1, 4), draft.number(1, 4))
    attributes = {"kernel": kernel, "stride": (draft.number(1, 3), draft.number(1, 3))}
    if draft.flag():
        dilation = (draft.number(1, 2), draft.number(1, 2))
        sides = [draft.number(0, dilation[axis] * (kernel[axis] - 1)) for axis in (0, 0, 1, 1)]
        return draft.add("max_pool", [x], {**attributes, "padding": tuple(sides), "dilation": dilation})
    sides = [draft.number(0, kernel[axis] - 1) for axis in (0, 0, 1, 1)]
    return draft.add("average_pool", [x], {**attributes, "padding": tuple(sides), "count_padding": draft.flag()})


def _adaptive(draft: Draft, x: str) -> bool:
    size = (draft.number(1, 5), draft.number(1, 5))
    return draft.add("adaptive_pool", [x], {"size": size, "how": draft.one_of(["average", "max"])})


def _upsample(draft: Draft, x: str) -> bool:
    return draft.add("upsample_nearest", [x], {"factors": (draft.number(1, 3), draft.number(1, 3))})


def _unary(draft: Draft, x: str) -> bool:
    how, alpha, beta = draft.one_of(UNARY)
    return draft.add("unary", [x], {"how": how, "alpha": alpha, "beta": beta})


def _binary(draft: Draft, x: str) -> bool:
    attributes = {"how": draft.one_of(["add", "subtract", "multiply", "maximum", "minimum"]), **draft.ending()}
    shape = draft.shape(x)
    if draft.flag():
        part = tuple(size if draft.flag() else 1 for size in shape)
        if draft.flag() and len(shape) > 1:
            part = draft.one_of([(shape[0],) + (1,) * (len(shape) - 1), shape[-1:], (), shape])
        if draft.flag():
            part = (*part[: len(shape) - 3], *part) if len(part) < 3 else part
        roles = {"other": draft.constant(*part)}
        return draft.add("binary", [x], {**attributes, "swapped": draft.flag()}, roles)
    other = draft.one_of([name for name, value in draft.values.items() if value.dtype == "F32"])
    pair = [x, other] if draft.flag() else [other, x]
    return draft.add("binary", pair, {**attributes, "swapped": False})


def _reduce(draft: Draft, x: str) -> bool:
    rank = len(draft.shape(x))
    axes = tuple(axis for axis in range(rank) if draft.flag())
    if draft.flag():
        axes = tuple(range(1, rank))
    how = draft.one_of(["mean", "sum", "max", "min"])
    return draft.add("reduce", [x], {"how": how, "axes": axes, "keep": draft.flag()})


def _softmax(draft: Draft, x: str) -> bool:
    return draft.add("softmax", [x], {"axis": draft.number(0, len(draft.shape(x)) - 1)})


def _norm(draft: Draft, x: str) -> bool:
    shape = draft.shape(x)
    if draft.flag() and len(shape) > 1:
        groups = draft.one_of([g for g in range(1, shape[0] + 1) if shape[0] % g == 0])
        roles = {role: draft.constant(shape[0]) for role in ("weight", "bias") if draft.flag()}
        return draft.add("group_norm", [x], {"groups": groups, "eps": 0.1}, roles)
    axes, kind = draft.number(1, len(shape)), draft.one_of(["layer_norm", "rms_norm"])
    roles = {role: draft.constant(*shape[len(shape) - axes :]) for role in ("weight", "bias") if draft.flag()}
    if kind == "rms_norm" and "bias" in roles:
        del draft.constants[roles.pop("bias")]
    return draft.add(kind, [x], {"axes": axes, "eps": 0.1}, roles)


def _reshape(draft: Draft, x: str) -> bool:
    shape = draft.shape(x)
    size = math.prod(shape)
    choices = [(size,), (shape[0], size // shape[0]), (1, *shape), (*shape, 1), (size // shape[-1], shape[-1])]
    if len(shape) > 1:
        choices.append((shape[0] * shape[1], *shape[2:]))
    choices += [(a, size // a) for a in (2, 3) if size % a == 0]
    choices += [(size // 4, 2, 2)] if size % 4 == 0 else []
    return draft.add("reshape", [x], {"shape": draft.one_of(choices)})


def _permute(draft: Draft, x: str) -> bool:
    rank = len(draft.shape(x))
    behind, ahead = (*range(1, rank), 0), (rank - 1, *range(rank - 1))
    order = draft.one_of([behind, ahead]) if draft.flag() else tuple(draft.draw(st.permutations(range(rank))))
    return draft.add("permute", [x], {"order": order})


def _expand(draft: Draft, x: str) -> bool:
    shape = tuple(draft.number(1, 4) if size == 1 else size for size in draft.shape(x))
    return draft.add("expand", [x], {"shape": shape})


def _slice(draft: Draft, x: str) -> bool:
    axis = draft.number(0, len(draft.shape(x)) - 1)
    size = draft.shape(x)[axis]
    start = draft.number(0, size - 1)
    attributes = {"axis": axis, "start": start, "stop": draft.number(start + 1, size), "step": draft.number(1, 3)}
    return draft.add("slice", [x], attributes)


def _concat(draft: Draft, x: str) -> bool:
    shape = draft.shape(x)
    axis = draft.number(0, len(shape) - 1) if draft.flag() else 0
    fits = [
        name
        for name, value in draft.values.items()
        if value.dtype == "F32" and len(value.shape) == len(shape) and value.shape[:axis] == shape[:axis]
    ]
    fits = [name for name in fits if draft.shape(name)[axis + 1 :] == shape[axis + 1 :]]
    inputs = [x, *(draft.one_of(fits) for _ in range(draft.number(1, 3)))]
    return draft.add("concat", draft.draw(st.permutations(inputs)), {"axis": axis})


def _pad(draft: Draft, x: str) -> bool:
    sides = tuple(draft.number(0, 2) for _ in range(2 * len(draft.shape(x))))
    return draft.add("pad", [x], {"padding": sides, "value": draft.one_of([0.0, -1.5])})


def _matmul(draft: Draft, x: str) -> bool:
    shape = draft.shape(x)
    if draft.flag():
        order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        turned, product = f"v{len(draft.ops)}", f"v{len(draft.ops) + 1}"
        if not (draft.add("permute", [x], {"order": order}) and draft.add("matmul", [x, turned], {"swapped": False})):
            return False
        # Squares grow: as large as a mean of them.
        name = f"c{len(draft.constants)}"
        draft.constants[name] = np.array(1 / shape[-1], np.float32)
        return draft.add("binary", [product], plans.multiply(), {"other": name})
    swapped, size = draft.flag(), draft.number(1, 5)
    inner = shape[-2] if swapped else shape[-1]
    ahead = draft.one_of([(), shape[:-2], (1,) * len(shape[:-2])])
    other = draft.constant(*ahead, *((size, inner) if swapped else (inner, size)), fan=inner)
    return draft.add("matmul", [x], {"swapped": swapped}, {"other": other})


def _attention(draft: Draft, x: str) -> bool:
    shape = draft.shape(x)
    keys = draft.one_of([name for name, value in draft.values.items() if value == Value(shape)])
    attributes = {"scale": 0.5, "causal": draft.flag()}
    length = shape[-2]
    if draft.flag():
        part = draft.one_of([(length, length), (1, length), (length,)])
        return draft.add("attention", [x, keys, x], attributes, {"mask": draft.constant(*part)})
    mask = draft.like((length, length)) if draft.flag() else None
    return draft.add("attention", [x, keys, x] + ([mask] if mask else []), attributes)


def _constant(draft: Draft, x: str) -> bool:
    shape = draft.shape(x) if draft.flag() else (draft.number(1, 4), draft.number(1, 4))
    return draft.add("constant", [], {}, {"value": draft.constant(*shape)})


def _fits(rank: int, steps: list[Callable[[Draft, str], bool]]) -> list[Callable[[Draft, str], bool]]:
    return [step for step in steps if rank >= RANKS.get(step, 0) and (rank == 3 or step not in IMAGES)]


IMAGES = [_conv, _pool, _adaptive, _upsample]
STEPS = [*IMAGES, _conv, _conv, _linear, _unary, _binary, _binary, _reduce, _softmax, _norm, _reshape, _permute]
STEPS += [_expand, _slice, _concat, _pad, _matmul, _attention, _constant]
RANKS = {_matmul: 2, _attention: 2, _linear: 1, _softmax: 1, _norm: 1, _reshape: 1, _slice: 1, _concat: 1, _permute: 1}


@st.composite
def drawn_plans(draw: st.DrawFn, most: int = 8, steps: list[Callable[[Draft, str], bool]] = STEPS) -> Plan:
    """A plan of up to so many operators, with one or two inputs."""
    draft = Draft(draw)
    sizes = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 13, 16, 17])
    channels = st.sampled_from([1, 2, 3, 4, 6, 8])
    image = st.tuples(channels, sizes, sizes).filter(lambda shape: math.prod(shape) <= LARGEST)
    shapes = draw(st.lists(image | st.tuples(sizes, sizes) | st.tuples(sizes), min_size=1, max_size=2))
    for number, shape in enumerate(shapes):
        draft.values["xy"[number]] = Value(shape)
    for _ in range(draw(st.integers(1, most))):
        names = [name for name, value in draft.values.items() if value.dtype == "F32"]
        x = draw(st.sampled_from(names[-2:] + names))
        fitting = _fits(len(draft.shape(x)), steps)
        if fitting:
            draw(st.sampled_from(fitting))(draft, x)
    read = {name for op in draft.ops for name in op[2].split()}
    used = {name for op in draft.ops for name in op[4].values()}
    inputs = {"xy"[number]: shape for number, shape in enumerate(shapes)}
    outputs = [op[0] for op in draft.ops if op[0] not in read or draw(st.integers(0, 4)) == 0]
    if not outputs or draw(st.integers(0, 4)) == 0:
        outputs.append(draw(st.sampled_from([*inputs, *outputs])))
    constants = {name: array for name, array in draft.constants.items() if name in used}
    return plans.plan(inputs, draft.ops, outputs, constants)
