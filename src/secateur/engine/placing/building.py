"""Second pass: buffers and steps, and at last a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from secateur.engine.arena import Lifetime, arrange
from secateur.engine.layouts import Layout, Mapped, Plain, Target, elements, slots, table
from secateur.engine.placing.convolving import Buffers, Convolution, Tiling, usual_tiling
from secateur.engine.placing.decisions import Decision, Layouts
from secateur.engine.placing.maps import Buffer, Floats, Kernels, Maps
from secateur.engine.plan.values import Op, Plan
from secateur.pack.kept import Kept, kept

__all__ = ["Buffer", "Builder", "Placed", "Step"]


@dataclass(frozen=True)
class Step:
    """One step of a program.

    Attributes:
        kind: what it does.
        where: the place in the model it comes from, or the name of an input or output; "" where numbers only move.
        add: adds it to a program, once buffers have their places.
        operations: multiplications and additions with weights that are not zero, for one sample.
        dense: the same, zeros included.
    """

    kind: str
    where: str
    add: Callable[[Any], None]
    operations: int = 0
    dense: int = 0


@dataclass(frozen=True)
class Placed:
    """A plan laid out: steps and the size of the arena, for one target.

    Attributes:
        target: what it is laid out for.
        steps: in order.
        arena: floats.
        constants: with their places.
        inputs: floats of each input, of one sample.
        outputs: floats of each output, of one sample.
        convolutions: whose tiling can be chosen.
    """

    target: Target
    steps: tuple[Step, ...]
    arena: int
    constants: tuple[tuple[int, Floats], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    convolutions: tuple[Convolution, ...]

    def program(self, kernels: Kernels, instructions: str = "") -> Any:
        """Return the program, every step of it checked by the kernels."""
        made = kernels.Program(instructions, self.arena, list(self.inputs), list(self.outputs), self.target.batched)
        for offset, values in self.constants:
            made.constant(offset, values)
        for step in self.steps:
            step.add(made)
        return made


@dataclass
class Builder:
    """A program under way."""

    layouts: Layouts
    kernels: Kernels
    tilings: Mapping[int, Tiling]
    number: int = 0  # of the operator under way
    buffers: list[Buffer] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    versions: dict[str, list[tuple[Layout, Buffer]]] = field(default_factory=dict)
    convolutions: list[Convolution] = field(default_factory=list)

    @property
    def dense_above(self) -> float:
        """Density from which zeros are multiplied too, where vectors go along rows: measured, about the same for most
        sizes of a matrix, and for vectors of 8 and of 16."""
        return 0.3 if self.target.lanes <= 4 else 0.13

    @property
    def plan(self) -> Plan:
        """The plan that is laid out."""
        return self.layouts.plan

    @property
    def target(self) -> Target:
        """What it is laid out for."""
        return self.layouts.target

    @property
    def maps(self) -> Maps:
        """What tells the kernels where values lie."""
        return Maps(self.kernels, self.target)

    def buffer(self, size: int, constant: Floats | None = None) -> Buffer:
        """Return a new buffer, written by the step that is added next."""
        now = 0 if constant is not None else len(self.steps)
        made = Buffer(size, now, now, constant)
        self.buffers.append(made)
        return made

    def step(self, step: Step, uses: Iterable[Buffer]) -> None:
        """Add a step and say which buffers it reads."""
        for buffer in uses:
            buffer.last = max(buffer.last, len(self.steps))
        self.steps.append(step)

    def written(self, buffer: Buffer) -> None:
        """Say that the step that is added next writes to a buffer that others have written to."""
        buffer.last = max(buffer.last, len(self.steps))

    def read(self, name: str, wanted: Layout) -> tuple[Layout, Buffer]:
        """Return a value in a layout, which is made from the one it has if need be, and where it is."""
        for layout, buffer in self.versions.get(name, []):
            if layout == wanted or (isinstance(layout, Mapped) and layout.serves(wanted)):
                return layout, buffer
        final = self.layouts.final(name, wanted)
        given = name in self.plan.inputs
        made = self._given(name, final) if given else self._moved(*self.versions[name][0], final)
        self.versions.setdefault(name, []).append((final, made))
        return final, made

    def write(self, op: Op, decision: Decision) -> Buffer:
        """Return the buffer of what an operator writes."""
        made = self.buffer(decision.writes.floats(self.target))
        self.versions[op.output] = [(decision.writes, made)]
        return made

    def exactly(self, name: str, wanted: Layout) -> Buffer:
        """Return where a value is in a layout, with no wider halo."""
        layout, buffer = self.read(name, wanted)
        return buffer if layout == wanted else self._moved(layout, buffer, wanted)

    def alias(self, op: Op, decision: Decision) -> None:
        """Name what an operator reads anew."""
        layout, buffer = self.read(op.inputs[0], decision.reads[0])
        writes = decision.writes
        if isinstance(layout, Mapped) and isinstance(writes, Mapped):
            # What is there may have a halo, for others that read it.
            writes = replace(layout, last=writes.last)
        self.versions[op.output] = [(writes, buffer)]

    def constant(self, values: Floats) -> Buffer:
        """Return a buffer with numbers, one an element, that are there from the beginning."""
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        if self.target.batched:
            flat = np.repeat(flat, self.target.lanes)
        return self.buffer(-(-flat.size // self.target.lanes) * self.target.lanes, flat)

    def bias(self, op: Op, count: int) -> Floats:
        """Return the bias of an operator, zeros if it has none."""
        return self.numbers(op, "bias") if "bias" in op.constants else np.zeros(count, np.float32)

    def numbers(self, op: Op, role: str) -> Floats:
        """Return a constant of an operator, zeros and all."""
        return np.ascontiguousarray(self.plan.constants[op.constants[role]], np.float32)

    def matrix(self, op: Op) -> Kept:
        """Return the weight of an operator without its zeros, a row for each output."""
        weight = kept(self.plan.constants[op.constants["weight"]])
        return Kept((weight.shape[0], weight.size // weight.shape[0]), weight.places, weight.values)

    def convolution(self, op: Op, made: Convolution, own: tuple[Buffer, Buffer, Buffer | None], pixels: int) -> None:
        """Add a convolution, or what is like one.

        Args:
            op: the operator.
            made: the convolution.
            own: buffers of its source, target and residual, if there is one.
            pixels: that are computed of every channel.
        """
        source, target, residual = own
        floats = made.scratch(self.target)
        buffers: Buffers = (source, target, residual, self.buffer(floats) if floats else None)

        def add(to: Any) -> None:
            made.add(to, self.maps, buffers, self.tilings.get(made.number) or usual_tiling(made, self.target))

        self.convolutions.append(made)
        operations, dense = pixels * made.count, pixels * made.weights.size
        read = [buffer for buffer in (source, residual) if buffer is not None]
        self.step(Step(op.kind, op.where, add, operations, dense), read)

    def placed(self) -> Placed:
        """Return the finished steps, with outputs written last."""
        for number, name in enumerate(self.plan.outputs):
            self._returned(number, name)
        lifetimes = [
            Lifetime(each.size, each.first, len(self.steps) if each.constant is not None else each.last)
            for each in self.buffers
        ]
        offsets, arena = arrange(lifetimes)
        for buffer, offset in zip(self.buffers, offsets, strict=True):
            buffer.offset = offset
        constants = tuple((each.offset, each.constant) for each in self.buffers if each.constant is not None)
        inputs = tuple(self._numbers(name) for name in self.plan.inputs)
        outputs = tuple(self._numbers(name) for name in self.plan.outputs)
        return Placed(self.target, tuple(self.steps), arena, constants, inputs, outputs, tuple(self.convolutions))

    def _numbers(self, name: str) -> int:
        return int(np.prod(self.plan.values[name].shape, dtype=np.int64))

    def _given(self, name: str, layout: Layout) -> Buffer:
        port, made = self.plan.inputs.index(name), self.buffer(layout.floats(self.target))
        outside = layout.outside if isinstance(layout, Mapped) else 0.0
        if self.target.batched:
            places = np.ascontiguousarray(slots(layout), np.int32)
            self.step(Step("input", name, lambda to: to.read_lanes(port, made.offset, places, outside)), [])
            return made
        channels, one, other, places = table(Plain(self._numbers(name)), layout, self.target)
        place = self.kernels.Place
        self.step(
            Step(
                "input",
                name,
                lambda to: to.gather(place(port, 0, one), place(-1, made.offset, other), channels, places, outside),
            ),
            [],
        )
        return made

    def _moved(self, layout: Layout, source: Buffer, wanted: Layout) -> Buffer:
        made = self.buffer(wanted.floats(self.target))
        outside = wanted.outside if isinstance(wanted, Mapped) else 0.0
        channels, one, other, places = table(layout, wanted, self.target)
        place = self.kernels.Place
        self.step(
            Step(
                "move",
                "",
                lambda to: to.gather(
                    place(-1, source.offset, one), place(-1, made.offset, other), channels, places, outside
                ),
            ),
            [source],
        )
        return made

    def _returned(self, number: int, name: str) -> None:
        given = name in self.plan.inputs
        layout, buffer = self.read(name, Plain(self._numbers(name))) if given else self.versions[name][0]
        place = self.kernels.Place
        if self.target.batched:
            places = np.ascontiguousarray(elements(layout), np.int32)
            self.step(Step("output", name, lambda to: to.write_lanes(buffer.offset, number, places)), [buffer])
            return
        channels, one, other, places = table(layout, Plain(self._numbers(name)), self.target)
        self.step(
            Step(
                "output",
                name,
                lambda to: to.gather(place(-1, buffer.offset, one), place(number, 0, other), channels, places, 0.0),
            ),
            [buffer],
        )
