"""Models of transformers lose heads and hidden units, and compute the same as under the masks."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="the transformers extra is not installed")

import secateur as sc  # noqa: E402
from secateur.shrink.checking import difference, outputs  # noqa: E402

COMMON = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}


def bert() -> torch.nn.Module:
    config = transformers.BertConfig(**COMMON, max_position_embeddings=32)
    return transformers.BertForSequenceClassification(config)


def llama() -> torch.nn.Module:
    config = transformers.LlamaConfig(**COMMON, num_key_value_heads=2, max_position_embeddings=32, use_cache=False)
    return transformers.LlamaForCausalLM(config)


def gpt2() -> torch.nn.Module:
    sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
    config = transformers.GPT2Config(**sizes, use_cache=False, bos_token_id=0, eos_token_id=1)
    return transformers.GPT2LMHeadModel(config)


def vit() -> torch.nn.Module:
    sizes = {**COMMON, "image_size": 16, "patch_size": 4}
    del sizes["vocab_size"]
    return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes))


def words() -> dict[str, Any]:
    return {"input_ids": torch.randint(1, 50, (2, 7))}


def pictures() -> dict[str, Any]:
    return {"pixel_values": torch.randn(2, 3, 16, 16, dtype=torch.float64)}


MODELS = {"bert": (bert, words), "llama": (llama, words), "gpt2": (gpt2, words), "vit": (vit, pictures)}
HEADS = {
    "bert": "bert.encoder.layer.0.attention.self.query.weight",
    "llama": "model.layers.0.self_attn.q_proj.weight",
    "gpt2": "transformer.h.0.attn.c_attn.weight",
    "vit": "vit.layers.0.attention.q_proj.weight",
}
HIDDEN = {
    "bert": "bert.encoder.layer.0.intermediate.dense.weight",
    "llama": "model.layers.0.mlp.gate_proj.weight",
    "gpt2": "transformer.h.0.mlp.c_fc.weight",
    "vit": "vit.layers.0.mlp.fc1.weight",
}


@pytest.mark.parametrize("name", MODELS)
def test_heads_and_hidden_units_go(name: str) -> None:
    torch.manual_seed(0)
    make, inputs = MODELS[name]
    model, example = make().double().eval(), inputs()
    choice = sc.UnitChoice(sc.couple(model, example), scope=sc.PerTensor())
    masks = sc.prune_units(model, example, 0.5, choice=choice)
    small = sc.shrink(model, example)
    record = sc.shrinkage(small)
    assert record is not None
    assert not record.unknown
    assert record.removed[HEADS[name]] == record.units[HEADS[name]] // 2
    assert record.removed[HIDDEN[name]] == record.units[HIDDEN[name]] // 2
    assert sum(p.numel() for p in small.parameters()) == sum(
        int(masks[n].sum()) if n in masks else p.numel() for n, p in model.named_parameters()
    )
    other = inputs()
    assert difference(outputs(model, (), other), outputs(small, (), other))[1]


def test_a_fresh_model_of_the_config_takes_the_weights() -> None:
    torch.manual_seed(0)
    model, example = llama().double().eval(), words()
    sc.prune_units(model, example, 0.5)
    small = sc.shrink(model, example)
    again = llama().double().eval()
    sc.rebuild(again, copy.deepcopy(sc.manifest(small)))
    again.load_state_dict(small.state_dict())
    assert difference(outputs(small, (), example), outputs(again, (), example)) == (0.0, True)
