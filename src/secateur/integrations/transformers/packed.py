"""A folder as ``save_pretrained`` writes it, its weights in a packed file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from secateur.pack.container import Packed, read_index
from secateur.pack.packing import TORCH_DTYPES, pack
from secateur.pack.unpacking import unpack

__all__ = ["load_packed", "save_packed"]

_PACKED = "model.sct"


def save_packed(model: Any, folder: str | Path, *, bits: int | None = None) -> Packed:
    """Write a transformers model into a folder as ``save_pretrained`` does, its weights packed (``model.sct``).

    Args:
        model: any ``PreTrainedModel``.
        folder: made if it is not there.
        bits: as in :func:`secateur.pack`; lossless if None.

    Raises:
        OSError: the folder cannot be written.
    """
    model.config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None and model.can_generate():
        model.generation_config.save_pretrained(folder)
    return pack(model, Path(folder) / _PACKED, bits=bits)


def load_packed(kind: Any, folder: str | Path) -> Any:
    """Return the model that :func:`save_packed` wrote, in eval mode.

    Args:
        kind: an ``AutoModel...`` class, or the model's own.
        folder: with ``config.json`` and ``model.sct``.

    Raises:
        CorruptFileError: the packed file is damaged, hostile or no packed file.
        BadTargetError: it does not fit the class that was asked for.
        FileNotFoundError: there is no packed file.

    Example:
        >>> import tempfile
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> tiny = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16, bos_token_id=0, eos_token_id=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     packed = save_packed(AutoModelForCausalLM.from_config(tiny), folder)
        ...     model = load_packed(AutoModelForCausalLM, folder)
        >>> type(model).__name__, dict(packed.ties)
        ('GPT2LMHeadModel', {'lm_head.weight': 'transformer.wte.weight'})
    """
    path = Path(folder) / _PACKED
    records = read_index(path).records.values()
    config = AutoConfig.from_pretrained(folder)
    model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    types = {TORCH_DTYPES[record.dtype] for record in records}
    floats = [dtype for dtype in types if dtype.is_floating_point]
    if len(floats) == 1:  # a model is made in the type of its config, and may have been converted since
        model = model.to(floats[0])
    return unpack(path, into=model).eval()
