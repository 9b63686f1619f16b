"""Convolutions, pooling, and what else slides a window over a map."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from secateur.engine.grids import Edges, Grid
from secateur.engine.layouts import Layout, Mapped, Target
from secateur.engine.placing.activations import NON_NEGATIVE, applied
from secateur.engine.placing.building import Builder, Step
from secateur.engine.placing.convolving import Convolution
from secateur.engine.placing.decisions import Decision, Layouts
from secateur.engine.placing.maps import Buffer
from secateur.engine.plan.values import Op

__all__ = ["decide_conv", "decide_pool", "emit_conv", "emit_pool"]

# Another grid than the one at hand is taken if it has so much fewer vectors, as numbers then have to be moved.
_WORTH_MOVING = 1.15
# Floats of all input channels up to which a pool is taken from the sums of a convolution.
_NEAR = 1 << 16
# As the kernels number them.
POOLINGS = {"max_pool": 1, "average_pool": 2}


@dataclass(frozen=True)
class Sliding:
    """A window: sizes of what it slides over and of what comes out, and how it moves."""

    size: tuple[int, int]
    result: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]

    def grids(self, home: Layout, target: Target) -> tuple[Grid, Grid]:
        """Return the grid to read, with its halo, and the one to write: that at hand, if it fits well enough."""
        best = target.grid(self.result)
        if isinstance(home, Mapped) and not home.last and not target.batched:
            pitch = (home.grid.pitch[0] // self.stride[0], home.grid.pitch[1] // self.stride[1])
            kept = Grid(self.result, home.grid.across, pitch)
            even = all(p % s == 0 for p, s in zip(home.grid.pitch, self.stride, strict=True))
            covers = all(a * p >= r for a, p, r in zip(kept.across, pitch, self.result, strict=True))
            if even and covers and kept.vectors <= _WORTH_MOVING * best.vectors:
                best = kept
        pitch = self.size if target.batched else (best.pitch[0] * self.stride[0], best.pitch[1] * self.stride[1])
        after = [self._after(axis, best.pitch[axis], pitch[axis]) for axis in (0, 1)]
        edges = Edges(self.padding[0], after[0], self.padding[2], after[1])
        read = Grid(self.size, best.across, pitch, edges)
        if any(self.padding) and edges == Edges() and not read.exact:
            # Padding is looked at inside the blocks: only what has a halo is filled up there.
            read = read.with_edges(Edges(bottom=1))
        return read, best

    def corner(self, grid: Grid) -> list[int]:
        """Return the place of the first window's corner among the vectors of a grid."""
        return [grid.edges.top - self.padding[0], grid.edges.left - self.padding[2]]

    def window(self, kernels: Any, grid: Grid) -> Any:
        """Return the window for the kernels."""
        return kernels.Window(self.corner(grid), list(self.stride), list(self.kernel), list(self.dilation))

    def _after(self, axis: int, results: int, pitch: int) -> int:
        """Return how far the last window reaches beyond a block."""
        reach = (results - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis]
        return max(0, reach - self.padding[2 * axis] - (pitch - 1))


def sliding(layouts: Layouts, op: Op, kernel: tuple[int, int]) -> Sliding:
    """Return the window of an operator."""
    a: Any = op.attributes
    size, result = layouts.shape(op.inputs[0])[1:], layouts.shape(op.output)[1:]
    dilation = a.get("dilation", (1, 1))
    return Sliding((size[0], size[1]), (result[0], result[1]), kernel, a["stride"], dilation, a["padding"])


def _kernel(layouts: Layouts, op: Op) -> tuple[int, int]:
    shape = layouts.plan.constants[op.constants["weight"]].shape
    return shape[2], shape[3]


def decide_conv(layouts: Layouts, op: Op) -> Decision:
    """Read a map with a halo; a residual lies as the result does."""
    read, write = sliding(layouts, op, _kernel(layouts, op)).grids(layouts.home(op.inputs[0]), layouts.target)
    source = Mapped(layouts.shape(op.inputs[0])[0], read)
    made = Mapped(layouts.shape(op.output)[0], write)
    if _ends_in_pool(layouts, op, source, made):
        layouts.pooled[op.output] = len(layouts.decisions)
    return Decision((source, made)[: len(op.inputs)], made)


def _ends_in_pool(layouts: Layouts, op: Op, source: Mapped, made: Mapped) -> bool:
    """Return whether a convolution is read by nothing but a pool of 2 x 2 that may as well be taken from its sums."""
    readers, target = layouts.readers.get(op.output, []), layouts.target
    if len(readers) != 1 or op.output in layouts.plan.outputs or readers[0].kind not in POOLINGS:
        return False
    slides = sliding(layouts, readers[0], readers[0].attributes["kernel"])  # type: ignore[arg-type]
    squares = (slides.kernel, slides.stride, slides.dilation, slides.padding) == ((2, 2), (2, 2), (1, 1), (0, 0, 0, 0))
    stride: Any = op.attributes["stride"]
    # No input channels can be put off for the next block of them, so all should be near at hand.
    near = source.floats(target) <= _NEAR
    return squares and stride[1] == 1 and len(op.inputs) == 1 and near and _even(made.grid)


