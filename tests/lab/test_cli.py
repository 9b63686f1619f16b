"""The command line as a user meets it: what it prints, what it returns, what it leaves alone."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import call
from safetensors.torch import save_file

from secateur.lab.cli import main, run_command
from secateur.lab.data import load

TINY = ["--model", "mlp:16", "--epochs", "2", "--prune-epochs", "2", "--quiet"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_help_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    assert f"  secateur {verb}" in capsys.readouterr().out


def test_the_main_job_on_real_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--out", "demo", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "test accuracy" in printed and "demo/report.html" in printed
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    accuracy = result["accuracy"]
    assert accuracy["pruned"]["test"] >= 0.96
    assert accuracy["pruned"]["test"] >= accuracy["dense_longer"]["test"] - 0.015
    assert result["measure"]["pruned"]["targets"]["kept"] == 5020
    assert (tmp_path / "demo" / "report.html").stat().st_size < 1_500_000
    assert call("inspect", "demo") == 0
    assert "fc1.weight" in capsys.readouterr().out
    assert call("inspect", "demo/phases/prune.safetensors") == 0
    assert "sparsity" in capsys.readouterr().out
    assert call("report", "demo") == 0


BAD = [
    (["run", "--model", "lenet-300"], 2, "did you mean 'lenet-300-100'"),
    (["run", "--method", "gradul"], 2, "did you mean 'gradual'"),
    (["run", "--data", "digts"], 2, "did you mean 'digits'"),
    (["run", "--model", "no.such:thing"], 2, "no.such"),
    (["run", "--sparsity", "1.5"], 2, "between 0 and 1"),
    (["run", "--sparsity", "90%"], 2, "write 0.9"),
    (["run", "--sparsity", "90%%"], 2, "between 0 and 1"),
    (["run", "--sparsity", "²%"], 2, "between 0 and 1"),
    (["run", "--sparsity", "nan"], 2, "between 0 and 1"),
    (["run", "--sparsity", "much"], 2, "between 0 and 1"),
    (["run", "--epochs", "-1"], 2, "epochs"),
    (["run", "--epochs", "1.5"], 2, "--epochs"),
    (["run", "--optimizer", "sgdd"], 2, "did you mean 'sgd'"),
    (["run", "--sparsty", "0.5"], 2, "--sparsty"),
    (["rnu"], 2, "did you mean 'run'"),
    (["run", "--config", "nothing.toml"], 2, "no config file"),
    (["run", "--data", "mnist", "--data-dir", "nowhere"], 1, "nowhere"),
    (["sweep", "--methods", "magic"], 2, "magic"),
    (["sweep", "--sparsities", "0.5,2"], 2, "between 0 and 1"),
    (["sweep", "--seeds", "a"], 2, "whole numbers"),
    (["sweep", "--methods", ","], 2, "at least one"),
    (["report", "nowhere"], 2, "nowhere is not there"),
    (["inspect", "nowhere"], 2, "nowhere"),
    (["export"], 2, "PATH"),
    (["export", "nowhere"], 2, "no file nowhere"),
    (["export", "."], 2, "no config.toml"),
    (["export", ".", "--model", "mlp:16"], 2, "leave --model out"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_bad_input_is_one_clear_line(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(*arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("secateur: ") and error.count("\n") == 1 and text in error
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("content", ["epochs = ", "epochs = 1.5", "epochz = 3", "\x00", 'sparsity = "90%"'])
def test_a_config_that_cannot_be_used_is_named(
    content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(content)
    assert call("run", "--config", "c.toml") == 2
    assert "c.toml" in (error := capsys.readouterr().err) or "epochs" in error or "sparsity" in error


def test_a_truncated_data_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{part}-ubyte.gz").write_bytes(gzip.compress(b"\x00\x00\x08\x03" + b"\x00" * 20)[:-6])
    assert call("run", "--data", "mnist", "--data-dir", str(tmp_path)) == 1
    assert "ubyte.gz" in capsys.readouterr().err


def test_a_full_disk_loses_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert call("run", *TINY, "--out", "run") == 1
    assert "No space left" in capsys.readouterr().err
    assert call("run", *TINY, "--out", "run") == 0


def test_an_output_folder_that_cannot_be_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    assert call("run", *TINY, "--out", "file/run") == 1
    assert "file" in capsys.readouterr().err
    assert call("run", *TINY, "--out", "file") == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_a_config_reproduces_its_run_and_flags_win(tmp_path: Path) -> None:
    assert call("run", *TINY, "--seed", "3", "--out", "one") == 0
    assert call("run", "--config", "one/config.toml", "--quiet", "--out", "two") == 0
    assert call("run", "--config", "one/config.toml", "--quiet", "--seed", "4", "--out", "three") == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two", "three")]
    assert results[0]["accuracy"] == results[1]["accuracy"]
    assert results[2]["settings"]["seed"] == 4 and results[2]["settings"]["model"] == "mlp:16"


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    flags = ["run", "--epochs", "100000", "--prune-epochs", "0", "--out", "run", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "secateur.lab", *flags],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        # A shell's background jobs are started with SIGINT ignored, and pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "phases" / "dense.partial.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Go on with: secateur run --epochs 100000" in error and "Traceback" not in error


def test_a_users_own_model_and_data(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from secateur.lab.data import Dataset, Split\n"
        "def net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))\n"
        "def data():\n"
        "    x = torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(0))\n"
        "    y = (x.sum((1, 2, 3)) > 0).long()\n"
        "    part = lambda a, b: Split(x[a:b], y[a:b])\n"
        "    return Dataset('signs', part(0, 100), part(100, 150), part(150, 200), 2)\n"
    )
    command = [sys.executable, "-m", "secateur.lab", "run", "--model", "mine:net", "--data", "mine:data"]
    flags = ["--epochs", "3", "--prune-epochs", "3", "--sparsity", "0.5", "--out", "run", "--quiet"]
    subprocess.run([*command, *flags], cwd=tmp_path, check=True, capture_output=True)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["measure"]["pruned"]["targets"]["kept"] == 16


def test_no_traceback_reaches_a_user(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "secateur.lab", "run", "--sparsity", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""


def test_a_run_is_exported_and_its_file_runs_without_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert call("run", *TINY, "--out", "run") == 0
    capsys.readouterr()
    assert call("export", "run") == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    assert "run/model.onnx: " in printed and "1,066 of 1,210 weights in it are zero" in printed
    assert "ONNX stores zeros" in printed and "checked in ONNX Runtime" in printed
    session = onnxruntime.InferenceSession(tmp_path / "run" / "model.onnx")
    test = load("digits").test
    logits = session.run(None, {session.get_inputs()[0].name: test.images.numpy()})[0]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    accuracy = float((logits.argmax(1) == test.labels.numpy()).mean())
    assert accuracy == pytest.approx(result["accuracy"]["pruned"]["test"], abs=0.003)


def test_exports_of_narrower_and_of_a_users_own_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "path", list(sys.path))
    net = "import torch\ndef net(shape, classes):\n    return torch.nn.Sequential({})\n"
    layers = "torch.nn.Flatten(), torch.nn.Linear(64, classes)"
    (tmp_path / "exported_net.py").write_text(net.format(layers))
    short = ["--epochs", "1", "--prune-epochs", "1", "--quiet"]
    assert call("run", *short, "--model", "exported_net:net", "--out", "own") == 0
    assert call("run", *short, "--model", "mlp:32", "--method", "small-dense", "--out", "narrow") == 0
    for name in ("own", "narrow"):
        assert call("export", name, "--out", f"{name}.onnx") == 0
        assert (tmp_path / f"{name}.onnx").exists() and not (tmp_path / name / "model.onnx").exists()
    capsys.readouterr()

    monkeypatch.delitem(sys.modules, "exported_net")
    (tmp_path / "exported_net.py").write_text(net.format(f"{layers}, torch.nn.Linear(classes, classes)"))
    assert call("export", "own") == 1
    assert "does not fit the model exported_net:net" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "exported_net")
    (tmp_path / "exported_net.py").unlink()
    assert call("export", "own") == 2
    assert "no module 'exported_net'" in capsys.readouterr().err


def test_a_run_that_cannot_be_exported_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert call("run", *TINY, "--out", "run") == 0
    run = tmp_path / "run"
    kept = {name: (run / name).read_bytes() for name in ("result.json", "model.safetensors")}
    capsys.readouterr()

    def refused(code: int, *flags: str) -> str:
        assert call("export", "run", *flags) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and not list(tmp_path.rglob("*.onnx"))
        return error

    assert "no/such" in refused(1, "--out", "no/such/model.onnx")
    assert "folder" in refused(1, "--out", "run")
    (run / "model.safetensors").write_bytes(kept["model.safetensors"][:100])
    assert "run/model.safetensors is not a readable" in refused(1)
    (run / "model.safetensors").unlink()
    assert "lost its model.safetensors" in (error := refused(2)) and "--out run --again" in error
    (run / "model.safetensors").write_bytes(kept["model.safetensors"])
    (run / "result.json").write_bytes(kept["result.json"].replace(b'"classes"', b'"class"'))
    assert "does not describe its data" in refused(1)
    (run / "result.json").unlink()
    assert "not finished; go on with: secateur run --data digits --model mlp:16" in refused(2)
    (tmp_path / "run" / "cells").mkdir()
    assert "holds a sweep" in refused(2)


def test_what_a_users_code_raises_is_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing_code.py").write_text(
        "def net(shape, classes):\n    return shape[9]\n\n\ndef data():\n    1 / 0\n"
    )
    (tmp_path / "failing_module.py").write_text("undefined\n")
    for flag, name, told in (
        ("--model", "failing_code:net", "failed: IndexError: tuple index out of range (failing_code.py, line 2)"),
        ("--data", "failing_code:data", "failed: ZeroDivisionError: division by zero (failing_code.py, line 6)"),
        ("--model", "failing_module:net", "importing failing_module failed: NameError"),
    ):
        assert call("run", flag, name, "--quiet", "--out", "x") == 2
        assert told in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nothing\nand more")

    monkeypatch.setattr("secateur.lab.show.inspect", fail)
    assert call("inspect", "x") == 1
    assert capsys.readouterr().err.startswith(
        "secateur: this should not have failed: ZeroDivisionError: by nothing; SEC"
    )
    monkeypatch.setenv("SECATEUR_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run_command(["inspect", "x"])


def test_a_terminal_that_knows_ascii_alone_and_our_warnings(tmp_path: Path) -> None:
    """What it cannot show becomes a question mark; a warning of ours shows none of our code."""
    save_file({"\u00b5": torch.full((2, 2), -0.0)}, tmp_path / "m.safetensors")
    done = {}
    for verb, file in (("pack", "m.safetensors"), ("inspect", "m.sct")):
        command = [sys.executable, "-m", "secateur.lab", verb, file]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done[verb] = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done["inspect"].returncode == 0 and "\n? " in done["inspect"].stdout
    assert done["pack"].stderr.startswith("secateur: warning: ") and "packing.py" not in done["pack"].stderr
