"""Small transformers of every family, made from their config, and a Trainer that trains them on our own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import secateur as sc

transformers = pytest.importorskip("transformers")

DOCS = Path(__file__).parents[2] / "docs"
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = {"vocab_size": 128, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SCHEDULE = sc.PolynomialSchedule(0.2, 0.8, begin_step=1, end_step=9, frequency=2)


def language_model(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **(SMALL | WORDS | changes))
    return transformers.AutoModelForCausalLM.from_config(config)


MODELS: dict[str, tuple[Any, int, list[str]]] = {
    # How to make it, how many weights are targets, parts of names of what is left out.
    "bert": (
        lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **WORDS)),
        4 * 256 + 2 * 512,
        ["embeddings", "pooler", "classifier"],
    ),
    "llama": (
        lambda: language_model("llama", num_key_value_heads=1),
        256 + 2 * 128 + 256 + 3 * 512,
        ["embed_tokens", "lm_head"],
    ),
    "gpt2": (
        lambda: language_model("gpt2", n_embd=16, n_layer=1, n_head=2, n_positions=32),
        16 * 48 + 256 + 2 * 16 * 64,
        ["wte", "wpe", "lm_head"],
    ),
    "mixtral": (
        lambda: language_model("mixtral", num_local_experts=4, num_key_value_heads=1),
        256 + 2 * 128 + 256 + 4 * (64 * 16 + 16 * 32),
        ["mlp.gate.weight", "lm_head"],
    ),
    "vit": (
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, image_size=8, patch_size=4)),
        4 * 256 + 2 * 512,
        ["embeddings", "classifier"],
    ),
}


def corpus() -> list[dict[str, Tensor]]:
    """The first letters of every page of the documentation, as numbers below 128."""
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md")))
    letters = [min(ord(letter), 127) for letter in text[: 80 * 32]]
    rows = torch.tensor(letters).view(80, 32)
    return [{"input_ids": row, "labels": row} for row in rows]


def trainer(model: Any, folder: Path, steps: int, callbacks: list[Any], **how: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        logging_steps=2,
        use_cpu=True,
        seed=0,
        **({"save_strategy": "no"} | how),
    )
    return transformers.Trainer(model=model, args=arguments, train_dataset=corpus(), callbacks=callbacks)
