"""The contract of every method, swept over the table: exact sparsity, zeros stay, the same again, resumed the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as sc
from secateur.files import read_tensors
from secateur.lab import bench as benches
from secateur.lab import checkpoint, methods, runs
from secateur.lab.data import LabError
from secateur.lab.settings import Settings

SIZES = {"fc1.weight": 64 * 32, "fc1.bias": 32, "fc2.weight": 32 * 10, "fc2.bias": 10}
WITH_BIASES = {"threshold", "threshold-layerwise", "freeze", "masked-retraining"}
LAYERWISE = {"threshold-layerwise", "one-shot-layerwise"}
MASKLESS = {"small-dense"}
NEEDS_RETRAINING = {"iterative"}


def settings(**changes: Any) -> Settings:
    return Settings(**({"model": "mlp:32", "epochs": 2, "prune_epochs": 4} | changes))


def expected(method: str, sparsity: float) -> int:
    """How many of the targets have to be gone."""
    sizes = {name: size for name, size in SIZES.items() if method in WITH_BIASES or name.endswith("weight")}
    if method in LAYERWISE:
        return sum(round(sparsity * size) for size in sizes.values())
    return round(sparsity * sum(sizes.values()))


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9])
@pytest.mark.parametrize("method", sorted(methods.TABLE.keys() - MASKLESS - {"neurons"}))
def test_the_sparsity_is_exact_and_its_zeros_are_those_of_the_masks(
    method: str, sparsity: float, tmp_path: Path
) -> None:
    result = runs.run(settings(method=method, sparsity=sparsity), tmp_path / "run")
    facts = result["facts"]
    removed = expected(method, sparsity)
    if method == "three-step":
        # What died along the way is gone too, and said so.
        removed = round(facts["dead"]["asked"] * (SIZES["fc1.weight"] + SIZES["fc2.weight"]))
        assert removed >= expected(method, sparsity)
        removed += facts["dead"]["connections"]
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    targets = result["measure"]["pruned"]["targets"]
    assert masks.count().removed == removed == targets["weights"] - targets["kept"]
    tensors, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    assert all((tensors[name][~mask] == 0).all() for name, mask in masks.items())
    for phase_file in (tmp_path / "run" / "phases").glob("*.safetensors"):
        stored, _ = read_tensors(phase_file)
        held = {key.removeprefix("masks/"): t for key, t in stored.items() if key.startswith("masks/")}
        assert all((stored[f"model/{name}"][~mask] == 0).all() for name, mask in held.items()), phase_file


@pytest.mark.parametrize("method", methods.TABLE)
def test_a_method_repeats_by_its_seed(method: str, tmp_path: Path) -> None:
    def outcome(seed: int, name: str) -> str:
        result = runs.run(settings(method=method, seed=seed), tmp_path / name, runs.Options(forms=False))
        tensors, _ = read_tensors(tmp_path / name / "model.safetensors")
        return str(
            (result["accuracy"], result["facts"], [float(tensor.sum()) for _, tensor in sorted(tensors.items())])
        )

    assert outcome(0, "a") == outcome(0, "b") != outcome(1, "c")


@pytest.mark.parametrize("method", sorted(methods.TABLE.keys() - NEEDS_RETRAINING - MASKLESS - {"neurons"}))
def test_without_retraining_there_is_no_reference_and_the_sparsity_holds(method: str, tmp_path: Path) -> None:
    result = runs.run(settings(method=method, prune_epochs=0), tmp_path / "run")
    assert "dense_longer" not in result["accuracy"]
    assert result["measure"]["pruned"]["targets"]["sparsity"] == pytest.approx(0.9, abs=5e-3)


@pytest.mark.parametrize("method", ["iterative", "lottery-ticket", "learning-rate-rewinding", "three-step", "neurons"])
def test_methods_of_rounds_say_what_they_cannot_do(method: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"never reaches|never reached|below 1"):
        runs.run(settings(method=method, sparsity=1.0), tmp_path / "run")


def test_iterative_needs_retraining(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="prune-epochs"):
        runs.run(settings(method="iterative", prune_epochs=0), tmp_path / "run")


def test_every_method_says_in_a_line_what_it_does() -> None:
    for name in methods.TABLE:
        line = methods.summary(name)
        assert 40 < len(line) < 120 and line.endswith("."), name


def test_layers_may_have_sparsities_of_their_own(tmp_path: Path) -> None:
    own = {"scope": "layerwise", "layers": "fc2=0.25", "method": "gradual", "prune_epochs": 6}
    result = runs.run(settings(**own), tmp_path / "run")
    layers = {layer["name"]: layer for layer in result["measure"]["pruned"]["layers"]}
    assert layers["fc2.weight"]["kept"] == 240 and layers["fc1.weight"]["kept"] == 64 * 32 - round(0.9 * 64 * 32)
    for bad, text in (("fc9=0.5", "no target"), ("fc2=2", "between 0 and 1"), ("fc2", "name=share")):
        with pytest.raises(LabError, match=text):
            runs.run(settings(**own | {"layers": bad}), tmp_path / bad)
    with pytest.raises(LabError, match="--scope layerwise"):
        runs.run(settings(layers="fc2=0.25"), tmp_path / "global")


def test_layers_may_be_left_out(tmp_path: Path) -> None:
    runs.run(settings(ignore="fc2"), tmp_path / "run")
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    assert list(masks) == ["fc1.weight"] and masks.count().removed == round(0.9 * 64 * 32)


@pytest.mark.parametrize("schedule", ["polynomial", "linear", "cosine", "exponential", "constant"])
def test_gradual_pruning_takes_every_schedule(schedule: str, tmp_path: Path) -> None:
    result = runs.run(settings(schedule=schedule, epochs=0, prune_epochs=3, regrow=True), tmp_path / "run")
    assert result["measure"]["pruned"]["targets"]["kept"] == 2368 - round(0.9 * 2368)
    assert result["accuracy"]["pruned"]["epochs"] == 3


def test_freezing_leaves_the_layers_that_took_the_pruning(tmp_path: Path) -> None:
    result = runs.run(settings(method="freeze"), tmp_path / "run")
    frozen = result["facts"]["frozen"]
    assert frozen == ["fc1.weight"]
    cut, _ = read_tensors(tmp_path / "run" / "phases" / "threshold.safetensors")
    end, _ = read_tensors(tmp_path / "run" / "phases" / "freeze.safetensors")
    for name in SIZES:
        assert torch.equal(cut[f"model/{name}"], end[f"model/{name}"]) == name.startswith("fc1"), name


def test_a_ticket_starts_where_it_says(tmp_path: Path) -> None:
    ticket = settings(method="lottery-ticket", rounds=2, rewind=0.5, prune_epochs=0, bits=0)
    seen: list[dict[str, torch.Tensor]] = []
    original = benches.Bench.restore

    def restore(self: benches.Bench, state: Any, masks: sc.Masks | None = None) -> None:
        original(self, state, masks)
        if masks is not None:
            seen.append(checkpoint.snapshot(self.model))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benches.Bench, "restore", restore)
        runs.run(ticket, tmp_path / "run")
    early, _ = read_tensors(tmp_path / "run" / "phases" / "early.safetensors")
    dense, _ = read_tensors(tmp_path / "run" / "phases" / "dense.safetensors")
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    last = seen[-2]  # before the last round was trained
    for name, mask in masks.items():
        assert torch.equal(last[name][mask], early[f"model/{name}"][mask])
        assert not torch.equal(last[name][mask], dense[f"model/{name}"][mask])


def test_the_early_state_is_one_the_dense_training_went_through(tmp_path: Path) -> None:
    all_of_it = settings(method="lottery-ticket", rounds=1, rewind=1.0, epochs=3, prune_epochs=0)
    runs.run(all_of_it, tmp_path / "run")
    early, _ = read_tensors(tmp_path / "run" / "phases" / "early.safetensors")
    dense, _ = read_tensors(tmp_path / "run" / "phases" / "dense.safetensors")
    assert torch.equal(early["model/fc1.weight"], dense["model/fc1.weight"])


def test_three_step_below_a_share_of_the_standard_deviation(tmp_path: Path) -> None:
    result = runs.run(settings(method="three-step", quality=1.0, rounds=1, prune_epochs=0), tmp_path / "run")
    dense, _ = read_tensors(tmp_path / "run" / "phases" / "dense.safetensors")
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    for name, mask in masks.items():
        weight = dense[f"model/{name}"]
        below = weight.abs() < weight.std()
        assert (mask & below).sum() == 0 and result["facts"]["dead"]["asked"] > 0.3


@pytest.mark.parametrize("fixed", ["convolutions", "dense", "turns"])
def test_three_step_retrains_only_the_layers_that_are_not_fixed(fixed: str, tmp_path: Path) -> None:
    changes = {"model": "tutorial-convnet", "method": "three-step", "fixed": fixed, "rounds": 1}
    runs.run(settings(**changes, batch_size=128, survivors="kept"), tmp_path / "run")
    first, _ = read_tensors(tmp_path / "run" / "phases" / "dense.safetensors")
    last, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    still = {n for n, mask in masks.items() if torch.equal(first[f"model/{n}"] * mask, last[n])}
    assert still == ({"fc1.weight"} if fixed == "dense" else {"conv1.weight"})


def test_survivors_may_be_drawn_anew(tmp_path: Path) -> None:
    drawn = settings(method="three-step", survivors="drawn", rounds=1, prune_epochs=0)
    runs.run(drawn, tmp_path / "run")
    dense, _ = read_tensors(tmp_path / "run" / "phases" / "dense.safetensors")
    last, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    assert not (dense["model/fc1.weight"] == last["fc1.weight"])[masks["fc1.weight"]].any()


@pytest.mark.parametrize("score", ["incoming", "outgoing", "product", "activity", "taylor"])
def test_neurons_go_as_wholes(score: str, tmp_path: Path) -> None:
    model = {"model": "mlp:32-16", "method": "neurons", "neuron_score": score, "sparsity": 0.5}
    result = runs.run(settings(**model), tmp_path / "run")
    units = result["facts"]["units"]
    assert sum(kept for kept, _ in units.values()) == 24 and sum(all_ for _, all_ in units.values()) == 48
    tensors, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    alive = (tensors["fc1.weight"] != 0).any(1)
    assert int(alive.sum()) == units["fc1.weight"][0]
    assert (tensors["fc1.bias"][~alive] == 0).all() and (tensors["fc2.weight"][:, ~alive] == 0).all()


@pytest.mark.parametrize("score", ["incoming", "outgoing", "product", "taylor"])
def test_filters_go_as_wholes_and_wide_layers_do_not_bear_it_alone(score: str, tmp_path: Path) -> None:
    model = {"model": "lenet-5", "method": "neurons", "neuron_score": score, "sparsity": 0.5, "rounds": 2}
    changes = {"epochs": 4, "prune_epochs": 2}  # at first outgoing norms of filters hardly differ, and none would go
    result = runs.run(settings(**model, **changes), tmp_path / "run", runs.Options(forms=False))
    units = result["facts"]["units"]
    assert sum(kept for kept, _ in units.values()) == 285 and sum(all_ for _, all_ in units.values()) == 570
    assert all(0 < kept < all_ for kept, all_ in units.values()), units
    tensors, _ = read_tensors(tmp_path / "run" / "model.safetensors")
    for writer, reader in (("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2")):
        alive = (tensors[f"{writer}.weight"] != 0).flatten(1).any(1)
        assert int(alive.sum()) == units[f"{writer}.weight"][0]
        assert (tensors[f"{writer}.bias"][~alive] == 0).all()
        read = tensors[f"{reader}.weight"].unflatten(1, (len(alive), -1))
        assert (read[:, ~alive] == 0).all() and (read[:, alive] != 0).any()


def test_neurons_of_layers_that_are_no_targets_stay(tmp_path: Path) -> None:
    model = {"model": "mlp:32-16-16", "method": "neurons", "sparsity": 0.5, "ignore": "fc1"}
    result = runs.run(settings(**model), tmp_path / "run")
    assert result["facts"]["units"].keys() == {"fc2.weight", "fc3.weight"}
    masks = sc.Masks.load(tmp_path / "run" / "masks.safetensors")
    assert "fc1.weight" not in masks and not masks["fc2.weight"].all()
    with pytest.raises(LabError, match="no target layer of mlp:32"):
        runs.run(settings(method="neurons", ignore="fc1"), tmp_path / "none")


def test_a_small_dense_model_has_the_weights_that_pruning_would_leave(tmp_path: Path) -> None:
    result = runs.run(settings(method="small-dense", model="mlp:300-100", sparsity=0.8), tmp_path / "run")
    dense, small = (result["measure"][key]["targets"]["weights"] for key in ("dense", "pruned"))
    assert small == pytest.approx(0.2 * dense, rel=0.05)
    assert not (tmp_path / "run" / "masks.safetensors").exists()


@pytest.mark.parametrize("control", ["scratch", "shuffle"])
def test_controls_keep_the_counts_of_every_layer(control: str, tmp_path: Path) -> None:
    plain = runs.run(settings(), tmp_path / "plain")
    result = runs.run(settings(control=control), tmp_path / "control")
    kept = [[layer["kept"] for layer in each["measure"]["pruned"]["layers"]] for each in (plain, result)]
    assert kept[0] == kept[1]
    first, second = (sc.Masks.load(tmp_path / name / "masks.safetensors") for name in ("plain", "control"))
    assert (first == second) == (control == "scratch")
    assert result["accuracy"]["pruned"]["epochs"] == plain["accuracy"]["pruned"]["epochs"]
    with pytest.raises(LabError, match="needs a mask"):
        runs.run(settings(control=control, method="small-dense"), tmp_path / "none")


def test_the_highest_sparsity_within_a_drop(tmp_path: Path) -> None:
    result = runs.run(settings(max_drop=5.0, method="one-shot", epochs=10), tmp_path / "run")
    search = result["facts"]["search"]
    assert len(search["tries"]) == 7
    within = [each["sparsity"] for each in search["tries"] if each["within"]]
    assert search["sparsity"] == max(within) > 0.3
    assert result["accuracy"]["pruned"]["validation"] >= search["floor"]
    assert result["accuracy"]["dense"]["validation"] - search["floor"] == pytest.approx(0.05)
    targets = result["measure"]["pruned"]["targets"]
    assert targets["weights"] - targets["kept"] == round(search["sparsity"] * 2368)


@pytest.mark.parametrize("method", ["gradual", "lottery-ticket", "snip", "freeze", "small-dense"])
@pytest.mark.parametrize("control", ["none", "shuffle"])
def test_a_search_ends_where_a_run_at_the_sparsity_it_found_ends(method: str, control: str, tmp_path: Path) -> None:
    if method in MASKLESS and control != "none":
        pytest.skip("a control needs a mask")
    small = {"method": method, "control": control, "epochs": 4, "prune_epochs": 2, "rounds": 2, "dropout": 0.2}
    found = runs.run(settings(**small, max_drop=20.0), tmp_path / "found")
    plain = runs.run(settings(**small, sparsity=found["facts"]["search"]["sparsity"]), tmp_path / "plain")
    models = [read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("found", "plain")]
    assert models[0].keys() == models[1].keys() and all(torch.equal(models[0][n], models[1][n]) for n in models[0])
    assert found["accuracy"]["pruned"] == plain["accuracy"]["pruned"]
    assert found["warnings"] == plain["warnings"]
    assert {name: fact for name, fact in found["facts"].items() if name != "search"} == plain["facts"]
    assert found["settings"]["sparsity"] == 0.9, "the settings stay those that were asked for"


def test_a_search_that_finds_nothing_leaves_the_dense_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = runs.run(settings(max_drop=1e-9, method="random", epochs=20, prune_epochs=0), tmp_path / "run")
    assert result["facts"]["search"]["sparsity"] < 0.1
    assert result["accuracy"]["pruned"]["validation"] >= result["accuracy"]["dense"]["validation"] - 1e-9


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("three-step", "neurons")]


@pytest.mark.parametrize("method", ["one-shot", *SLOW])
def test_statistics_of_batch_norm_are_estimated_anew_if_asked(method: str, tmp_path: Path) -> None:
    common = {
        "model": "resnet-20",
        "method": method,
        "sparsity": 0.5,
        "epochs": 0,
        "prune_epochs": 0,
        "batch_size": 128,
    }
    means = []
    for recalibrate in (False, True):
        options = runs.Options(forms=False)
        runs.run(settings(**common, recalibrate=recalibrate), tmp_path / str(recalibrate), options)
        tensors, _ = read_tensors(tmp_path / str(recalibrate) / "model.safetensors")
        means.append(tensors["bn1.running_mean"])
    assert not torch.equal(*means) and (means[0] == 0).all()


@pytest.mark.parametrize("score", ["product", "activity"])
def test_the_last_unit_of_a_layer_stays(score: str, tmp_path: Path) -> None:
    result = runs.run(
        settings(method="neurons", neuron_score=score, sparsity=0.995, rounds=2),
        tmp_path / "run",
        runs.Options(forms=False),
    )
    assert [kept for kept, _ in result["facts"]["units"].values()] == [1]
