"""What may be pruned in transformers: the body of every family, along the right axes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.vocabulary import NothingPrunedWarning

transformers = pytest.importorskip("transformers")
from hf_zoo import MODELS, SMALL, WORDS, language_model  # noqa: E402 - after the skip

from secateur.integrations import transformers as st  # noqa: E402


@pytest.mark.parametrize("kind", MODELS)
def test_the_targets_are_the_body_of_the_model(kind: str) -> None:
    make, count, left_out = MODELS[kind]
    targets = st.prunable(make())
    assert sum(weight.numel() for weight in targets.values()) == count
    assert not [name for name in targets for part in left_out if part in name]


@pytest.mark.parametrize("kind", MODELS)
def test_rows_columns_and_patterns_fall_where_they_should(kind: str) -> None:
    model = MODELS[kind][0]()
    targets = st.prunable(model)
    rows = sc.Choice(granularity=sc.Row(), scope=sc.PerTensor())(targets, 0.5)
    two_of_four = sc.Choice(scope=sc.Window(2, 4))(targets)
    for name, mask in rows.items():
        ins = -2 if kind == "gpt2" else -1  # Conv1D holds (in, out)
        flat = mask.movedim(ins, -1)
        assert (flat.all(-1) | ~flat.any(-1)).all() and flat.any(-1).double().mean() == 0.5
        quartets = two_of_four[name].movedim(ins, -1).unflatten(-1, (-1, 4)).sum(-1)
        assert (quartets == 2).all()


def test_columns_of_experts_are_their_own() -> None:
    model = MODELS["mixtral"][0]()
    name = "model.layers.0.mlp.experts.gate_up_proj"
    targets = sc.Weights({name: st.prunable(model)[name]}, st.prunable(model).targets)
    masks = sc.Choice(granularity=sc.Column())(targets, 0.25)
    columns = masks[name].any(1)
    assert torch.equal(masks[name], columns.unsqueeze(1).expand_as(masks[name]))
    assert int((~columns).sum()) == 16 and len({int(each) for each in (~columns).sum(1)}) > 1


def test_experts_that_hold_their_inputs_first_are_cut_along_their_outputs() -> None:
    """Of these (experts, in, out) GptOss says so, and Llama 4 does not."""
    small = {"num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    llama4 = language_model("llama4_text", intermediate_size_mlp=32, interleave_moe_layer_step=1, **small)
    for model, ffn in ((llama4, "feed_forward"), (language_model("gpt_oss", **small), "mlp")):
        experts = {n: p for n, p in st.prunable(model).items() if f".{ffn}.experts." in n}
        assert [list(p.shape) for p in experts.values()] == [[4, 16, 64], [4, 32, 16]]
        for weight in experts.values():  # one expert's output is worth more than all others
            weight.data = torch.ones_like(weight)
            weight.data[:, :, 3] = 2
        targets = sc.Weights(experts, st.prunable(model).targets)
        rows = sc.Choice(granularity=sc.Row(), scope=sc.PerTensor())(targets, 0.5)
        columns = sc.Choice(granularity=sc.Column(), scope=sc.PerTensor())(targets, 0.5)
        windows = sc.Choice(scope=sc.Window(2, 4))(targets)
        for name in experts:
            assert torch.equal(rows[name], rows[name][:, :1].expand_as(rows[name])) and rows[name][:, :, 3].all()
            assert torch.equal(columns[name], columns[name][:, :, :1].expand_as(columns[name]))
            assert (windows[name].unflatten(1, (-1, 4)).sum(2) == 2).all()


def electra() -> nn.Module:
    return transformers.ElectraForMaskedLM(transformers.ElectraConfig(embedding_size=8, **SMALL, **WORDS))


def bart(kind: str) -> nn.Module:
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return getattr(transformers, kind)(transformers.BartConfig(d_model=16, **sides, **heads, **WORDS))


def whisper() -> nn.Module:
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokens = {"decoder_start_token_id": 0, "suppress_tokens": None, "begin_suppress_tokens": None}
    config = transformers.WhisperConfig(d_model=16, **sides, **heads, **WORDS, **tokens)
    return transformers.WhisperForConditionalGeneration(config)


def clip(kind: str) -> nn.Module:
    vision = {**SMALL, "image_size": 8, "patch_size": 4}
    config = transformers.CLIPConfig(text_config={**SMALL, **WORDS}, vision_config=vision, projection_dim=8)
    return getattr(transformers, kind)(config.vision_config if "Vision" in kind else config)


BERT = {**SMALL, **WORDS}
DISTIL = {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "vocab_size": 128}
VIT = {**SMALL, "image_size": 8, "patch_size": 4}
HEADED = {
    # How to make it, and what all its targets begin with.
    "bert": (lambda: transformers.BertForPreTraining(transformers.BertConfig(**BERT)), "bert."),
    "distil": (
        lambda: transformers.DistilBertForMaskedLM(transformers.DistilBertConfig(**DISTIL)),
        "distilbert.transformer.",
    ),
    "distil_labels": (
        lambda: transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**DISTIL)),
        "distilbert.transformer.",
    ),
    "bart": (lambda: bart("BartForSequenceClassification"), "model."),
    "electra": (electra, "electra.encoder."),
    "whisper": (whisper, "model."),  # its head is tied to an embedding inside
    "clip": (lambda: clip("CLIPModel"), ("text_model.", "vision_model.")),  # its own base model
    "clip_vision": (lambda: clip("CLIPVisionModelWithProjection"), "vision_model."),
    "vit": (lambda: transformers.ViTForMaskedImageModeling(transformers.ViTConfig(**VIT)), "vit."),
}


@pytest.mark.parametrize("kind", HEADED)
def test_heads_of_all_kinds_are_left_out(kind: str) -> None:
    make, body = HEADED[kind]
    model = make()
    names = list(st.prunable(model))
    assert len(names) >= 6 and all(name.startswith(body) for name in names)
    assert set(st.prunable(model, ignore=[])) > set(names), "and are targets for who wants them"


def test_a_model_beside_the_base_model_is_no_head() -> None:
    """Flava trains its codebook with the model; it stands outside, and is a model itself."""

    class Two(transformers.BertPreTrainedModel):
        def __init__(self, config: transformers.BertConfig) -> None:
            super().__init__(config)
            self.bert, self.other = transformers.BertModel(config), transformers.BertModel(config)
            self.head = nn.Linear(16, 2)

    names = list(st.prunable(Two(transformers.BertConfig(**BERT))))
    assert {name.split(".")[0] for name in names} == {"bert", "other"}


def test_a_typo_of_ones_own_is_said_and_a_default_is_not() -> None:
    model = MODELS["llama"][0]()
    for ignore in (["*.mpl.*"], [*st.IGNORED, "*.mpl.*"]):
        with pytest.warns(NothingPrunedWarning, match=r"'\*.mpl.\*' matched no parameter") as said:
            st.prunable(model, ignore=ignore)
        assert len(said) == 1
    assert not [n for n in st.prunable(model, ignore=[*st.IGNORED, "*.mlp.*"]) if ".mlp." in n]
