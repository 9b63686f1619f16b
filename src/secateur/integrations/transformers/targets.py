"""What may be pruned in a model of transformers: its body, fused experts among it, and not its heads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from secateur.choose.targets import prunable as core_prunable
from secateur.choose.targets import register
from secateur.modules import unwrap
from secateur.vocabulary import Layout, NothingPrunedWarning, Weights

__all__ = ["HEADS", "IGNORED", "Pattern", "prunable"]

Pattern = str | type[nn.Module]

# What stands for a model's own heads among the patterns of ``ignore``: no module can have such a name.
HEADS = "(outside base_model)"

# Heads, also of models that are their own base model, and what routes tokens to experts. Embeddings are no targets
# unless they are included.
IGNORED = (
    HEADS,
    "lm_head",
    "classifier",
    "score",
    "qa_outputs",
    "visual_projection",
    "text_projection",
    "*.pooler",
    "pooler",
    "*.gate",
    "*.router",
    "*embeddings*",
)

# Fused experts that hold (experts, in, out) and, in some or all versions of transformers, do not say so.
_HOLD_INPUTS_FIRST = ("Llama4TextExperts", "GptOssExperts", "Qwen3VLMoeTextExperts", "AriaGroupedExpertsGemm")

register(Conv1D, {"weight": Layout(out_axis=1, in_axis=0)})


def prunable(
    model: nn.Module,
    include: Sequence[Pattern] | None = None,
    ignore: Sequence[Pattern] = IGNORED,
    biases: bool = False,
) -> Weights:
    """Return the weights of a transformers model that may be pruned, by ``state_dict`` name.

    Beside what :func:`secateur.prunable` knows these are GPT-2's ``Conv1D`` and the fused weights of experts, one 3-D
    tensor for all: (experts, out, in), or (experts, in, out) where the model holds them so. Left out by default are
    embeddings, poolers, routers, and heads: all that stands outside the model's ``base_model``, and what has a head's
    usual name.

    Args:
        model: any ``PreTrainedModel``, or any other module.
        include: as in :func:`secateur.prunable`.
        ignore: names or globs or classes to leave out, in place of :data:`IGNORED`; to leave out more,
            ``[*IGNORED, "more"]``. :data:`HEADS` among them stands for what is outside ``base_model``. Warned of if
            it matches nothing, unless it is one of the defaults.
        biases: whether biases are targets.

    Raises:
        BadTargetError: nothing is left, or an ``include`` matches nothing.

    Example:
        >>> from transformers import AutoModel, GPT2Config
        >>> tiny = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16, bos_token_id=0, eos_token_id=0)
        >>> list(prunable(AutoModel.from_config(tiny)))[:2]
        ['h.0.attn.c_attn.weight', 'h.0.attn.c_proj.weight']
    """
    for module in model.modules():
        fused = {key: p for key, p in module.named_parameters(recurse=False) if p.ndim == 3}
        if fused and "Experts" in type(module).__name__:
            by_name = type(module).__name__ in _HOLD_INPUTS_FIRST
            inputs_first = bool(getattr(module, "is_transposed", by_name))
            register(type(module), dict.fromkeys(fused, _inputs_first if inputs_first else _outputs_first))
    heads = list(_outside(unwrap(model))) if HEADS in ignore else []
    named = [pattern for pattern in ignore if pattern != HEADS]
    # A default that matches nothing here is no mistake; one of the user's own may be one.
    silent = set(IGNORED) if set(IGNORED) <= set(ignore) else set()
    with warnings.catch_warnings():
        for pattern in silent:
            warnings.filterwarnings("ignore", re.escape(f"ignore={pattern!r} matched"), NothingPrunedWarning)
        return core_prunable(model, include, [*heads, *named], biases)


def _outside(model: nn.Module) -> Iterator[str]:
    """Yield the names of the parameters that belong to no body: neither to ``base_model`` nor to a model beside it."""
    base = getattr(model, "base_model", model)
    if base is model or not isinstance(model, PreTrainedModel):
        return
    bodies = tuple(
        f"{name}."
        for name, each in model.named_modules()
        if each is base or (isinstance(each, PreTrainedModel) and each is not model)
    )
    for name, _ in model.named_parameters(remove_duplicate=False):
        if not name.startswith(bodies):
            yield name


def _outputs_first(parameter: nn.Parameter) -> Layout:
    return Layout(groups=parameter.shape[0], stacked=True)


def _inputs_first(parameter: nn.Parameter) -> Layout:
    return Layout(out_axis=1, in_axis=0, groups=parameter.shape[0], stacked=True)
