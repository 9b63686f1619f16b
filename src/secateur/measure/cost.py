"""What a model costs to keep and to run: bytes, milliseconds, peak memory."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from secateur.measure.report import Bytes, Latency
from secateur.pack.csr import csr_bytes
from secateur.pack.packing import packed_bytes
from secateur.shrink import manifest
from secateur.vocabulary import BadTargetError, SelectionError

__all__ = ["Timing", "latencies", "latency", "peak_memory", "size_in_bytes"]


@dataclass(frozen=True)
class Timing:
    """How to time: calls before, calls counted, CPU threads (None = as they are).

    Raises:
        SelectionError: a number below 1 (below 0 for ``warmup``).

    Example:
        >>> Timing(repeats=100)
        Timing(warmup=10, repeats=100, threads=None)
    """

    warmup: int = 10
    repeats: int = 50
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.repeats < 1 or (self.threads is not None and self.threads < 1):
            raise SelectionError(f"{self} needs warmup >= 0, repeats >= 1, threads >= 1")


def size_in_bytes(model: nn.Module) -> Bytes:
    """Return the size of the ``state_dict``, tied tensors once: as a file, gzipped, as torch CSR, and packed.

    Example:
        >>> size_in_bytes(nn.Linear(100, 10, bias=False)).dense > 4000
        True
    """
    # The extra state of a module may be any object.
    found = bytes_of({name: each for name, each in model.state_dict().items() if isinstance(each, Tensor)})
    if found.packed is None or manifest(model) is None:
        return found
    return dataclasses.replace(found, packed=packed_bytes(model))  # with what was removed from it


def bytes_of(named: Mapping[str, Tensor]) -> Bytes:
    """Return the size of named tensors, those that share their values once, in the forms of :class:`Bytes`.

    Example:
        >>> bytes_of({"w": torch.zeros(1000)}).dense > 4000
        True
    """
    seen: set[tuple[int, int]] = set()
    tensors = {}
    for name, tensor in named.items():
        key = (tensor.data_ptr(), tensor.numel())
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    data = save(tensors)
    gzipped = len(gzip.compress(data, compresslevel=6, mtime=0))
    try:
        packed = packed_bytes(tensors)
    except BadTargetError:  # of a type that only safetensors knows
        packed = None
    return Bytes(len(data), gzipped, csr_bytes(tensors), packed)


def latency(function: Callable[[], object], timing: Timing = Timing(), batch: int = 1) -> Latency:
    """Time a call: median and 10th to 90th percentile in milliseconds.

    Args:
        function: called without arguments; on CUDA the device is synchronised around each call.
        timing: warm-up, repeats, threads; the thread count is put back afterwards.
        batch: examples a call handles, for the record only.

    Example:
        >>> latency(lambda: sum(range(100)), Timing(warmup=1, repeats=5)).repeats
        5
    """
    return latencies([function], timing, batch)[0]


def latencies(
    functions: Sequence[Callable[[], object]],
    timing: Timing = Timing(),
    batch: int = 1,
) -> list[Latency]:
    """Time several calls in turn, A B A B ..., so that they can be compared on a machine whose speed drifts.

    Args are those of :func:`latency`.

    Example:
        >>> [each.repeats for each in latencies([lambda: 1, lambda: 2], Timing(warmup=1, repeats=3))]
        [3, 3]
    """
    times: list[list[float]] = [[] for _ in functions]
    with _threads(timing.threads):
        for call in range(timing.warmup + timing.repeats):
            for function, own in zip(functions, times, strict=True):
                elapsed = _once(function)
                if call >= timing.warmup:
                    own.append(elapsed)
        threads = torch.get_num_threads()
    return [_summary(sorted(own), timing, threads, batch) for own in times]


def _summary(times: list[float], timing: Timing, threads: int, batch: int) -> Latency:
    low, high = times[len(times) // 10], times[-1 - len(times) // 10]
    return Latency(statistics.median(times), low, high, timing.warmup, timing.repeats, threads, batch)


def _once(function: Callable[[], object]) -> float:
    _synchronise()
    start = time.perf_counter_ns()
    function()
    _synchronise()
    return (time.perf_counter_ns() - start) / 1e6


def _synchronise() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory(model: nn.Module, example: tuple[Any, ...]) -> int:
    """Return the most bytes alive at once in a forward pass: parameters, buffers, inputs and activations.

    On CUDA what the call adds at its peak is the allocator's own figure (whose peak statistics are reset); on CPU every
    tensor an operator returns is counted while it lives, which leaves out what kernels allocate for themselves.

    Example:
        >>> peak_memory(nn.Linear(10, 5, bias=False), (torch.zeros(1, 10),))
        260
    """
    tracker = _Tracker()
    for tensor in [*model.parameters(), *model.buffers()]:
        tracker.see(tensor)
    # An example may be a small view of a large data set: only the view counts.
    tracker.add_input([leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor)])
    first = next((p for p in model.parameters()), None)
    try:
        # Not inference_mode: what a module caches on its first call must stay usable in training.
        with torch.no_grad():
            if first is not None and first.is_cuda:
                return tracker.now + _added_on_cuda(model, example, first.device)
            with tracker:
                model(*example)
        return tracker.peak
    finally:
        tracker.detach()


def _added_on_cuda(model: nn.Module, example: tuple[Any, ...], device: torch.device) -> int:
    """Return the bytes a call adds at its peak to whatever else lives on the device."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    model(*example)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class _Tracker(TorchDispatchMode):
    """Counts the bytes of storages from the operator that returns them until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()
        self._finalizers: list[weakref.finalize[..., Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            self.see(leaf)
        return result

    def add_input(self, tensors: Sequence[Tensor]) -> None:
        """Count inputs, whose storages belong to the caller."""
        self._known |= {tensor.untyped_storage()._cdata for tensor in tensors}
        self.now += sum(tensor.nbytes for tensor in tensors)
        self.peak = max(self.peak, self.now)

    def see(self, value: Any) -> None:
        """Count a tensor's storage unless it is counted already."""
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return
        storage = value.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self._finalizers.append(weakref.finalize(storage, self._free, storage._cdata, storage.nbytes()))

    def detach(self) -> None:
        """Leave nothing behind on tensors that live on."""
        for finalizer in self._finalizers:
            finalizer.detach()

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
