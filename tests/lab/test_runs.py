"""Runs: resumable to the last digit, never redone, never mixed up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.lab import bench, checkpoint, phase, runs, tested, training
from secateur.lab.data import LabError, Split
from secateur.lab.journal import Journal, read_metrics
from secateur.lab.settings import Settings
from secateur.vocabulary import CorruptFileError

SMALL = Settings(model="mlp:32", epochs=4, prune_epochs=6)
FLAGS = ["--model", "mlp:32", "--epochs", "12", "--prune-epochs", "12", "--batch-size", "4", "--method"]


def comparable(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's result and metrics without what a clock says."""
    result = json.loads((folder / "result.json").read_text())
    result.pop("seconds"), result.pop("name"), result.pop("speed")
    for report in result["measure"].values():
        report.pop("latency")
    metrics = read_metrics(folder / "metrics.jsonl")
    return result, [{key: value for key, value in row.items() if key != "seconds"} for row in metrics]


@pytest.mark.parametrize("method", ["gradual", pytest.param("iterative", marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_numbers_of_one_never_killed(method: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "secateur.lab", "run", *FLAGS, method, "--quiet", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    for epochs in (3, 15, 28):  # in the dense phase, its reference, the pruning phase
        process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = killed / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if metrics.exists() and metrics.read_text().count("\n") >= epochs:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "result.json").exists()
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    assert comparable(killed) == comparable(whole)


def test_an_epoch_recorded_but_not_saved_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.run(SMALL, tmp_path / "whole")
    saves = 0

    def save(path: Path, state: checkpoint.State) -> None:
        nonlocal saves
        saves += 1
        if saves == 12:
            raise KeyboardInterrupt
        checkpoint_save(path, state)

    checkpoint_save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        runs.run(SMALL, tmp_path / "cut")
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "prune", "epo')
    monkeypatch.undo()
    runs.run(SMALL, tmp_path / "cut")
    assert comparable(tmp_path / "cut") == comparable(tmp_path / "whole")


def test_a_finished_run_is_not_redone_unless_asked(tmp_path: Path) -> None:
    first = runs.run(SMALL, tmp_path / "run")
    stamp = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    assert runs.run(SMALL, tmp_path / "run") == first
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == stamp
    runs.run(SMALL, tmp_path / "run", runs.Options(again=True))
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns > stamp


def test_a_folder_of_other_settings_or_of_others_is_left_alone(tmp_path: Path) -> None:
    runs.run(SMALL, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(runs.RunFolderError, match=r"sparsity: 0\.5 here, 0\.9 there"):
        runs.run(Settings(model="mlp:32", epochs=4, prune_epochs=6, sparsity=0.5), tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    for again in (False, True):
        with pytest.raises(runs.RunFolderError, match="no run folder"):
            runs.run(SMALL, tmp_path / "mine", runs.Options(again=again))
    assert [path.name for path in (tmp_path / "mine").iterdir() if path.name != ".lock"] == ["thesis.tex"]


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    import filelock

    (tmp_path / "run").mkdir()
    with filelock.FileLock(tmp_path / "run" / ".lock"), pytest.raises(runs.RunFolderError, match="another process"):
        runs.run(SMALL, tmp_path / "run")


def test_the_test_set_is_looked_at_once_for_each_net_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def evaluate(model: torch.nn.Module, split: Split, precision: str) -> training.Score:
        seen.append(len(split))
        return training.evaluate(model, split, precision)

    monkeypatch.setattr(phase, "evaluate", evaluate)
    monkeypatch.setattr(bench, "evaluate", evaluate)
    monkeypatch.setattr(tested, "evaluate", evaluate)
    result = runs.run(SMALL, tmp_path / "run")
    test = result["data"]["test"]
    assert seen.count(test) == 4 and seen[-4:] == [test] * 4


def test_the_best_epoch_is_one_at_the_final_sparsity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def evaluate(model: torch.nn.Module, split: Split, precision: str) -> training.Score:
        nonlocal calls
        calls += 1
        return training.Score(0.1, 1.0 / calls)  # every epoch looks worse than the one before

    monkeypatch.setattr(phase, "evaluate", evaluate)
    result = runs.run(SMALL, tmp_path / "run")
    assert result["accuracy"]["dense"]["best_epoch"] == 1
    assert result["accuracy"]["pruned"]["best_epoch"] == 5  # sparsity rises over 80 % of six epochs
    assert result["measure"]["pruned"]["targets"]["sparsity"] == pytest.approx(0.9, abs=1e-3)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    runs.run(SMALL, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    damaged = tmp_path / "run" / "phases" / "dense.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CorruptFileError, match=r"dense\.safetensors"):
        runs.run(SMALL, tmp_path / "run")


def test_a_loss_that_diverges_is_said_so(tmp_path: Path) -> None:
    wild = Settings(model="mlp:32", epochs=4, prune_epochs=0, optimizer="sgd", learning_rate=100.0)
    try:
        runs.run(wild, tmp_path / "run")
    except training.DivergedError as error:
        assert "learning-rate" in str(error)


def stop_after_the_third_pruning_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    original = checkpoint.save

    def save(path: Path, state: checkpoint.State) -> None:
        if path.name == "prune.partial.safetensors" and state.values["epoch"] == 3:
            raise KeyboardInterrupt
        original(path, state)

    monkeypatch.setattr(checkpoint, "save", save)


def test_events_hold_every_epoch_once_also_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = runs.Options(events=True)
    stop_after_the_third_pruning_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        runs.run(SMALL, tmp_path / "run", options)
    monkeypatch.undo()
    runs.run(SMALL, tmp_path / "run", options)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard" / "prune"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"loss", "validation_accuracy", "sparsity"} <= set(tags)
    assert any(tag.startswith("layer_sparsity/") for tag in tags)
    assert any(tag.startswith("layer_threshold/") for tag in tags)
    steps = [event.step for event in events.Scalars("loss")]
    assert steps == sorted(set(steps)) and len(steps) == 6


def test_settings_survive_toml_and_the_command_line(tmp_path: Path) -> None:
    from secateur.lab.settings import read_settings, write_settings

    settings = Settings(data="mnist", learning_rate=3e-4, seed=7, method="random")
    write_settings(tmp_path / "c.toml", settings, "a note")
    assert Settings(**read_settings(tmp_path / "c.toml")) == settings
    assert "--learning-rate 0.0003" in settings.command() and "--seed 7" in settings.command()
    with pytest.raises(LabError, match="whole number"):
        Settings(epochs=1.5)  # type: ignore[arg-type]


def test_warnings_given_before_a_stop_are_still_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empties = Settings(model="mlp:32", epochs=1, prune_epochs=4, sparsity=0.9995, method="one-shot")
    whole = runs.run(empties, tmp_path / "whole")
    stop_after_the_third_pruning_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        runs.run(empties, tmp_path / "cut")
    monkeypatch.undo()
    cut = runs.run(empties, tmp_path / "cut")
    assert whole["warnings"] and cut["warnings"] == whole["warnings"]


def test_a_checkpoint_of_another_model_and_a_damaged_result_are_named(tmp_path: Path) -> None:
    runs.run(SMALL, tmp_path / "run")
    runs.run(Settings(model="mlp:16", epochs=4, prune_epochs=6), tmp_path / "other")
    (tmp_path / "run" / "result.json").unlink()
    other = tmp_path / "other" / "phases" / "dense.safetensors"
    (tmp_path / "run" / "phases" / "dense.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(CorruptFileError, match=r"dense\.safetensors does not fit the model"):
        runs.run(SMALL, tmp_path / "run")
    fits = checkpoint.load(tmp_path / "run" / "phases" / "prune.safetensors")
    del fits.values["epochs"]
    checkpoint.save(tmp_path / "run" / "phases" / "dense.safetensors", fits)
    with pytest.raises(CorruptFileError, match="lacks an entry"):
        runs.run(SMALL, tmp_path / "run")
    whole = json.loads((tmp_path / "other" / "result.json").read_text())
    for text, told in {
        "[]": "holds no result",
        json.dumps({"kind": "run", "measure": {}}): "holds no result",
        json.dumps(whole | {"measure": {}}): "lacks what was measured",
        json.dumps(whole)[:100]: "make it anew with secateur run --again",
    }.items():
        (tmp_path / "other" / "result.json").write_text(text)
        with pytest.raises(CorruptFileError, match=told):
            runs.read_result(tmp_path / "other")


def test_seconds_are_those_of_all_phases_after_the_dense_net(tmp_path: Path) -> None:
    for changes in ({"method": "lottery-ticket", "rounds": 3}, {"method": "one-shot", "max_drop": 1.0}):
        folder = tmp_path / str(changes["method"])
        result = runs.run(Settings(model="mlp:32", epochs=2, prune_epochs=2, bits=0, **changes), folder)  # type: ignore[arg-type]
        spent = dict.fromkeys(("dense", "dense_longer", "pruned"), 0.0)
        for row in read_metrics(folder / "metrics.jsonl"):
            spent[{"dense": "dense", "dense-longer": "dense_longer"}.get(row["phase"], "pruned")] += row["seconds"]
        assert result["seconds"] == pytest.approx(spent, abs=0.02)


def test_steps_done_reach_their_number_and_stop_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: dict[str, list[tuple[int, int]]] = {}

    def tick(journal: Journal, phase: str, done: int, steps: int) -> None:
        ticks.setdefault(phase, []).append((done, steps))

    monkeypatch.setattr(Journal, "tick", tick)
    ticket = Settings(model="mlp:32", epochs=3, method="lottery-ticket", rewind=0.4, rounds=2, bits=0)
    runs.run(ticket, tmp_path / "run")
    assert {"dense", "early", "round1", "round2"} <= ticks.keys()
    for seen in ticks.values():
        assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))


def test_a_model_with_nothing_to_train_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "still.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match="nothing of still:net can be trained"):
        runs.run(Settings(model="still:net"), tmp_path / "run")
