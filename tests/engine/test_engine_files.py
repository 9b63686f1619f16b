"""Engines from files: the same engine, also without torch; hostile files do no harm."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plans
import pytest
import reference
import safetensors
from running import difference, given
from test_without_torch import REFUSING

import secateur as sc
from secateur import native
from secateur.engine import InputError, load
from secateur.engine.engine import Engine
from secateur.engine.plan import to_json
from secateur.engine.tuning import Tuned
from secateur.pack.arrays import write_arrays
from secateur.vocabulary import CorruptFileError, MissingKernelsError

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine of every kind of operator, measured."""
    path = tmp_path_factory.mktemp("engines") / "whole.sct"
    Engine(plans.whole()).tune().save(path)
    return path


def test_a_loaded_engine_gives_the_same_bits(saved: Path, tmp_path: Path) -> None:
    engine, plan = Engine(plans.whole()).tune(), plans.whole()
    engine.save(tmp_path / "own.sct")
    again = load(tmp_path / "own.sct", threads=2)
    assert again.threads == 2 and str(again.plan) == str(plan)
    for samples in (1, 5, 40):
        inputs = given(plan, samples)
        one, other = engine.run(inputs), again.run(inputs)
        assert all(np.array_equal(one[name], other[name]) for name in plan.outputs)


def test_other_instructions_than_those_it_was_measured_with(saved: Path) -> None:
    plan = plans.whole()
    for instructions in native.load().sets():
        engine = load(saved, instructions=instructions)
        assert engine.instructions == instructions
        inputs = given(plan, 3)
        assert difference(reference.run(plan, inputs), engine.run(inputs)) < 1e-5
    with pytest.raises(InputError, match="'abacus' is not one of"):
        load(saved, instructions="abacus")


def test_it_runs_where_there_is_no_torch(saved: Path) -> None:
    plan = plans.whole()
    inputs = given(plan, 3)
    wanted = reference.run(plan, inputs)
    np.savez(saved.with_name("inputs.npz"), **inputs)
    code = f"""
import numpy as np
from secateur.engine import load
engine = load({str(saved)!r})
with np.load({str(saved.with_name("inputs.npz"))!r}) as inputs:
    outputs = engine.run(dict(inputs))
    called = engine(*[inputs[name] for name in engine.plan.inputs])
np.savez({str(saved.with_name("outputs.npz"))!r}, **outputs)
assert all(np.array_equal(a, b) for a, b in zip(called, outputs.values()))
print(engine.profile(runs=1).samples, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", REFUSING + code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 False\n", "")
    with np.load(saved.with_name("outputs.npz")) as outputs:
        assert difference(wanted, dict(outputs)) < 1e-5


def test_numpy_and_safetensors_are_all_it_needs(saved: Path, tmp_path: Path) -> None:
    """In a Python that has these two, this package and the standard library."""
    for package in (np, safetensors, sc):
        source = Path(package.__file__).parent
        (tmp_path / source.name).symlink_to(source)
        for beside in source.parent.glob(f"{source.name}.libs"):
            (tmp_path / beside.name).symlink_to(beside)
    code = f"""
import sys
from secateur.engine import load
engine = load({str(saved)!r})
print(engine.profile(runs=1).samples, any("site-packages" in folder for folder in sys.path))
"""
    command = [sys.executable, "-S", "-c", code]
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("1 False\n", "")


@pytest.mark.parametrize(
    "code", ["sc.compile(torch.nn.Linear(2, 2), torch.zeros(1, 2))", "sc.engine.load('no file')", "sc.accelerate"]
)
def test_without_kernels_it_says_what_to_do(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"""
import torch, secateur as sc
from secateur.vocabulary import SecateurError
try:
    made = {code}
    made(torch.nn.Linear(2, 2))
except SecateurError as error:
    print(type(error).__name__, "SECATEUR_NATIVE=0" in str(error))
