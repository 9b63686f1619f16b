"""Shrinking under JAX and TensorFlow: a process of its own does it, under the torch backend, from files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from secateur.integrations.keras.targets import as_array
from secateur.integrations.keras.tracing import given
from secateur.shrink.shrinking import NothingShrunkWarning, Shrinkage
from secateur.vocabulary import BadTargetError

__all__ = ["ask"]

_CALL = "import sys; from secateur.integrations.keras.serving import serve; serve(sys.argv[1])"


def ask(whole: Any, example: Any) -> tuple[Any, Shrinkage]:
    """Let a process under the torch backend shrink a model; return the smaller one, under this backend, and the record.

    Model and example go there as files, and the smaller model comes back as one. It takes as long as it takes to import
    Keras and torch, and some.

    Args:
        whole: a sequential or functional model.
        example: what it takes.

    Raises:
        BadTargetError: the process could not load the model or shrink it.
    """
    with tempfile.TemporaryDirectory(prefix="secateur-") as name:
        folder = Path(name)
        whole.save(folder / "whole.keras")
        leaves = keras.tree.flatten(given(example))
        np.savez(folder / "example.npz", *map(as_array, leaves))
        path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
        environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-c", _CALL, name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        answer = folder / "answer.json"
        if not answer.exists():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise BadTargetError(
                f"a process under the torch backend could not shrink {whole.name}: "
                f"{lines[-1] if lines else f'exit code {done.returncode}'}; save the model, and shrink it where "
                "KERAS_BACKEND=torch is set and its custom objects are known"
            )
        told = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in told:
            raise BadTargetError(told["error"])
        small = keras.saving.load_model(folder / "small.keras", compile=False)
    for text in told["warnings"]:
        warnings.warn(text, NothingShrunkWarning, stacklevel=3)
    return small, _record(told["record"])


def _record(told: dict[str, Any]) -> Shrinkage:
    kept = {n: {int(dim): torch.tensor(rows) for dim, rows in axes.items()} for n, axes in told.pop("kept").items()}
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Shrinkage(kept=kept, **plain)
