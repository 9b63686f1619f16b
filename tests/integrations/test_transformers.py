"""Transformers of every family made from their config, trained on this repository's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import secateur as sc
from secateur.vocabulary import BadTargetError

transformers = pytest.importorskip("transformers")
from loops import assert_held  # noqa: E402 - after the skip

from secateur.integrations import transformers as st  # noqa: E402

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


def test_multiply_adds_of_conv1d_are_counted() -> None:
    model = MODELS["gpt2"][0]()
    report = sc.measure(model, torch.zeros(1, 5, dtype=torch.int64), timing=None)
    macs = {layer.name: layer.macs for layer in report.layers}
    assert macs["transformer.h.0.attn.c_attn.weight"] == 5 * 16 * 48


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


class Watch(transformers.TrainerCallback):  # type: ignore[misc]
    def __init__(self, pruning: st.Pruning) -> None:
        self.pruning, self.drawn = pruning, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        step = state.global_step
        self.drawn = SCHEDULE(step) if SCHEDULE.due(step) else self.drawn
        assert_held(given["model"], self.pruning.masks, self.drawn)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral"])
def test_a_trainer_keeps_to_the_schedule_and_learns(kind: str, tmp_path: Path) -> None:
    model, pruning = MODELS[kind][0](), st.Pruning(SCHEDULE)
    work = trainer(model, tmp_path, 30, [pruning, Watch(pruning)], gradient_accumulation_steps=2)
    work.train()
    assert_held(model, pruning.masks, 0.8)
    logs = [row for row in work.state.log_history if "loss" in row]
    assert logs[-1]["loss"] < 0.8 * logs[0]["loss"]
    assert logs[-1]["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_resumed_training_ends_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole, pruning = MODELS["llama"][0](), st.Pruning(SCHEDULE)
    trainer(whole, tmp_path / "whole", 12, [pruning]).train()

    class Kill(transformers.TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    saving = {"save_strategy": "steps", "save_steps": 6}
    with pytest.raises(KeyboardInterrupt):
        trainer(MODELS["llama"][0](), tmp_path / "cut", 12, [st.Pruning(SCHEDULE), Kill()], **saving).train()
    again, resumed = MODELS["llama"][0](), st.Pruning(SCHEDULE)
    trainer(again, tmp_path / "cut", 12, [resumed], **saving).train(resume_from_checkpoint=True)
    assert resumed.masks == pruning.masks
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_without_masks_is_said(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer(MODELS["llama"][0](), tmp_path, 2, [], **saving).train()
    with pytest.warns(sc.vocabulary.NothingPrunedWarning, match="no masks at"):
        trainer(MODELS["llama"][0](), tmp_path, 12, [st.Pruning(SCHEDULE)], **saving).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("kind", MODELS)
def test_the_model_saved_is_the_plain_model(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind][0]()
    before = list(model.state_dict())
    masks = sc.prune(model, sparsity=0.5, weights=st.prunable(model))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert list(again.state_dict()) == before
    assert_held(again, masks, 0.5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_model_comes_back_from_its_folder(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    model = MODELS[name][0]().to(dtype).eval()
    targets = st.prunable(model)
    sc.apply(model, sc.select(sc.criteria.magnitude(targets), sparsity=0.9))
    packed = st.save_packed(model, tmp_path)
    assert (tmp_path / "config.json").exists() and packed.path == tmp_path / "model.sct"
    kind = transformers.AutoModelForSequenceClassification if name == "bert" else transformers.AutoModelForCausalLM
    for each in (kind, type(model)):
        back = st.load_packed(each, tmp_path)
        assert back.dtype == dtype
        tokens = torch.arange(12)[None]
        assert torch.equal(back(tokens).logits, model(tokens).logits)


def test_a_packed_model_of_another_class_is_refused(tmp_path: Path) -> None:
    st.save_packed(MODELS["bert"][0](), tmp_path)
    with pytest.raises(BadTargetError, match="does not fit"):
        st.load_packed(transformers.AutoModelForMaskedLM, tmp_path)