"""
    monkeypatch.setenv("SECATEUR_NATIVE", "0")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{MissingKernelsError.__name__} True\n", "")


def test_other_files_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "tensors.sct"
    write_arrays(path, {"x": np.eye(3, dtype=np.float32)})
    with pytest.raises(CorruptFileError, match=r"tensors\.sct holds no engine, only tensors"):
        load(path)
    (tmp_path / "text.sct").write_text("hello")
    with pytest.raises(CorruptFileError, match=r"text\.sct"):
        load(tmp_path / "text.sct")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.sct")


def test_a_small_file_takes_no_large_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.sct"
    ops = [("u", "upsample_nearest", "x", {"factors": (64, 64)}), ("v", "upsample_nearest", "u", {"factors": (64, 64)})]
    write_arrays(path, {}, notes={"plan": to_json(plans.plan({"x": (1, 2, 2)}, ops, ["v"]))})
    with pytest.raises(CorruptFileError, match="bytes for one sample, more than the 268,435,456 allowed"):
        load(path)
    ops = [("u", "upsample_nearest", "x", {"factors": (64, 64)})]
    Engine(plans.plan({"x": (1, 2, 2)}, ops, ["u"])).save(path)
    with pytest.raises(
        CorruptFileError, match="more than the 60,000 allowed; if you trust it, allow them with max_bytes="
    ):
        load(path, max_bytes=60_000)
    assert load(path, max_bytes=200_000).run({"x": np.ones((1, 1, 2, 2))})["u"].shape == (1, 1, 128, 128)


def accepted(path: Path) -> Engine | None:
    """Return the engine, or None if the file is refused as it should be; any other error fails the test."""
    try:
        return load(path)
    except CorruptFileError as error:
        assert str(path) in str(error)
        return None


def runs(engine: Engine) -> None:
    """Run an engine whose file was changed: any numbers, or an error that says what was wrong with the input."""
    inputs = {
        name: np.zeros(
            (1, *engine.plan.values[name].shape), np.int64 if engine.plan.values[name].dtype == "I64" else "f"
        )
        for name in engine.plan.inputs
    }
    try:
        with np.errstate(all="ignore"):
            engine.run(inputs)
    except InputError as error:
        assert "index" in str(error)


def test_changed_bytes_are_noticed(saved: Path, tmp_path: Path) -> None:
    whole, chance, path = saved.read_bytes(), random.Random(0), tmp_path / "x.sct"
    for _ in range(1500):
        data = bytearray(whole)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        assert accepted(path) is None


NUMBERS = [0, 1, 2, 3, 5, -1, 7, 64, 1 << 16, 1 << 31, 1 << 40, 1 << 70, 1.5, 1e30, True, None, "x", [], {}, [1], "NaN"]


def places(thing: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every place in a tree of JSON: its container and its key."""
    keys = thing.keys() if isinstance(thing, dict) else range(len(thing))
    for key in keys:
        found.append((thing, key))
        if isinstance(thing[key], dict | list):
            places(thing[key], found)
    return found


def changed(text: str, chance: random.Random) -> str:
    """Return JSON with a few of its parts changed, swapped or left out."""
    whole = json.loads(text)
    for _ in range(chance.choice([1, 1, 2, 3])):
        container, key = chance.choice(places(whole, []))
        other, its = chance.choice(places(whole, []))
        act = chance.random()
        if act < 0.4:
            container[key] = chance.choice(NUMBERS)
        elif act < 0.75:
            container[key] = json.loads(json.dumps(other[its]))
        elif act < 0.9 and type(container[key]) is int:
            container[key] += chance.choice([-1, 1, 2])
        elif isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        else:
            del container[key]
    return json.dumps(whole)


def hostile(saved: Path, count: int, change: Callable[[dict[str, str], random.Random], None], path: Path) -> int:
    """Load engines whose notes were changed and signed again; return how many were taken."""
    from secateur.pack.arrays import load_kept

    chance, taken = random.Random(1), 0
    for _ in range(count):
        arrays, notes = load_kept(saved)
        notes = dict(notes)
        change(notes, chance)
        write_arrays(path, {name: np.asarray(each) for name, each in arrays.items()}, notes=notes)
        engine = accepted(path)
        if engine is not None:
            taken += 1
            runs(engine)
    return taken


def change_plan(notes: dict[str, str], chance: random.Random) -> None:
    notes["plan"] = changed(notes["plan"], chance)


def change_tuning(notes: dict[str, str], chance: random.Random) -> None:
    notes["tuning"] = changed(notes["tuning"], chance)


def test_plans_made_with_bad_intent_do_no_harm(saved: Path, tmp_path: Path) -> None:
    assert hostile(saved, 500, change_plan, tmp_path / "x.sct") > 1  # numbers may be changed at will


def test_tunings_made_with_bad_intent_do_no_harm(saved: Path, tmp_path: Path) -> None:
    assert hostile(saved, 200, change_tuning, tmp_path / "x.sct") > 10


@pytest.mark.slow
def test_many_more_plans_made_with_bad_intent(saved: Path, tmp_path: Path) -> None:
    assert hostile(saved, 20_000, change_plan, tmp_path / "x.sct") > 200


def test_tilings_beyond_reason_in_a_file_are_only_slow(saved: Path, tmp_path: Path) -> None:
    plan, best = plans.whole(), Engine(plans.whole()).instructions
    for tiling in ([1000, 1000, 8, 1, False], [1, 1 << 30, 1, 1 << 30, True], [2, 3, 4, 1, True]):
        tuned = Tuned.from_json(
            json.dumps({"instructions": best, "batched_from": 2, "single": {"0": tiling}, "batched": {"0": tiling}})
        )
        path = tmp_path / "x.sct"
        notes = {"plan": to_json(plan), "tuning": tuned.to_json()}
        write_arrays(path, {name: np.asarray(each) for name, each in plan.constants.items()}, notes=notes)
        engine = accepted(path)
        if engine is not None:
            inputs = given(plan, 3)
            assert difference(reference.run(plan, inputs), engine.run(inputs)) < 1e-5


def test_saving_is_whole_or_nothing(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.sct"
    engine = load(saved)
    engine.save(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="nowhere"):
        engine.save(tmp_path / "nowhere" / "engine.sct")
    engine.save(path)
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["engine.sct"]
    assert sc.read_index(path)
