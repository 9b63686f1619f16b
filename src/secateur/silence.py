"""Torch's exporters without what they print: tracebacks and graphs of what they raise too, progress, advice."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

__all__ = ["silence"]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the loggers of torch, and what is printed to standard error, off the console inside a ``with``."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "torch"]
    loggers = [logging.getLogger(name) for name in ("torch", *names)]
    before = [(logger, logger.handlers, logger.propagate) for logger in dict.fromkeys(loggers)]
    try:
        for logger, *_ in before:
            logger.handlers, logger.propagate = [logging.NullHandler()], False
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
