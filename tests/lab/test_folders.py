"""Folders: starting over deletes what runs write and nothing else; runs and sweeps do not mix."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur.lab import runs, sweeps
from secateur.lab.folders import claim
from secateur.lab.settings import Settings, write_settings

TINY = Settings(model="mlp:16", epochs=1, prune_epochs=1, bits=0, engine=False)
GRID = sweeps.Grid(("random",), (0.5,), (0,))


def test_starting_over_leaves_what_a_run_does_not_write(tmp_path: Path) -> None:
    runs.run(TINY, tmp_path / "run")
    for kept in ("notes.txt", "figures/one.svg"):
        (tmp_path / "run" / kept).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / kept).write_text("mine")
    (tmp_path / "run" / "model.onnx").write_text("of the run before")
    runs.run(TINY, tmp_path / "run", runs.Options(again=True))
    assert (tmp_path / "run" / "notes.txt").exists() and (tmp_path / "run" / "figures" / "one.svg").exists()
    assert not (tmp_path / "run" / "model.onnx").exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_with_settings_of_another_program_is_left_alone(again: bool, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "src").mkdir(parents=True)
    (site / "config.toml").write_text('title = "site"\n')
    (site / "src" / "thesis.txt").write_text("precious")
    with pytest.raises(runs.RunFolderError, match=r"no settings of ours.*title.*another --out"):
        runs.run(TINY, site, runs.Options(again=again))
    with pytest.raises(runs.RunFolderError, match=r"no settings of ours.*title"):
        sweeps.sweep(TINY, GRID, site)
    assert {path.name for path in site.iterdir()} == {"config.toml", "src"}
    assert (site / "src" / "thesis.txt").read_text() == "precious"


def test_runs_and_sweeps_refuse_each_others_folders(tmp_path: Path) -> None:
    base = Settings(model="mlp:16", epochs=1, prune_epochs=1)
    sweeps.sweep(base, GRID, tmp_path / "s", say=lambda _: None)
    before = sorted(tmp_path.rglob("*"))
    for again in (False, True):
        with pytest.raises(runs.RunFolderError, match="holds a sweep"):
            runs.run(base, tmp_path / "s", runs.Options(again=again))
    assert sorted(tmp_path.rglob("*")) == before
    runs.run(base, tmp_path / "r", runs.Options(forms=False))
    with pytest.raises(runs.RunFolderError, match="holds a run"):
        sweeps.sweep(base, GRID, tmp_path / "r")
    assert not (tmp_path / "r" / "cells").exists()


def test_two_processes_do_not_work_at_one_sweep(tmp_path: Path) -> None:
    import filelock

    (tmp_path / "s").mkdir()
    with filelock.FileLock(tmp_path / "s" / ".lock"), pytest.raises(runs.RunFolderError, match="another process"):
        sweeps.sweep(TINY, GRID, tmp_path / "s")


def test_starting_over_may_be_stopped_at_any_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    names = ["config.toml", "result.json", "report.html", "model.safetensors", "metrics.jsonl"]
    for stop in range(len(names)):
        run.mkdir(exist_ok=True)
        for name in names:
            (run / name).touch()
        write_settings(run / "config.toml", TINY, "a note")
        deleted = 0

        def unlink(path: Path, missing_ok: bool = False, stop: int = stop) -> None:
            nonlocal deleted
            if path.parent == run and path.name != ".lock":
                if deleted == stop:
                    raise KeyboardInterrupt
                deleted += 1
            path.rename(tmp_path / "bin")

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "unlink", unlink)
            claim(run, TINY, again=True)
        claim(run, TINY, again=False)
