"""The process that shrinks a model for one under JAX or TensorFlow."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from secateur.integrations.keras.shrinking import shrink
from secateur.shrink.shrinking import NothingShrunkWarning, shrinkage
from secateur.vocabulary import SecateurError

__all__ = ["serve"]


def serve(name: str) -> None:
    """Shrink, under the torch backend, the model left in a folder, and leave the answer there.

    :func:`~secateur.integrations.keras.elsewhere.ask` leaves it and reads the answer.
    """
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
