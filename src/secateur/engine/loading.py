"""Engines from files, where there need be no torch."""

from __future__ import annotations

import os
from pathlib import Path

from secateur.engine.engine import Engine
from secateur.engine.placing import TooLargeError
from secateur.engine.plan import from_json
from secateur.engine.tuning import Tuned
from secateur.native import load as kernels
from secateur.pack.arrays import load_kept
from secateur.vocabulary import BadTargetError, CorruptFileError

__all__ = ["load"]

# What the values of one sample may take, if nothing else is said.
_ALWAYS, _MOST_TIMES = 256 << 20, 1000


def load(path: str | Path, *, threads: int = 1, instructions: str = "", max_bytes: int | None = None) -> Engine:
    """Read an engine from a file that :meth:`Engine.save` wrote; needs numpy, and no torch.

    Every byte of the file is checked, and every operator before it can run: no file makes it read or write outside its
    own memory.

    Args:
        path: of the file.
        threads: on how many threads the engine computes.
        instructions: as of :func:`compile`.
        max_bytes: how much memory the weights may take, as of :func:`secateur.unpack`; and how much the values of one
            sample may take, a thousand times the file (256 MiB in any case) if left out.

    Raises:
        CorruptFileError: the file is damaged, holds no engine, or one that takes more memory than is allowed.
        MissingKernelsError: Secateur was installed without its compiled kernels.
        InputError: there are no such instructions here.
        FileNotFoundError: there is no such file.
    """
    kernels()
    try:
        arrays, notes = load_kept(path, max_bytes=max_bytes)
        if "plan" not in notes:
            raise CorruptFileError(f"{os.fspath(path)} holds no engine, only tensors: see secateur.unpack")
        plan = from_json(notes["plan"], arrays)
        if not plan.inputs:
            raise CorruptFileError("its network takes no arrays")
        tuned = Tuned.from_json(notes["tuning"]) if "tuning" in notes else None
        if max_bytes is None:
            max_bytes = max(_ALWAYS, _MOST_TIMES * Path(path).stat().st_size)
        return Engine(plan, threads=threads, instructions=instructions, tuned=tuned, max_bytes=max_bytes)
    except (BadTargetError, CorruptFileError, TooLargeError) as error:
        told = str(error) if os.fspath(path) in str(error) else f"{os.fspath(path)}: {error}"
        raise CorruptFileError(told) from error
