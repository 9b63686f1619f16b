"""A compiled network: called like the model it was made from, without torch."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.engine.arguments import InputError, as_array
from secateur.engine.layouts import Target
from secateur.engine.modes import Mode
from secateur.engine.placing.convolving import Tiling
from secateur.engine.plan import Plan, gathered, structured, to_json
from secateur.engine.profile import Profile, Row
from secateur.engine.tuning import Tuned
from secateur.native import load as kernels
from secateur.pack.arrays import write_arrays
from secateur.pack.kept import count_kept

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Engine", "compile"]

Array: TypeAlias = npt.NDArray[Any]

# Arenas of vectors of samples are not made larger: 2 GiB.
_MOST_FLOATS = 1 << 29


class Engine:
    """A network compiled for this processor: made by :func:`secateur.compile` or :func:`secateur.engine.load`.

    It is called with the arguments of the model, NumPy arrays or torch tensors of any batch size, and returns what the
    model returns, of the same library. Calls may come from several threads at once.

    Attributes:
        plan: what is computed; printed, it is a table of operators.
        instructions: the instruction set in use.
        batched_from: from how many samples on each lane of a vector computes one.

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
        self,
        plan: Plan,
        *,
        threads: int = 1,
        instructions: str = "",
        tuned: Tuned | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.plan, self.threads, self._wanted = plan, threads, instructions
        self._lock = threading.Lock()
        self._modes: dict[bool, Mode] = {}
        self._lanes, self.instructions = _processor(instructions)
        self._tuned = tuned if tuned is not None and tuned.instructions == self.instructions else None
        if not plan.inputs:
            raise InputError("the network takes no arrays: nothing tells how many samples are wanted")
        tilings = self._tuned.single if self._tuned else {}
        single = Mode(plan, Target(self._lanes, False), instructions, tilings, max_bytes)
        self._modes[False] = single
        # From how many samples on a vector of samples is faster than one after the other; a guess until tuned.
        self.batched_from = self._tuned.batched_from if self._tuned else self._lanes
        if single.placed.arena * self._lanes > _MOST_FLOATS:
            self.batched_from = sys.maxsize
        # The shapes of the input and of the output where there is but one of each.
        self._direct: tuple[Any, ...] = ()
        trees = [tree for _, tree in plan.arguments["args"]]
        alone = trees == [{"value": plan.inputs[0]}] and not plan.arguments["kwargs"]
        if alone and plan.values[plan.inputs[0]].dtype == "F32" and plan.structure == {"value": plan.outputs[0]}:
            self._direct = (plan.values[plan.inputs[0]].shape, plan.values[plan.outputs[0]].shape)

    @property
    def threads(self) -> int:
        """On how many threads a call computes, 1 to 1024; may be changed at any time."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        if count != int(count) or not 1 <= count <= 1024:
            raise InputError(f"{count} threads: 1 to 1024 can be used, best as many as the processor has cores")
        self._threads = int(count)

    def __reduce__(self) -> NoReturn:  # for pickle and copy.deepcopy
        raise TypeError("an Engine holds threads and laid-out weights; save() it, and secateur.engine.load() the file")

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
        outputs: dict[str, Any] = self.run(given)
        if tensors and torch is not None:
            outputs = {name: torch.from_numpy(each) for name, each in outputs.items()}
        return structured(self.plan.structure, outputs)

    def _one(self, given: Array) -> Array:
        """Return the only output for the only input: nothing here takes longer than a small network."""
        flags = given.flags
        fits = given.ndim > 0 and given.shape[1:] == self._direct[0] and given.dtype == np.float32
        if not (fits and flags.c_contiguous and flags.aligned):
            name = self.plan.inputs[0]
            given = as_array(name, self.plan.values[name], given)
        samples = len(given)
        output = np.empty((samples, *self._direct[1]), np.float32)
        if samples == 1:
            self._modes[False].program.run([given], [output], 1, self.threads)
        else:
            self._run([given], [output], samples)
        return output

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Compute the outputs of the plan, by name, from its inputs: arrays with a batch axis in front.

        Raises:
            InputError: an array has another shape than in the plan, or they have different numbers of samples.
        """
        arrays = [as_array(name, self.plan.values[name], inputs[name]) for name in self.plan.inputs]
        counts = {len(array) for array in arrays}
        if len(counts) != 1:
            raise InputError(f"inputs have {sorted(counts)} samples: all need the same number")
        samples = counts.pop()
        shapes = [(samples, *self.plan.values[name].shape) for name in self.plan.outputs]
        outputs = [np.empty(shape, np.float32) for shape in shapes]
        self._run(arrays, outputs, samples)
        return dict(zip(self.plan.outputs, outputs, strict=True))

    def tune(self) -> Engine:
        """Choose by measuring on this processor how each convolution is carried out, and for how many samples one takes
        a lane each; takes some seconds at most.

        Results may differ in their last digits from those before.
        """
        single, batched = self._mode(False), dict[int, Tiling]()
        single.tune()
        if single.placed.arena * self._lanes <= _MOST_FLOATS:
            mode = self._mode(True)
            mode.tune()
            one, many = single.seconds(1), mode.seconds(self._lanes)
            self.batched_from = max(2, math.ceil(many / one)) if many < one * self._lanes else sys.maxsize
            batched = mode.tilings
        self._tuned = Tuned(self.instructions, self.batched_from, dict(single.tilings), dict(batched))
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
            arrays = [as_array(name, self.plan.values[name], given[name]) for name in self.plan.inputs]
        else:
            arrays = [np.zeros((1, *self.plan.values[name].shape), np.float32) for name in self.plan.inputs]
        if runs < 1:
            raise InputError(f"{runs} runs: one at least is timed")
        samples = len(arrays[0])
        if any(len(each) != samples for each in arrays):
            sizes = ", ".join(str(len(each)) for each in arrays)
            raise InputError(f"the inputs are batches of {sizes} samples, not of one number")
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
        notes = {"plan": to_json(self.plan)} | ({"tuning": self._tuned.to_json()} if self._tuned else {})
        write_arrays(path, {name: np.asarray(each) for name, each in self.plan.constants.items()}, notes=notes)

    def __repr__(self) -> str:
        weights = sum(array.size for array in self.plan.constants.values())
        kept = sum(map(count_kept, self.plan.constants.values()))
        return f"Engine({len(self.plan.ops)} operators, {kept:,} of {weights:,} numbers, {self.instructions})"

    def _run(self, inputs: list[Array], outputs: list[Array], samples: int) -> None:
        # Whole vectors of samples first; what is left, as one more if that pays. Threads rather take samples each.
        whole = samples // self._lanes * self._lanes if self.batched_from <= self._lanes else 0
        if samples - whole >= self.batched_from:
            whole = samples
        if samples < self.batched_from * min(self.threads, samples):
            whole = 0
        for batched, first, last in ((True, 0, whole), (False, whole, samples)):
            if last > first:
                part = [each[first:last] for each in inputs], [each[first:last] for each in outputs]
                try:
                    self._mode(batched).program.run(*part, last - first, self.threads)
                except IndexError as error:
                    raise InputError(f"an index among the inputs has no row in its table: {error}") from error

    def _mode(self, batched: bool) -> Mode:
        with self._lock:
            if batched not in self._modes:
                tilings = self._tuned.batched if self._tuned else {}
                self._modes[batched] = Mode(self.plan, Target(self._lanes, batched), self._wanted, tilings)
            return self._modes[batched]


