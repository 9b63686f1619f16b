"""Hugging Face transformers: what to prune in any of its models, a Trainer callback that does, and packed folders."""

from secateur.vocabulary import MissingExtraError

try:
    import transformers  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "secateur.integrations.transformers needs transformers: pip install 'secateur[transformers]'"
    ) from error

from secateur.integrations.transformers.callback import Pruning
from secateur.integrations.transformers.packed import load_packed, save_packed
from secateur.integrations.transformers.targets import HEADS, IGNORED, prunable

__all__ = ["HEADS", "IGNORED", "Pruning", "load_packed", "prunable", "save_packed"]
