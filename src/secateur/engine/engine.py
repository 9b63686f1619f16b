"""A compiled network: called like the model it was made from, without torch."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.layouts import Target
from secateur.engine.placing import Placed, place
from secateur.engine.placing.convolving import Tiling
from secateur.engine.plan import Plan, from_json, gathered, structured, to_json
from secateur.engine.profile import Profile, Row
from secateur.engine.tuning import tune
from secateur.native import load as kernels
from secateur.pack.arrays import load_kept, write_arrays
from secateur.pack.kept import count_kept
from secateur.vocabulary import CorruptFileError, SecateurError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Engine", "InputError", "compile", "load"]

Array: TypeAlias = npt.NDArray[Any]


class InputError(SecateurError, ValueError):
    """An engine was called with arrays that do not fit its network."""


class _Mode:
    """A plan made into a program for one target."""

    def __init__(self, plan: Plan, target: Target, instructions: str, tilings: Mapping[int, Tiling]) -> None:
        self.tilings = dict(tilings)
        self.placed: Placed = place(plan, target, kernels(), self.tilings)
        self.instructions = instructions
        self.program = self.placed.program(kernels(), instructions)

    def tune(self) -> None:
        """Choose how each convolution is carried out, by measuring."""
        self.tilings.update(tune(self.placed.convolutions, self.placed.target, kernels(), self.instructions))
        self.program = self.placed.program(kernels(), self.instructions)

    def seconds(self, samples: int) -> float:
        """Return how long so many samples take, at best of a few runs."""
        inputs = [np.zeros(samples * size, np.float32) for size in self.placed.inputs]
        outputs = [np.empty(samples * size, np.float32) for size in self.placed.outputs]
        took = math.inf
        for _ in range(4):
            before = time.perf_counter()
            self.program.run(inputs, outputs, samples, 1)
            took = min(took, time.perf_counter() - before)
        return took


class Engine:
    """A network compiled for this processor: made by :func:`secateur.compile` or :func:`secateur.engine.load`.

    It is called with the arguments of the model, NumPy arrays or torch tensors of any batch size, and returns what the
    model returns, of the same library. Calls may come from several threads at once.

    Attributes:
        threads: on how many threads a call computes; may be changed at any time.

    Example:
        >>> import torch, secateur as sc
        >>> net = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5)).eval()
        >>> masks = sc.prune(net, sparsity=0.5)
        >>> engine = sc.compile(net, torch.zeros(1, 20))
        >>> x = torch.randn(3, 20)
        >>> bool((engine(x) - net(x)).abs().max() < 1e-5)
        True
        >>> engine(x.numpy()).shape
        (3, 5)
    """

    def __init__(
        self, plan: Plan, *, threads: int = 1, instructions: str = "", tuning: Mapping[str, Any] | None = None
    ) -> None:
        self.plan, self.threads, self._wanted = plan, threads, instructions
        self._lock = threading.Lock()
        self._modes: dict[bool, _Mode] = {}
        self._lanes, self.instructions = _processor(instructions)
        known = tuning is not None and tuning.get("instructions") == self.instructions
        self._tuning: dict[str, Any] = dict(tuning) if known and tuning is not None else {}
        # From how many samples on a vector of samples is faster than one after the other; unknown until tuned.
        self.batched_from = int(self._tuning.get("batched_from", self._lanes))
        self._mode(False)
        # The shapes of the input and of the output where there is but one of each.
        self._direct: tuple[Any, ...] = ()
        trees = [tree for _, tree in plan.arguments["args"]]
        floats = all(plan.values[name].dtype == "F32" for name in plan.inputs)
        if floats and trees == [{"value": plan.inputs[0]}] and plan.structure == {"value": plan.outputs[0]}:
            self._direct = (plan.values[plan.inputs[0]].shape, plan.values[plan.outputs[0]].shape)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the model computes.

        Args:
            args: as the model's, each array with a batch axis in front.
            kwargs: as the model's.

        Raises:
            ArgumentsError: arguments are missing, or of another structure than in the example.
            InputError: an array has another shape than in the example, batch aside.
        """
        if self._direct and len(args) == 1 and not kwargs and type(args[0]) is np.ndarray:
            return self._one(args[0])
        given = gathered(self.plan.arguments, args, kwargs)
        torch = sys.modules.get("torch")
        tensors = torch is not None and any(isinstance(each, torch.Tensor) for each in given.values())
        inputs = {name: self._array(name, each) for name, each in given.items()}
        outputs: dict[str, Any] = self.run(inputs)
        if tensors and torch is not None:
            outputs = {name: torch.from_numpy(each) for name, each in outputs.items()}
        return structured(self.plan.structure, outputs)

    def _one(self, given: Array) -> Array:
        """Return the only output for the only input: nothing here takes longer than a small network."""
        if given.dtype != np.float32 or given.shape[1:] != self._direct[0] or not given.flags.c_contiguous:
            given = self._array(self.plan.inputs[0], given)
        samples = len(given)
        output = np.empty((samples, *self._direct[1]), np.float32)
        if samples == 1:
            self._modes[False].program.run([given], [output], 1, self.threads)
        else:
            self._run([given], [output], samples)
        return output

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of the plan, by name, from its inputs: float32 arrays with a batch axis in front.

        Raises:
            InputError: inputs have different numbers of samples.
        """
        arrays = [np.ascontiguousarray(inputs[name], np.float32) for name in self.plan.inputs]
        counts = {len(array) for array in arrays}
        if len(counts) != 1:
            raise InputError(f"inputs have {sorted(counts)} samples: all need the same number")
        samples = counts.pop()
        shapes = [(samples, *self.plan.values[name].shape) for name in self.plan.outputs]
        outputs = [np.empty(shape, np.float32) for shape in shapes]
        self._run(arrays, outputs, samples)
        return dict(zip(self.plan.outputs, outputs, strict=True))

    def tune(self) -> Engine:
        """Choose the fastest way of every operator on this processor by measuring; takes some seconds at most.

        Results may differ in their last digits from those before.
        """
        for batched in (False, True):
            self._mode(batched).tune()
        one, many = self._mode(False).seconds(1), self._mode(True).seconds(self._lanes)
        self.batched_from = max(2, math.ceil(many / one)) if many < one * self._lanes else sys.maxsize
        self._tuning = {
            "instructions": self.instructions,
            "batched_from": self.batched_from,
            "single": _written(self._mode(False).tilings),
            "batched": _written(self._mode(True).tilings),
        }
        return self

    def profile(self, *args: Any, runs: int = 20, **kwargs: Any) -> Profile:
        """Return the time of every operator on one thread, the best of some runs.

        Args:
            args: as of a call; zeros of one sample if left out.
            runs: of the network.
            kwargs: as of a call.

        Returns:
            A table, to be printed: time, share, sparsity, useful GFLOP/s and their share of what the processor can do.
        """
        if args or kwargs:
            given = gathered(self.plan.arguments, args, kwargs)
            arrays = [self._array(name, given[name]) for name in self.plan.inputs]
        else:
            arrays = [np.zeros((1, *self.plan.values[name].shape), np.float32) for name in self.plan.inputs]
        samples = len(arrays[0])
        mode = self._mode(samples >= self.batched_from)
        outputs = [np.empty((samples, *self.plan.values[name].shape), np.float32) for name in self.plan.outputs]
        best = np.full(len(mode.placed.steps), np.inf)
        for _ in range(runs):
            seconds = np.zeros(len(best))
            mode.program.run(arrays, outputs, samples, 1, seconds)
            best = np.minimum(best, seconds)
        rows = tuple(
            Row(step.kind, step.where, float(each), step.operations * samples, step.dense * samples)
            for step, each in zip(mode.placed.steps, best, strict=True)
        )
        return Profile(rows, kernels().peak(self._wanted), self.instructions, samples)

    def save(self, path: str | Path) -> None:
        """Write the engine to a packed file, which :func:`secateur.engine.load` reads where there is no torch.

        Args:
            path: of the file, by convention ``.sct``.

        Raises:
            OSError: the file cannot be written; what was at ``path`` is still there.
        """
        notes = {"plan": to_json(self.plan)} | ({"tuning": json.dumps(self._tuning)} if self._tuning else {})
        write_arrays(path, {name: np.asarray(each) for name, each in self.plan.constants.items()}, notes=notes)

    def __repr__(self) -> str:
        weights = sum(array.size for array in self.plan.constants.values())
        kept = sum(map(count_kept, self.plan.constants.values()))
        return f"Engine({len(self.plan.ops)} operators, {kept:,} of {weights:,} numbers, {self.instructions})"

    def _array(self, name: str, given: Any) -> Array:
        """Return an input as the kernels take it."""
        shape = self.plan.values[name].shape
        if hasattr(given, "detach"):
            given = given.detach().cpu().numpy()
        array = np.asarray(given)
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            raise InputError(f"{name} is {list(array.shape)}, not [samples, {', '.join(map(str, shape))}]")
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name} holds {array.dtype}, not numbers")
        if self.plan.values[name].dtype == "I64" and array.size and np.abs(array).max() >= 1 << 24:
            raise InputError(f"{name} holds an index of {np.abs(array).max()}; the largest is {(1 << 24) - 1}")
        return np.ascontiguousarray(array, np.float32)

    def _run(self, inputs: list[Array], outputs: list[Array], samples: int) -> None:
        # Whole vectors of samples first; what is left, as one more if that pays.
        whole = samples // self._lanes * self._lanes if self.batched_from <= self._lanes else 0
        if samples - whole >= self.batched_from:
            whole = samples
        for batched, first, last in ((True, 0, whole), (False, whole, samples)):
            if last > first:
                part = [each[first:last] for each in inputs], [each[first:last] for each in outputs]
                try:
                    self._mode(batched).program.run(*part, last - first, self.threads)
                except IndexError as error:
                    raise InputError(f"an index among the inputs has no row in its table: {error}") from error

    def _mode(self, batched: bool) -> _Mode:
        with self._lock:
            if batched not in self._modes:
                tilings = _read(self._tuning.get("batched" if batched else "single", {}))
                target = Target(self._lanes, batched)
                self._modes[batched] = _Mode(self.plan, target, self._wanted, tilings)
            return self._modes[batched]


def compile(  # noqa: A001  # the word of the field, as in torch.compile
    model: nn.Module, example: Any, *, threads: int = 1, tune: bool = True, instructions: str = ""
) -> Engine:
    """Compile a model for this processor: weights that are zero are not computed with.

    Args:
        model: any module that ``torch.export`` can trace, pruned and best shrunk; it is not changed.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name; the first axis of each is the
            batch, of any size.
        threads: on how many threads the engine computes.
        tune: choose the fastest way of every operator by measuring; without, results are the same to the last digit on
            every run and every processor with the same instructions.
        instructions: "avx512", "avx2" or "baseline"; the best that the processor has if empty.

    Raises:
        UnsupportedError: the engine lacks operators of the model; each is named with its place.
        ExampleError: the example has no batch axis.
        TraceError: the model cannot be traced.
        MissingKernelsError: Secateur was installed without its compiled kernels.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()).eval()
        >>> compile(net, torch.zeros(1, 1, 8, 8), tune=False)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 4, 6, 6])
    """
    from secateur.engine.lowering import lower

    kernels()  # before anything that takes long
    engine = Engine(lower(model, example), threads=threads, instructions=instructions)
    return engine.tune() if tune else engine


def load(path: str | Path, *, threads: int = 1, instructions: str = "", max_bytes: int | None = None) -> Engine:
    """Read an engine from a file that :meth:`Engine.save` wrote; needs numpy, and no torch.

    Every byte of the file is checked, and every operator before it can run: no file makes it read or write outside its
    own memory.

    Args:
        path: of the file.
        threads: on how many threads the engine computes.
        instructions: as of :func:`compile`.
        max_bytes: how much memory the weights may take, as of :func:`secateur.unpack`.

    Raises:
        CorruptFileError: the file is damaged, or holds no engine.
        MissingKernelsError: Secateur was installed without its compiled kernels.
        FileNotFoundError: there is no such file.
    """
    kernels()
    arrays, notes = load_kept(path, max_bytes=max_bytes)
    if "plan" not in notes:
        raise CorruptFileError(f"{os.fspath(path)} holds no engine, only tensors: see secateur.unpack")
    try:
        plan = from_json(notes["plan"], arrays)
        tuning = json.loads(notes["tuning"]) if "tuning" in notes else None
        return Engine(plan, threads=threads, instructions=instructions, tuning=tuning)
    except (CorruptFileError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFileError(f"{os.fspath(path)}: {error}") from error


def _processor(instructions: str) -> tuple[int, str]:
    program = kernels().Program(instructions, 0, [], [], False)
    return program.lanes, program.kernels


def _written(tilings: Mapping[int, Tiling]) -> dict[str, list[int]]:
    return {str(number): list(astuple(tiling)) for number, tiling in tilings.items()}


def _read(tilings: Mapping[str, Any]) -> dict[int, Tiling]:
    read = {int(number): Tiling(*(int(each) for each in tiling)) for number, tiling in tilings.items()}
    if any(min(astuple(tiling)) < 1 for tiling in read.values()):
        raise CorruptFileError("a tiling is empty")
    return read
