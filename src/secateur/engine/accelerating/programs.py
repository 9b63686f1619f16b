"""The programs of one layer, each made when inputs of a new shape first need it. Needs numpy alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.layouts import Target
from secateur.engine.placing import place
from secateur.engine.placing.convolving import Tiling
from secateur.engine.plan import Op, Plan, Value, check
from secateur.engine.plan.values import Attribute, Shape
from secateur.engine.tuning import tune
from secateur.native import load as kernels

__all__ = ["ConvPrograms", "LinearPrograms", "Window"]

Floats: TypeAlias = npt.NDArray[np.float32]
Constants: TypeAlias = Callable[[], dict[str, Floats]]

# Programs of a layer that are kept: as many sizes of images as are likely to come in turn.
_KEPT = 8
# Rows left over of a matrix: so few are faster one after the other than as one more vector of them.
_FEW = 2
# Images whose results have fewer pixels, counted in vectors, leave lanes idle: a sample a lane is faster.
_SMALL = 4
# Bytes of weights that the nearest and the next cache hold: beyond, more rows should go by while a weight is at hand.
_NEAR, _FAR = 1 << 19, 1 << 21


@cache
def lanes() -> int:
    """Return how many floats a vector of this processor has."""
    return int(kernels().Program("", 0, [], [], False).lanes)


class _Programs:
    """Programs by what they are for; the last few that were used. Any number of threads may ask at once."""

    def __init__(self, *, tuned: bool) -> None:
        self._tuned = tuned
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def _program(self, key: Hashable, plan: Callable[[], Plan], *, batched: bool = False) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = _compiled(plan(), batched=batched, tuned=self._tuned)
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]


def _compiled(plan: Plan, *, batched: bool, tuned: bool) -> Any:
    check(plan)
    target, tilings = Target(lanes(), batched), dict[int, Tiling]()
    placed = place(plan, target, kernels(), tilings)
    if tuned:
        tilings.update(tune(placed.convolutions, target, kernels()))
    return placed.program(kernels())


class LinearPrograms(_Programs):
    """What multiplies rows of numbers by one sparse matrix.

    Args:
        constants: of the operator: "weight", shape [outputs, inputs], and perhaps "bias".
        tuned: choose how each program is carried out by measuring, some hundredths of a second for each.

    Example:
        >>> weight = np.eye(3, dtype=np.float32)
        >>> LinearPrograms({"weight": weight})(np.ones((2, 3), np.float32), lambda: {"weight": weight}, 1).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, constants: dict[str, Floats], *, tuned: bool = False) -> None:
        super().__init__(tuned=tuned)
        weight = constants["weight"]
        self._outputs, self._inputs = weight.shape
        kept = 8 * int(np.count_nonzero(weight))
        vectors = 1 if kept <= _NEAR else 2 if kept <= _FAR else 4
        # Rows that go through the weights together: many at a time, then a vector of them.
        self._together = tuple(dict.fromkeys((vectors * lanes(), lanes())))

    def __call__(self, x: Floats, constants: Constants, threads: int) -> Floats:
        """Return the products.

        Args:
            x: shape [rows, inputs], C order.
            constants: gives those of the operator, for a program that is still to be made.
            threads: to compute on.

        Returns:
            shape [rows, outputs].
        """
        y = np.empty((len(x), self._outputs), np.float32)
        first = 0
        for rows in self._together:
            count = (len(x) - first) // rows
            last = first + count * rows
            if count:
                self._of(rows, constants).run([x[first:last]], [y[first:last]], count, threads)
            first = last
        rest = len(x) - first
        if rest > _FEW:
            padded = np.zeros((lanes(), self._inputs), np.float32)
            padded[:rest] = x[first:]
            computed = np.empty((lanes(), self._outputs), np.float32)
            self._of(lanes(), constants).run([padded], [computed], 1, threads)
            y[first:] = computed[:rest]
        elif rest:
            self._of(1, constants).run([x[first:]], [y[first:]], rest, threads)
        return y

    def _of(self, rows: int, constants: Constants) -> Any:
        ahead = () if rows == 1 else (rows,)
        shapes = (*ahead, self._inputs), (*ahead, self._outputs)
        return self._program(rows, lambda: _plan("linear", shapes, {}, constants()))