def compile(  # noqa: A001  # the word of the field, as in torch.compile
    model: nn.Module, example: Any, *, threads: int = 1, tune: bool = True, instructions: str = ""
) -> Engine:
    """Compile a model for this processor: weights that are zero are not computed with where that is faster.

    Args:
        model: any module that ``torch.export`` can trace, pruned and best shrunk; it is not changed.
        example: a tensor, a tuple of positional inputs, or a dict of inputs by name; the first axis of each is the
            batch, of any size.
        threads: on how many threads the engine computes.
        tune: as :meth:`Engine.tune` does; without, results are the same to the last digit on every run with as many
            threads, on every processor with the same instructions.
        instructions: "avx512", "avx2" or "baseline"; the best that the processor has if empty.

    Raises:
        UnsupportedError: the engine lacks operators of the model; each is named with its place.
        ExampleError: the example has no batch axis.
        TraceError: the model cannot be traced.
        InputError: there are no such instructions here, or the model takes no arrays.
        TooLargeError: a value of one sample is larger than 8 GiB.
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


def _processor(instructions: str) -> tuple[int, str]:
    known = kernels().sets()
    if instructions not in ("", *known):
        raise InputError(f"the instruction set {instructions!r} is not one of {', '.join(known)}, which are here")
    program = kernels().Program(instructions, 0, [], [], False)
    return program.lanes, program.kernels
