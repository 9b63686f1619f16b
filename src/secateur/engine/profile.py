"""Where the time of an engine goes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Profile", "Row"]


@dataclass(frozen=True)
class Row:
    """One step.

    Attributes:
        kind: of the operator; "input", "output" and "move" where numbers only move.
        where: its place in the model.
        seconds: it took.
        operations: multiplications and additions with weights that are not zero.
        dense: the same, zeros included.
    """

    kind: str
    where: str
    seconds: float
    operations: int
    dense: int

    @property
    def sparsity(self) -> float:
        """Share of the operations that were left out."""
        return 1.0 - self.operations / self.dense if self.dense else 0.0

    @property
    def gflops(self) -> float:
        """Useful floating-point operations a nanosecond: those with weights that are not zero."""
        return 2e-9 * self.operations / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """A table of steps; printed, it shows where the time goes.

    Attributes:
        rows: in the order in which they run.
        peak: what one thread of this processor can do at most, measured, GFLOP/s.
        instructions: the instruction set.
        samples: of a run.
    """

    rows: tuple[Row, ...]
    peak: float
    instructions: str
    samples: int

    @property
    def seconds(self) -> float:
        """Of all steps together."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        """Return the table."""
        head = ["operator", "where", "µs", "share", "sparsity", "GFLOP/s", "of peak"]
        lines = [head, *(self._line(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        aligned = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
        useful = sum(row.operations for row in self.rows)
        total = f"{1e6 * self.seconds:.1f} µs for {self.samples} sample{'s' * (self.samples != 1)}"
        rate = 2e-9 * useful / self.seconds if self.seconds else 0.0
        aligned.append(f"{total}, one thread, {self.instructions}: {rate:.1f} useful GFLOP/s of {self.peak:.1f}")
        return "\n".join(aligned)

    def _line(self, row: Row) -> list[str]:
        share = row.seconds / self.seconds if self.seconds else 0.0
        line = [row.kind, row.where, f"{1e6 * row.seconds:.1f}", f"{share:.1%}"]
        if not row.dense:
            return [*line, "", "", ""]
        return [*line, f"{row.sparsity:.3f}", f"{row.gflops:.1f}", f"{row.gflops / self.peak:.0%}" if self.peak else ""]


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if number < 2 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
