"""tfmot's names for the core's schedules."""

from __future__ import annotations

from secateur.train.schedules import ConstantSchedule, PolynomialSchedule

__all__ = ["ConstantSparsity", "PolynomialDecay"]

PolynomialDecay = PolynomialSchedule


def ConstantSparsity(  # noqa: N802 - tfmot's name
    target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100
) -> ConstantSchedule:
    """Return a schedule of one sparsity from ``begin_step`` on.

    Args:
        target_sparsity: share of the weights to remove, in [0, 1].
        begin_step: first optimizer step at which to prune.
        end_step: last one; -1 for no end. Without regrowth a second drawing changes nothing, so neither does this.
        frequency: steps from one drawing of the masks to the next.

    Raises:
        SelectionError: a number is out of range.

    Example:
        >>> ConstantSparsity(0.5, begin_step=100)(100)
        0.5
    """
    return ConstantSchedule(target_sparsity, begin_step, end_step, frequency)
