"""Transformers of every family trained under pruning, interrupted, resumed, saved and packed."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as sc
from secateur.vocabulary import BadTargetError

transformers = pytest.importorskip("transformers")
from hf_zoo import MODELS, SCHEDULE, trainer  # noqa: E402 - after the skip
from loops import assert_held  # noqa: E402

from secateur.integrations import transformers as st  # noqa: E402


def test_multiply_adds_of_conv1d_are_counted() -> None:
    model = MODELS["gpt2"][0]()
    report = sc.measure(model, torch.zeros(1, 5, dtype=torch.int64), timing=None)
    macs = {layer.name: layer.macs for layer in report.layers}
    assert macs["transformer.h.0.attn.c_attn.weight"] == 5 * 16 * 48


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


class Stop(transformers.TrainerCallback):  # type: ignore[misc]
    """Ctrl-C when a checkpoint has been written, or at a step."""

    def __init__(self, step: int | None = None) -> None:
        self.step = step

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.step is None:
            raise KeyboardInterrupt

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


SAVING = {"save_strategy": "steps", "save_steps": 6}
ROUNDS = sc.RoundsSchedule(0.75, rounds=2, steps_per_round=4, begin_step=4)
WAYS: dict[str, Any] = {
    "gradual": lambda: st.Pruning(SCHEDULE),
    "iterative": lambda: st.Pruning(ROUNDS),
    "rewinding": lambda: st.Pruning(ROUNDS, rewind_to=2),
    "regrowing": lambda: st.Pruning(SCHEDULE, regrow=True),
}


def cut(folder: Path, way: str = "gradual", kind: str = "llama") -> None:
    """Train to step 6 of 12, where the checkpoint is written, and die."""
    with pytest.raises(KeyboardInterrupt):
        trainer(MODELS[kind][0](), folder, 12, [WAYS[way](), Stop()], **SAVING).train()


@pytest.mark.parametrize("way", WAYS)
def test_resumed_training_ends_as_one_that_was_never_stopped(way: str, tmp_path: Path) -> None:
    whole, pruning = MODELS["llama"][0](), WAYS[way]()
    trainer(whole, tmp_path / "whole", 12, [pruning]).train()
    cut(tmp_path / "cut", way)
    again, resumed = MODELS["llama"][0](), WAYS[way]()
    trainer(again, tmp_path / "cut", 12, [resumed], **SAVING).train(resume_from_checkpoint=True)
    assert resumed.masks == pruning.masks and 0.74 < resumed.masks.sparsity < 0.81
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_rounds_rewinding_and_regrowth_do_what_they_say(tmp_path: Path) -> None:
    kept: dict[str, dict[int, sc.Masks]] = {}

    class Look(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self, way: str, pruning: st.Pruning, start: dict[str, torch.Tensor]) -> None:
            self.way, self.pruning, self.start = way, pruning, start

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            step, masks, now = state.global_step, self.pruning.masks, given["model"].state_dict()
            kept.setdefault(self.way, {})[step] = masks
            if self.way == "rewinding to the start":
                back = all(torch.equal(now[name], self.start[name] * mask) for name, mask in masks.items())
                assert back == (step in (4, 8)), f"step {step}"

    steady = sc.ConstantSchedule(0.5, end_step=10, frequency=2)
    ways = {
        "gradual": WAYS["gradual"],
        "iterative": WAYS["iterative"],
        "rewinding to the start": lambda: st.Pruning(ROUNDS, rewind_to=0),
        "regrowing": lambda: st.Pruning(steady, regrow=True),
    }
    for way, make in ways.items():
        model, pruning = MODELS["llama"][0](), make()
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer(model, tmp_path / way, 12, [pruning, Look(way, pruning, start)]).train()
        assert all(not model.get_parameter(name)[~mask].any() for name, mask in pruning.masks.items())
    rounds = [kept["iterative"][step].sparsity for step in (3, 4, 7, 8, 12)]
    assert rounds == pytest.approx([0, 0.5, 0.5, 0.75, 0.75], abs=1e-3)
    returned = {
        way: sum(int((kept[way][12][name] & ~mask).sum()) for name, mask in kept[way][4].items()) for way in kept
    }
    assert returned["regrowing"] > 0 and returned["gradual"] == returned["iterative"] == 0


def test_training_goes_on_in_another_folder(tmp_path: Path) -> None:
    whole = MODELS["llama"][0]()
    trainer(whole, tmp_path / "whole", 12, [st.Pruning(SCHEDULE)]).train()
    cut(tmp_path / "cut")
    here, model, pruning = tmp_path / "cut" / "checkpoint-6", MODELS["llama"][0](), st.Pruning(SCHEDULE)
    told = {"resume_from_checkpoint": str(here)}
    trainer(model, tmp_path / "new", 12, [pruning], **told).train(resume_from_checkpoint=str(here))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
    # Where the Trainer does not tell, it is said.
    short = st.Pruning(sc.OneShotSchedule(0.5))
    with pytest.warns(sc.vocabulary.NothingPrunedWarning, match=r"begins anew; .*resume_from_checkpoint=\.\.\."):
        trainer(MODELS["llama"][0](), tmp_path / "new", 12, [short]).train(str(here))


def test_masks_of_another_training_are_refused(tmp_path: Path) -> None:
    cut(tmp_path / "own")
    here = tmp_path / "own" / "checkpoint-6"
    reversed_choice = sc.Choice(criterion=lambda weights: {name: -weight.abs() for name, weight in weights.items()})
    for number, other in enumerate(
        (st.Pruning(SCHEDULE, reversed_choice), st.Pruning(sc.ConstantSchedule(0.2, begin_step=90)))
    ):
        with pytest.raises(KeyboardInterrupt):
            trainer(MODELS["llama"][0](), tmp_path / f"{number}", 12, [other, Stop()], **SAVING).train()
        with pytest.raises(
            BadTargetError, match=rf"step 6, but not with the masks in .*{number}.checkpoint-6.*zero in"
        ):
            trainer(MODELS["llama"][0](), tmp_path / f"{number}", 12, [st.Pruning(SCHEDULE)]).train(str(here))
    moved = tmp_path / "0" / "checkpoint-6" / st.Pruning.FILE
    trainer(
        MODELS["llama"][0](), tmp_path / "late", 9, [st.Pruning(SCHEDULE)], save_strategy="steps", save_steps=9
    ).train()
    shutil.copy(tmp_path / "late" / "checkpoint-9" / st.Pruning.FILE, moved)
    with pytest.raises(BadTargetError, match="they are of step 9"):
        trainer(MODELS["llama"][0](), tmp_path / "0", 12, [st.Pruning(SCHEDULE)]).train(str(here))
    # With the folder named in the arguments, the file of the other training is never looked at.
    told = {"resume_from_checkpoint": str(here)}
    trainer(MODELS["llama"][0](), tmp_path / "0", 12, [st.Pruning(SCHEDULE)], **told).train(str(here))


def hooks(model: Any) -> int:
    return sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


@pytest.mark.parametrize("again", ["the same callback", "another one"])
def test_a_second_training_after_ctrl_c_holds_one_set_of_masks(again: str, tmp_path: Path) -> None:
    model, pruning = MODELS["llama"][0](), st.Pruning(SCHEDULE)
    stopped = trainer(model, tmp_path, 12, [pruning, Stop(5)])
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    held, second = hooks(model), pruning if again == "the same callback" else st.Pruning(SCHEDULE)

    class Count(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            assert hooks(given["model"]) == held == len(second.masks)

    trainer(model, tmp_path, 12, [second, Count()]).train()
    assert hooks(model) == 0
    assert_held(model, second.masks, 0.8)


def test_a_training_that_is_forgotten_leaves_no_hooks(tmp_path: Path) -> None:
    model = MODELS["llama"][0]()
    with pytest.raises(KeyboardInterrupt):
        trainer(model, tmp_path, 12, [st.Pruning(SCHEDULE), Stop(5)]).train()
    gc.collect()
    assert hooks(model) == 0


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