def _even(grid: Grid) -> bool:
    return grid.pitch[0] % 2 == 0 and grid.pitch[1] % 2 == 0


def emit_conv(builder: Builder, op: Op, decision: Decision) -> None:
    """Add a convolution, unless the pool behind it does."""
    if op.output in builder.layouts.pooled:
        return
    _add_conv(builder, op, decision, (op, decision))


def _add_conv(builder: Builder, op: Op, decision: Decision, last: tuple[Op, Decision], pooling: int = 0) -> None:
    """Add a convolution that writes what the last of its operators does: itself, or a pool."""
    source_layout, source = builder.read(op.inputs[0], decision.reads[0])
    residual: tuple[Layout, Buffer] | None = None
    if len(op.inputs) > 1:
        residual = builder.read(op.inputs[1], decision.reads[1])
    target = builder.write(*last)
    assert isinstance(source_layout, Mapped)
    weights = builder.matrix(op)
    slides = sliding(builder.layouts, op, _kernel(builder.layouts, op))
    groups: Any = op.attributes["groups"]
    convolution = Convolution(
        number=builder.layouts.pooled.get(op.output, builder.number),
        source=source_layout,
        target=last[1].writes,
        residual=residual[0] if residual else None,
        window=(slides.corner(source_layout.grid), slides.stride, slides.kernel, slides.dilation),
        groups=groups,
        weights=weights,
        bias=builder.bias(op, weights.shape[0]),
        activation=applied(builder.kernels, op),
        pooling=pooling,
    )
    buffers = (source, target, residual[1] if residual else None)
    builder.convolution(op, convolution, buffers, math.prod(slides.result))


def decide_pool(layouts: Layouts, op: Op) -> Decision:
    """Read a map with a halo, which is below everything where maxima are taken; or take over from a convolution."""
    kernel: Any = op.attributes["kernel"]
    slides, home = sliding(layouts, op, kernel), layouts.home(op.inputs[0])
    channels = layouts.shape(op.output)[0]
    if op.inputs[0] in layouts.pooled and isinstance(home, Mapped):
        pitch = home.grid.pitch[0] // 2, home.grid.pitch[1] // 2
        return Decision((home,), Mapped(channels, Grid(slides.result, home.grid.across, pitch)))
    read, write = slides.grids(home, layouts.target)
    outside = 0.0
    if op.kind == "max_pool" and any(slides.padding) and not _never_negative(layouts, op.inputs[0]):
        outside = -math.inf
    return Decision((Mapped(channels, read, outside=outside),), Mapped(channels, write))


def _never_negative(layouts: Layouts, name: str) -> bool:
    op = layouts.writers.get(name)
    return op is not None and op.attributes.get("activation", op.attributes.get("how")) in NON_NEGATIVE


def emit_pool(builder: Builder, op: Op, decision: Decision) -> None:
    """Add maxima or means over windows."""
    if (number := builder.layouts.pooled.get(op.inputs[0])) is not None:
        made = builder.layouts.decisions[number]
        _add_conv(builder, builder.plan.ops[number], made, (op, decision), POOLINGS[op.kind])
        return
    layout, source = builder.read(op.inputs[0], decision.reads[0])
    assert isinstance(layout, Mapped) and isinstance(decision.writes, Mapped)
    target = builder.write(op, decision)
    kernel: Any = op.attributes["kernel"]
    slides, maximum = sliding(builder.layouts, op, kernel), op.kind == "max_pool"
    scales = np.zeros(0, np.float32)
    if not maximum:
        scales = _scales(builder, op, slides, decision.writes)
    window = slides.window(builder.kernels, layout.grid)
    builder.step(
        Step(
            op.kind,
            op.where,
            lambda to: to.pool(
                builder.maps.whole(layout, source),
                builder.maps.inside(decision.writes, target),
                window,
                maximum,
                scales,
                builder.maps.halo(decision.writes, target),
            ),
        ),
        [source],
    )


def _scales(builder: Builder, op: Op, slides: Sliding, writes: Mapped) -> Any:
    """Return what sums are multiplied by: one number, or one for each pixel if padding does not count."""
    area = math.prod(slides.kernel)
    if op.attributes["count_padding"] or not any(slides.padding):
        return np.full(1, 1 / area, np.float32)
    counts = [_counts(slides, axis) for axis in (0, 1)]
    scale = 1.0 / np.multiply.outer(*counts).reshape(-1)
    bare = replace(writes.grid, edges=Edges())
    spread = np.where(bare.pixels >= 0, scale[bare.pixels], 0.0).reshape(-1)
    width = builder.target.lanes if builder.target.batched else 1
    return np.repeat(spread, width).astype(np.float32)


def _counts(slides: Sliding, axis: int) -> Any:
    """Return how many places of each window are no padding, along an axis."""
    first = np.arange(slides.result[axis]) * slides.stride[axis] - slides.padding[2 * axis]
    places = first[:, None] + np.arange(slides.kernel[axis])
    return ((places >= 0) & (places < slides.size[axis])).sum(1)
