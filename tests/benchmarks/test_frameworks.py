"""The benchmark of the frameworks believes no part that is not what it should be; parts are stood in for here."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import frameworks
import pytest

WAY = frameworks.WAYS[0]


class Parts:
    """Stand-ins of the worker: what each mode tells and how its process ends."""

    def __init__(self, killed: int = -9, resumed_at: int = 10) -> None:
        self.killed, self.resumed_at, self.calls = killed, resumed_at, []

    def __call__(self, command: list[str], **_: Any) -> Any:
        mode = command[3]
        self.calls.append(mode)
        told = {"format": 2, "zeros": 8, "asked": 8, "weights": 10, "accuracy": 0.97, "dense": 0.98, "digest": "same"}
        told |= {"began": self.resumed_at if mode == "resumed" else 0, "end": 30, "cores": 1}
        told |= {"versions": {"torch": "2.13.0"}}
        if mode == "whole":
            told["step"] = {"mean": {"dense": 2.0, "pruned": 2.5}, "median": {"dense": 2.0, "pruned": 2.2}}
        code = self.killed if mode == "killed" else 0
        return SimpleNamespace(returncode=code, stdout=json.dumps(told), stderr="out of memory")


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(out=tmp_path, data_dir=None, keras=None)


def test_parts_are_run_once_and_become_a_row(options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    monkeypatch.setattr(subprocess, "run", parts)
    found = frameworks.parts_of(WAY, 0.8, options)
    assert parts.calls == ["whole"] * 3 + ["killed", "resumed"]
    assert frameworks.parts_of(WAY, 0.8, options) == found and len(parts.calls) == 5
    row = frameworks.row(WAY, found, 0.8)
    assert row[3:7] == ["98.00 ± 0.00", "97.00 ± 0.00", "1.25 (1.25 to 1.25)", "1.10 (1.10 to 1.10)"]
    assert row[7] == "to the last bit, from step 10 of 30"


def test_a_part_in_the_old_form_is_run_again(options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    monkeypatch.setattr(subprocess, "run", parts)
    old = options.out / "frameworks" / "torch-0.8-0" / "killed.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"killed": true}')
    frameworks.part(WAY, "killed", 0.8, 0, options)
    assert parts.calls == ["killed"] and json.loads(old.read_text()) == {"format": 2}


@pytest.mark.parametrize("code", [0, 1, -15])
def test_only_what_was_killed_counts_as_killed(
    code: int, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Parts(killed=code))
    with pytest.raises(SystemExit, match=f"ended with {code}:\nout of memory"):
        frameworks.part(WAY, "killed", 0.8, 0, options)
    assert not list(options.out.rglob("killed.json"))


@pytest.mark.parametrize("step", [0, 30])
def test_a_run_that_was_not_resumed_half_way_tells_nothing(
    step: int, options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Parts(resumed_at=step))
    with pytest.raises(SystemExit, match=f"the resumed one at {step} of 30: that tells nothing"):
        frameworks.parts_of(WAY, 0.8, options)
