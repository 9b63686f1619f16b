"""Memory that each training step frees and asks for again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

__all__ = ["allocator_settings", "memory_kept"]

# Parameters of glibc's mallopt(3), from its malloc.h, and the values its own adjusting ends at in a long process.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_THRESHOLD = 32 * 2**20
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: _LARGEST_THRESHOLD, _TRIM_THRESHOLD: 2 * _LARGEST_THRESHOLD}


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Let the C library keep freed memory for the next step instead of giving it back to the system.

    A step's activations and gradients are megabytes each. By default glibc maps such blocks one by one, so every step
    pays for the system's zeroing their pages anew: of a LeNet-5's step a quarter. Afterwards what is free goes back,
    and the thresholds stand where glibc's own adjusting ends: blocks of up to 32 MB are reused, larger ones mapped.
    What is timed later in the process may thus be quicker than in one that never trained. Other C libraries, and
    processes whose user set the allocator through the environment, are left alone.

    Example:
        >>> with memory_kept():
        ...     steps = [bytearray(10**7) for _ in range(3)]
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def allocator_settings() -> list[str]:
    """Return the names of the environment's variables that set the allocator or may bring another."""
    return [name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD")]


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc and its allocator is as it comes."""
    if allocator_settings() or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)
