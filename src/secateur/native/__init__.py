"""The compiled kernels: whether they are there, and what is missing if they are not.

They are built from ``native/`` when Secateur is installed, if a C++17 compiler is there. Without them everything but
the engine works, selection more slowly. ``SECATEUR_NATIVE=0`` in the environment does as if they were not there.
"""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType

__all__ = ["available", "load", "why_not"]

_INTERFACE = 2
_BUILD = "install a C++17 compiler and then Secateur again (in a checkout: `make native`)"


def available() -> bool:
    """Return whether the kernels can be used.

    Example:
        >>> available() == (why_not() is None)
        True
    """
    return _found()[0] is not None


def why_not() -> str | None:
    """Return what keeps the kernels from being used and the way out; None where nothing does."""
    return _found()[1]


def load() -> ModuleType:
    """Return the module of the kernels.

    Raises:
        MissingKernelsError: they are not there; the text says why and what to do.
    """
    module, reason = _found()
    if module is None:
        from secateur.vocabulary import MissingKernelsError

        raise MissingKernelsError(reason)
    return module


@functools.cache
def _found() -> tuple[ModuleType | None, str | None]:
    """Return the module, or None and the reason."""
    if os.environ.get("SECATEUR_NATIVE") == "0":
        return None, "the compiled kernels are switched off by SECATEUR_NATIVE=0; unset it"
    try:
        module = importlib.import_module("secateur.native._kernels")
    except ModuleNotFoundError:
        return None, f"Secateur was installed without its compiled kernels: {_BUILD}"
    except ImportError as error:
        return None, f"the compiled kernels do not load ({error}): {_BUILD}"
    if module.INTERFACE != _INTERFACE:
        return None, f"the compiled kernels were built from other sources than this Secateur: {_BUILD}"
    return module, None
