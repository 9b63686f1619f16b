"""A folder is read into a checked record, or refused with the way out."""

import json

import pytest
from report_fixtures import run_metrics, run_result, sweep_result, write_run, write_sweep

from secateur.lab.report.reading import read
from secateur.vocabulary import CorruptFileError, SecateurError


def test_a_run_and_a_sweep_are_told_apart(tmp_path):
    run = read(write_run(tmp_path / "run", run_result(), run_metrics()))
    assert (run.kind, len(run.metrics), run.remarks) == ("run", 60, ())
    assert read(write_sweep(tmp_path / "sweep", sweep_result())).kind == "sweep"


def test_an_empty_folder_is_refused_and_the_text_says_what_was_expected(tmp_path):
    with pytest.raises(SecateurError, match=r"expected result\.json .* or sweep\.json"):
        read(tmp_path)


def test_another_format_is_refused(tmp_path):
    with pytest.raises(SecateurError, match="format 2"):
        read(write_run(tmp_path, {**run_result(), "format": 2}))


@pytest.mark.parametrize("text", ["{", "[]", '"text"', ""])
def test_a_damaged_result_is_refused_by_name(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"result\.json"):
        read(tmp_path)


@pytest.mark.parametrize(("outer", "inner"), [("accuracy", "pruned"), ("measure", "dense"), ("name", None)])
def test_what_the_page_cannot_do_without_is_named(tmp_path, outer, inner):
    result = run_result()
    if inner is None:
        del result[outer]
    else:
        del result[outer][inner]
    with pytest.raises(CorruptFileError, match=outer if inner is None else f"{outer}.{inner}"):
        read(write_run(tmp_path, result))


def test_the_line_a_killed_run_left_unfinished_is_dropped_and_said(tmp_path):
    folder = write_run(tmp_path, run_result(), run_metrics())
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text()[:-30])
    record = read(folder)
    assert len(record.metrics) == 59
    assert "cut short" in record.remarks[0]


def test_damage_in_the_middle_of_the_metrics_is_not_passed_over(tmp_path):
    folder = write_run(tmp_path, run_result(), run_metrics())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[4] = lines[4][:20]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(CorruptFileError, match="line 5"):
        read(folder)


def test_an_epoch_that_a_resumed_run_wrote_twice_counts_once_with_its_later_line(tmp_path):
    rows = run_metrics()
    again = {**rows[-1], "loss": 0.125}
    record = read(write_run(tmp_path, run_result(), [*rows, again]))
    assert len(record.metrics) == 60
    assert record.metrics[-1]["loss"] == 0.125


def test_numbers_that_are_none_become_missing(tmp_path):
    result = run_result()
    result["accuracy"]["pruned"]["test"] = float("nan")
    text = json.dumps(result)
    assert "NaN" in text
    (tmp_path / "result.json").write_text(text)
    assert read(tmp_path).facts["accuracy"]["pruned"]["test"] is None


def test_missing_metrics_are_said(tmp_path):
    assert "no training curves" in read(write_run(tmp_path, run_result())).remarks[0]
