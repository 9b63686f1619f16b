"""`secateur bench` as a user meets it: tables, verdicts, files, and what is said where something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import call, without_runtimes

import secateur as sc
from secateur.lab import models, racing, subjects
from secateur.lab.data import LabError
from secateur.lab.networks import Made
from secateur.lab.subjects import Thinning

RUN = ["--model", "mlp:24", "--epochs", "1", "--prune-epochs", "1", "--quiet", "--bits", "0"]
QUICK = ["--threads", "1", "--batch", "1,3", "--turns", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert call("run", *RUN, "--out", str(folder)) == 0
    return folder


def test_a_run_in_every_runtime(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, record = tmp_path / "times.md", tmp_path / "times.json"
    assert call("bench", str(run), *QUICK, "--out", str(page), "--out", str(record)) == 0
    printed = capsys.readouterr().out
    assert "178 of 1,776 target weights are not zero: sparsity 0.8998." in printed and "batch 3, 1 thread: " in printed
    result = json.loads(record.read_text())
    assert result["kind"] == "bench" and result["environment"]["torch"] == torch.__version__
    assert {(row["batch"], row["threads"]) for row in result["rows"]} == {(1, 1), (3, 1)}
    named = {row["name"] for row in result["rows"]} | set(result["absent"])
    assert named == {"torch eager", "torch CSR", "ONNX Runtime", "OpenVINO", "engine"}
    for row in result["rows"]:
        assert row["error"] < 1e-5 and row["ms"] == sorted(row["ms"]) and row["calls"] >= 2
        assert row["name"] in printed and f"| {row['name']} | {row['ms'][1]:.3g} |" in page.read_text()
    assert all(name in printed and why in printed for name, why in result["absent"].items())


def test_a_packed_file_and_a_safetensors_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--model", "mlp:24", "--shape", "1,8,8"]
    for name in ("model.sct", "model.safetensors"):
        assert call("bench", str(run / name), *named, *QUICK) == 0
        assert "178 of 1,776 target weights are not zero" in capsys.readouterr().out


def test_an_engine_alone_says_that_it_is_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", str(run / "engine.sct"), *QUICK, "--out", str(tmp_path / "times.json")) == 0
    assert "the engine runs alone" in capsys.readouterr().out
    rows = json.loads((tmp_path / "times.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["engine"] * 2 and all(row["error"] is None for row in rows)


def test_a_new_network_is_pruned_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "mlp:40-30", "--shape", "1,6,6", "--sparsity", "0.9", "--scope", "global", *QUICK) == 0
    assert "to 0.9 in one ranking, all layers but the first." in capsys.readouterr().out


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_thinning_prunes_the_layers_it_should(first: bool, scope: str) -> None:
    model = models.build("mlp:40-30", (1, 6, 6), 10)
    weights = {name: weight.detach().clone() for name, weight in sc.prunable(model).items()}
    masks = subjects.thin(model, Thinning(0.8, scope, first))
    assert list(masks) == list(weights)[not first :]
    assert masks.sparsity == pytest.approx(0.8, abs=1e-3)
    shares = [1 - mask.float().mean().item() for mask in masks.values()]
    assert shares == pytest.approx([0.8] * len(shares), abs=1e-2) or scope == "global"
    for name, mask in masks.items():
        smallest_kept = weights[name][mask].abs().min()
        assert weights[name][~mask].abs().max() <= smallest_kept


BAD = [
    (["bench"], 2, "MODEL-OR-FILE"),
    (["bench", "nowhere.sct"], 2, "no file or folder nowhere.sct"),
    (["bench", "runs/nothing"], 2, "no file or folder runs/nothing"),
    (["bench", "lenet-300"], 2, "no run folder, no file and no model 'lenet-300'"),
    (["bench", "lenet-300"], 2, "did you mean 'lenet-300-100'"),
    (["bench", "resnet-18", "--shape", "3,8,8"], 2, "at least 16 pixels"),
    (["bench", "nowhere.sct", "--model", "lenet-5"], 2, "no file nowhere.sct"),
    (["bench", "."], 2, "no config.toml"),
    (["bench", "lenet-5", "--threads", "0"], 2, "at least 1"),
    (["bench", "lenet-5", "--batch", "1,x"], 2, "whole numbers"),
    (["bench", "lenet-5", "--sparsity", "90"], 2, "between 0 and 1"),
    (["bench", "lenet-5", "--scope", "local"], 2, "layerwise"),
    (["bench", "lenet-5", "--out", "times.txt"], 2, ".json or .md, not '.txt'"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("secateur: ") and error.count("\n") == 1 and text in error


def test_flags_that_do_not_go_with_what_is_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        ([str(run), "--model", "mlp:24"], "leave --model and --sparsity out"),
        ([str(run), "--sparsity", "0.5"], "leave --model and --sparsity out"),
        ([str(run / "engine.sct"), "--sparsity", "0.5"], "leave --sparsity out"),
        ([str(run / "model.sct")], "name their network too"),
        ([str(run / "model.sct"), "--model", "mlp:9", "--shape", "1,8,8"], "does not fit mlp:9"),
    ):
        assert call("bench", *arguments) == 2
        assert text in capsys.readouterr().err


def test_damaged_files_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("engine.sct", "model.sct"):
        cut = tmp_path / name
        cut.write_bytes((run / name).read_bytes()[:-20])
        assert call("bench", str(cut)) == 1
        assert name in capsys.readouterr().err


def test_an_engine_of_other_inputs_than_images_is_refused(tmp_path: Path) -> None:
    net = torch.nn.Embedding(10, 4).eval()
    sc.compile(net, torch.zeros(1, 3, dtype=torch.int64), tune=False).save(tmp_path / "words.sct")
    with pytest.raises(LabError, match="other inputs than images"):
        subjects.find(str(tmp_path / "words.sct"), Made(""))


def test_runtimes_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_runtimes(monkeypatch)
    assert call("bench", "mlp:8", "--shape", "1,4,4", *QUICK) == 0
    printed = capsys.readouterr().out
    for name, extra in (("ONNX Runtime", "onnx"), ("OpenVINO", "openvino")):
        assert f"{name} is not in the table: " in printed and f"secateur[{extra}]" in printed


def result(**ratios: tuple[float, float, float]) -> dict[str, object]:
    rows = [
        {"name": name.replace("_", " "), "batch": 1, "threads": 2, "ms": [1 / ratio[1]] * 3, "ratio": list(ratio)}
        | {"gain": ratio[0] > 1, "error": 0.0}
        for name, ratio in ratios.items()
    ]
    return {"rows": rows}


def test_the_verdict_claims_no_gain_that_is_none() -> None:
    one = (1.0, 1.0, 1.0)
    (gain,) = racing.verdicts(result(torch_eager=one, ONNX_Runtime=(1.4, 1.5, 1.6), engine=(2.9, 3.0, 3.1)))
    assert gain.startswith("batch 1, 2 threads: the engine is 3.00 times as fast as torch eager (2.90 to 3.10)")
    assert gain.endswith("and 2.00 times as fast as ONNX Runtime, the fastest of the others.")
    (beaten,) = racing.verdicts(result(torch_eager=one, ONNX_Runtime=(3.9, 4.0, 4.1), engine=(1.9, 2.0, 2.1)))
    assert "but no gain: 0.50 times as fast as ONNX Runtime" in beaten
    (none,) = racing.verdicts(result(torch_eager=one, engine=(0.99, 1.02, 1.1)))
    assert "no gain: the engine is 1.02 times as fast" in none
    assert list(racing.verdicts(result(torch_eager=one))) == []


def test_more_threads_than_processors_are_pointed_out() -> None:
    subject = subjects.find("mlp:8", Made("", (1, 4, 4)))
    course = racing.Course((4096,), (1,), racing.Pace(1, 1e-6))
    notes = list(racing._crowded(course))
    assert notes and "4096 threads had" in notes[0] and subject.model is not None


def test_how_to_prune_is_nothing_without_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "lenet-5", "--scope", "global", "--first") == 2
    assert "--scope and --first say how --sparsity prunes" in capsys.readouterr().err
