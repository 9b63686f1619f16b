"""What ``engine.py`` measures and what it should reach: every network with its rivals and bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TORCH, ONNX, DEEPSPARSE, CSR = "torch eager", "ONNX Runtime", "DeepSparse", "torch CSR"
ERROR = 1e-5  # of the engine, for every row
PEAK = 0.35  # share of the peak that 3x3 convolutions at 0.9 should reach
TWO_THREADS = 1.7  # times as fast as one


@dataclass(frozen=True)
class Case:
    """A network at some sparsities.

    Attributes:
        net: as ``engine_nets.build`` knows it.
        bars: for each sparsity, how many times faster than a rival the engine should be.
        layers: which are pruned: all "but the first", "all", or "pointwise".
        batch: inputs in a call.
        microseconds: that a call should take at most.
        globally: measured with one ranking for all of its layers too, without bars.
    """

    net: str
    bars: Mapping[float, Mapping[str, float]]
    layers: str = "but the first"
    batch: int = 1
    microseconds: float | None = None
    globally: bool = True


@dataclass(frozen=True)
class Task:
    """One row: a case at one sparsity, pruned layer by layer or in one ranking."""

    case: Case
    sparsity: float
    scope: str = "layerwise"
    bars: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name as a file."""
        words = (self.case.net, f"b{self.case.batch}", self.case.layers.replace(" ", "-"), self.scope)
        return f"{'-'.join(words)}-{self.sparsity:g}"


def _stacks() -> Iterator[Case]:
    bars = {0.9: {DEEPSPARSE: 1.0}, 0.95: {DEEPSPARSE: 1.0}}
    for net, batches in (
        ("3x3-128-28", (1, 8)),
        ("1x1-128-28", (1, 8)),
        ("3x3-64-32", (1,)),
        ("3x3-256-8", (1,)),
        ("3x3-512-4", (1,)),
    ):
        for batch in batches:
            for layers in ("but the first", "all"):
                yield Case(net, bars, layers, batch, globally=False)


CASES = (
    Case(
        "resnet-18",
        {
            0.9: {TORCH: 4.0, ONNX: 3.5, DEEPSPARSE: 1.3},
            0.95: {TORCH: 7.0, ONNX: 6.5, DEEPSPARSE: 2.0},
            0.98: {TORCH: 12.0, ONNX: 11.0},
        },
    ),
    *_stacks(),
    Case("resnet-50", {0.9: {ONNX: 2.0}, 0.95: {ONNX: 3.5}}),
    Case("mobilenet-v1", {0.9: {ONNX: 1.6}}, "pointwise"),
    Case("lenet-5", {0.99: {TORCH: 10.0}}, microseconds=30),
    Case("lenet-5", {0.99: {TORCH: 10.0}}, "all", microseconds=30),
    Case("lenet-300-100", {0.98: {TORCH: 10.0}}, microseconds=10),
    Case("lenet-300-100", {0.98: {TORCH: 10.0}}, "all", microseconds=10),
    Case(
        "linear-4096",
        {0.8: {TORCH: 2.5, CSR: 1.0}, 0.9: {TORCH: 5.0, CSR: 1.0}, 0.95: {TORCH: 9.0, CSR: 1.0}},
        "all",
        globally=False,
    ),
)
# Where the engine begins to pay: the same networks with more weights left.
EVEN = tuple(
    Case(net, {sparsity: {} for sparsity in (0.5, 0.6, 0.7, 0.8)}, layers, globally=False)
    for net, layers in (
        ("resnet-18", "but the first"),
        ("resnet-50", "but the first"),
        ("mobilenet-v1", "pointwise"),
        ("lenet-300-100", "but the first"),
        ("3x3-128-28", "but the first"),
        ("1x1-128-28", "but the first"),
        ("linear-4096", "all"),
    )
)


def tasks(cases: tuple[Case, ...]) -> list[Task]:
    """Return the rows of some cases: each with its bars, and the same without where it is pruned in one ranking."""
    found = []
    for case in cases:
        for sparsity, bars in case.bars.items():
            found.append(Task(case, sparsity, bars=bars))
            if case.globally:
                found.append(Task(case, sparsity, "global"))
    return found