@dataclass(frozen=True)
class Window:
    """How a convolution moves over an image: numbers for height and width.

    Attributes:
        kernel: sizes.
        stride: pixels from one window to the next.
        padding: top, bottom, left and right.
        dilation: pixels from one tap to the next.
        groups: of channels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def result(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what comes out.

        Example:
            >>> Window((3, 3), stride=(2, 2), padding=(1, 1, 1, 1)).result((8, 9))
            (4, 5)
        """
        return self._along(0, size[0]), self._along(1, size[1])

    @property
    def numbers(self) -> list[int]:
        """All but the kernel, in order: nine numbers."""
        return [*self.stride, *self.padding, *self.dilation, self.groups]

    def _along(self, axis: int, size: int) -> int:
        length = size + self.padding[2 * axis] + self.padding[2 * axis + 1]
        return (length - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1


class ConvPrograms(_Programs):
    """What convolves images of any size with one sparse kernel.

    Args:
        constants: of the operator: "weight", shape [outputs, inputs of a group, height, width], and perhaps "bias".
        window: how it moves.
        tuned: choose how each program is carried out by measuring, some hundredths of a second for each.

    Example:
        >>> weight = np.ones((1, 1, 2, 2), np.float32)
        >>> programs = ConvPrograms({"weight": weight}, Window((2, 2)))
        >>> programs(np.ones((1, 1, 2, 3), np.float32), lambda: {"weight": weight}, 1).tolist()
        [[[[4.0, 4.0]]]]
    """

    def __init__(self, constants: dict[str, Floats], window: Window, *, tuned: bool = False) -> None:
        super().__init__(tuned=tuned)
        self._outputs, self._window = len(constants["weight"]), window

    def __call__(self, x: Floats, constants: Constants, threads: int) -> Floats:
        """Return the convolutions.

        Args:
            x: shape [batch, inputs, height, width], C order; a window fits in.
            constants: gives those of the operator, for a program that is still to be made.
            threads: to compute on.

        Returns:
            shape [batch, outputs, height, width].
        """
        size = self._window.result((x.shape[2], x.shape[3]))
        y = np.empty((len(x), self._outputs, *size), np.float32)
        batched = self._batched(len(x), size)
        for lanewise, first, last in ((True, 0, batched), (False, batched, len(x))):
            if last > first:
                shapes = tuple(x.shape[1:]), (self._outputs, *size)
                program = self._of(shapes, constants, lanewise=lanewise)
                program.run([x[first:last]], [y[first:last]], last - first, threads)
        return y

    def _batched(self, samples: int, size: tuple[int, int]) -> int:
        """Return how many of the samples are computed a lane each."""
        if size[0] * size[1] >= _SMALL * lanes():
            return 0
        rest = samples % lanes()
        return samples if 2 * rest >= lanes() else samples - rest

    def _of(self, shapes: tuple[Shape, Shape], constants: Constants, *, lanewise: bool) -> Any:
        window = self._window
        attributes: dict[str, Attribute] = {
            "stride": window.stride,
            "padding": window.padding,
            "dilation": window.dilation,
            "groups": window.groups,
        }
        return self._program(
            (shapes[0], lanewise), lambda: _plan("conv", shapes, attributes, constants()), batched=lanewise
        )


def _plan(
    kind: str, shapes: tuple[Shape, Shape], attributes: dict[str, Attribute], constants: dict[str, Floats]
) -> Plan:
    """Return a plan of one operator."""
    plain: dict[str, Attribute] = {"activation": "none", "alpha": 0.0, "beta": 0.0}
    op = Op(kind, ("x",), "y", {**attributes, **plain}, {role: role for role in constants})
    return Plan(
        inputs=("x",),
        outputs=("y",),
        values={"x": Value(shapes[0]), "y": Value(shapes[1])},
        ops=(op,),
        constants={role: np.ascontiguousarray(array) for role, array in constants.items()},
        arguments={"args": [["x", {"value": "x"}]], "kwargs": {}},
        structure={"value": "y"},
    )
