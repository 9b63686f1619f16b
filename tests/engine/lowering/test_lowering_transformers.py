"""Small models of transformers, with attention of torch and with their own, with and without a mask of the user's."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from agreement import kinds, lowered

transformers = pytest.importorskip("transformers", reason="the transformers extra is not installed")

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


def example(name: str, masked: bool = False) -> dict[str, Any]:
    if name == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16)}
    words = torch.randint(1, 50, (2, 7))
    # Nobody hides the first word: there would be nothing to attend to.
    return (
        {"input_ids": words, "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])}
        if masked
        else {"input_ids": words}
    )


MAKERS = {"bert": bert, "llama": llama, "gpt2": gpt2, "vit": vit}


def build(name: str, attention: str = "sdpa") -> torch.nn.Module:
    torch.manual_seed(0)
    model = MAKERS[name]()
    model.set_attn_implementation(attention)
    for parameter in model.parameters():  # zeros and ones hide mistakes
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MAKERS)
def test_models(name: str, attention: str) -> None:
    plan = lowered(build(name, attention), example(name))
    count = Counter(kinds(plan))
    assert count["attention"] == 2
    assert not count.keys() & {"softmax", "tanh", "erf", "power", "sigmoid", "rsqrt"}
    causal = name in ("llama", "gpt2")
    assert all(op.attributes["causal"] is causal for op in plan.ops if op.kind == "attention")


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_a_mask_may_be_an_input(name: str) -> None:
    plan = lowered(build(name), example(name, masked=True))
    assert plan.inputs == ("input_ids", "attention_mask")
    assert all(len(op.inputs) == 4 for op in plan.ops if op.kind == "attention")


def test_formulas_are_recognized() -> None:
    count = Counter(kinds(lowered(build("llama"), example("llama"))))
    assert count["rms_norm"] == 5
    plan = lowered(build("gpt2"), example("gpt2"))
    assert sum(op.attributes.get("activation") == "gelu_tanh" for op in plan.ops) == 2
    assert Counter(kinds(plan))["linear"] == 9


def test_a_result_by_name_keeps_its_names() -> None:
    plan = lowered(build("bert"), example("bert"))
    assert list(plan.structure["dict"]) == ["logits"]
    assert plan.arguments == {"args": [], "kwargs": {"input_ids": {"value": "input_ids"}}}
