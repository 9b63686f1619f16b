"""Shrinking under JAX and TensorFlow: a process of its own does it, under the torch backend, from files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from secateur.integrations.keras.targets import as_array
from secateur.integrations.keras.tracing import given
from secateur.shrink.shrinking import NothingShrunkWarning, Shrinkage, shrinkage
from secateur.vocabulary import BadTargetError, SecateurError

__all__ = ["ask", "serve"]

_CALL = "import sys; from secateur.integrations.keras.elsewhere import serve; serve(sys.argv[1])"


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


def serve(name: str) -> None:
    """Shrink the model that :func:`ask` has left in a folder, under the torch backend, and leave the answer there."""
    from secateur.integrations.keras.shrinking import shrink

    folder = Path(name)
    whole = keras.saving.load_model(folder / "whole.keras", compile=False)
    with np.load(folder / "example.npz") as arrays:
        leaves = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
    example = leaves[0] if isinstance(whole, keras.Sequential) else keras.tree.pack_sequence_as(whole.input, leaves)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            small = shrink(whole, example)
        except SecateurError as error:
            _leave(folder, {"error": str(error)})
            return
    small.save(folder / "small.keras")
    record = shrinkage(small)
    assert record is not None
    kept = {name: {str(dim): rows.tolist() for dim, rows in axes.items()} for name, axes in record.kept.items()}
    told = [str(each.message) for each in caught if issubclass(each.category, NothingShrunkWarning)]
    _leave(folder, {"record": {**asdict(record), "kept": kept}, "warnings": told})


def _leave(folder: Path, answer: dict[str, Any]) -> None:
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _record(told: dict[str, Any]) -> Shrinkage:
    kept = {n: {int(dim): torch.tensor(rows) for dim, rows in axes.items()} for n, axes in told.pop("kept").items()}
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Shrinkage(kept=kept, **plain)
