"""How torch computes while the lab trains or times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["torch_at"]


@contextlib.contextmanager
def torch_at(threads: int) -> Iterator[None]:
    """Let torch compute on so many threads; denormal numbers, of which pruned training makes many, are slow: zeros.

    Example:
        >>> with torch_at(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
