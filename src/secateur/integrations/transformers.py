"""Hugging Face transformers: what to prune in any of its models, and a Trainer callback that does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from secateur.choose.selection import Choice
from secateur.choose.targets import prunable as core_prunable
from secateur.choose.targets import register
from secateur.integrations.following import Follower
from secateur.masks import Masks
from secateur.pack.container import Packed, read_index
from secateur.pack.packing import TORCH_DTYPES, pack
from secateur.pack.unpacking import unpack
from secateur.train.regrow import Regrow
from secateur.train.schedules import Schedule
from secateur.vocabulary import Layout, MissingExtraError, NothingPrunedWarning, Weights

try:
    from transformers import AutoConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.pytorch_utils import Conv1D
except ImportError as error:
    raise MissingExtraError(
        "secateur.integrations.transformers needs transformers: pip install 'secateur[transformers]'"
    ) from error

__all__ = ["IGNORED", "Pruning", "load_packed", "prunable", "save_packed"]

Pattern = str | type[nn.Module]

# Heads, and what routes tokens to experts. Embeddings are no targets unless they are included.
IGNORED = ("lm_head", "classifier", "score", "qa_outputs", "*.pooler", "pooler", "*.gate", "*.router", "*embeddings*")

_PACKED = "model.sct"

register(Conv1D, {"weight": Layout(out_axis=1, in_axis=0)})


def prunable(
    model: nn.Module,
    include: Sequence[Pattern] | None = None,
    ignore: Sequence[Pattern] = IGNORED,
    biases: bool = False,
) -> Weights:
    """Return the weights of a transformers model that may be pruned, by ``state_dict`` name.

    Beside what :func:`secateur.prunable` knows these are GPT-2's ``Conv1D`` and the fused weights of experts, one 3-D
    tensor (experts, out, in) for all. Left out by default are embeddings, heads, poolers and routers.

    Args:
        model: any ``PreTrainedModel``, or any other module.
        include: as in :func:`secateur.prunable`.
        ignore: names or globs or classes to leave out, in place of :data:`IGNORED`; those that match nothing are
            passed over.
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
            transposed = bool(getattr(module, "is_transposed", False))
            register(type(module), dict.fromkeys(fused, _transposed if transposed else _stacked))
    with warnings.catch_warnings():
        # A default that matches nothing here is no mistake.
        warnings.simplefilter("ignore", NothingPrunedWarning)
        return core_prunable(model, include, ignore, biases)


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


def _stacked(parameter: nn.Parameter) -> Layout:
    return Layout(groups=parameter.shape[0], stacked=True)


def _transposed(parameter: nn.Parameter) -> Layout:
    return Layout(out_axis=1, in_axis=0, groups=parameter.shape[0], stacked=True)


class Pruning(TrainerCallback):
    """Prune the model while a ``transformers.Trainer`` trains it, along a schedule of optimizer steps.

    Masks are saved in every checkpoint folder; training resumed from one goes on from the same step on the same
    masks. ``sparsity`` is logged with everything else. The model saved is the plain model, zeros in place.

    Args:
        schedule: from optimizer step to sparsity of the targets.
        choice: criterion, granularity, scope and allocation.
        include: as in :func:`prunable`.
        ignore: as in :func:`prunable`.
        biases: whether biases are targets.
        regrow: True or a :class:`secateur.Regrow` to let masked weights return.
        rewind_to: an optimizer step; whenever masks have been redrawn after it, surviving weights go back to what they
            were then, and the optimizer's state is cleared.
    """

    FILE = "secateur.safetensors"

    def __init__(
        self,
        schedule: Schedule,
        choice: Choice = Choice(),  # noqa: B008 - a frozen value
        *,
        include: Sequence[Pattern] | None = None,
        ignore: Sequence[Pattern] = IGNORED,
        biases: bool = False,
        regrow: bool | Regrow = False,
        rewind_to: int | None = None,
    ) -> None:
        self._schedule, self._choice = schedule, choice
        self._targets: dict[str, Any] = {"include": include, "ignore": ignore, "biases": biases}
        self._how: dict[str, Any] = {"regrow": regrow, "rewind_to": rewind_to}
        self._follower: Follower | None = None
        self._masks = Masks({})

    @property
    def masks(self) -> Masks:
        """Those in force, or those that training ended with; empty before it."""
        return self._follower.pruner.masks if self._follower else self._masks

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Begin, on the masks in the checkpoint that training is resumed from, if it is."""
        model: nn.Module = kwargs["model"]
        self._follower = Follower(
            model,
            kwargs["optimizer"],
            self._schedule,
            self._choice,
            weights=prunable(model, **self._targets),
            state=self._stored(args, state),
            **self._how,
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the masks beside the model."""
        if self._follower and state.is_world_process_zero:
            self._follower.save(_folder(args, state) / self.FILE)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Add the sparsity in force."""
        if logs is not None and self._follower:
            logs["sparsity"] = self._follower.sparsity
            if state.log_history:  # noted before callbacks are asked
                state.log_history[-1]["sparsity"] = self._follower.sparsity

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave the zeros and take all hooks away."""
        if self._follower:
            self._masks = self._follower.finish()
            self._follower = None

    def _stored(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any] | None:
        if not state.global_step:
            return None
        path = _folder(args, state) / self.FILE
        if path.exists():
            return Follower.load(path)
        warnings.warn(
            f"training goes on from step {state.global_step}, but there are no masks at {path}: pruning begins anew",
            NothingPrunedWarning,
            stacklevel=2,
        )
        return None


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
