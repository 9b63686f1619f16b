"""What the report says of the engine: a gain with its numbers, no gain where there is none, why it is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import run_metrics, run_result, speed, write_run

from secateur.lab.report import build
from secateur.lab.report.speed import judge_speed, speed_charts, speed_tables
from secateur.lab.report.verdict import run_verdict


def with_speed(**changes: Any) -> dict[str, Any]:
    return {**run_result(), "speed": speed(**changes)}


def test_a_gain_is_said_with_its_numbers() -> None:
    ((section, sentence),) = judge_speed(with_speed())
    assert section == "gained"
    assert "9 times faster than in torch, dense: 4 µs against 36 µs" in sentence
    assert "batch of 1, 1 thread; 8.5 to 9.5 times over the turns" in sentence
    verdict = run_verdict(with_speed())
    assert sentence in verdict.gained
    assert verdict.headline.endswith("; inference in the sparse engine is 9 times faster.")
    assert "No gain" not in speed_charts(with_speed())[0][2]


@pytest.mark.parametrize("times", [(0.95, 1.02, 1.1), (0.4, 0.5, 0.6)])
def test_no_gain_is_said_in_the_verdict_the_chart_and_the_table(times: tuple[float, float, float]) -> None:
    result = with_speed(times=times)
    ((section, sentence),) = judge_speed(result)
    assert section == "not_gained" and "brings no gain over torch" in sentence
    assert "sparse engine" not in run_verdict(result).headline
    assert "No gain from the engine." in speed_charts(result)[0][2]
    assert speed_tables(result)[0]["rows"][-1][3].endswith("(no gain)")


def test_why_there_is_no_engine_is_said() -> None:
    result = with_speed(absent="the engine lacks aten.sort at fc")
    ((section, sentence),) = judge_speed(result)
    assert section == "not_gained" and sentence.endswith("sparse engine: the engine lacks aten.sort at fc.")
    (table,) = speed_tables(result)
    assert table["rows"][-1] == ["engine", "–", "–", "–", "–"] and "aten.sort" in table["note"]
    assert "inference is not faster" in run_verdict(result).headline


def test_an_engine_whose_outputs_are_wrong_is_no_gain() -> None:
    result = with_speed()
    result["speed"]["rows"][-1].update(ms=None, ratio=None, gain=False, error=0.2, note="its outputs are wrong")
    ((section, sentence),) = judge_speed(result)
    assert section == "not_gained" and "its outputs are wrong" in sentence


def test_a_run_that_was_to_have_none_says_nothing_of_it() -> None:
    assert list(judge_speed(run_result())) == [] == speed_charts(run_result()) == speed_tables(run_result())


def test_the_chart_holds_the_times_and_the_table_the_same(tmp_path: Path) -> None:
    result = with_speed(shrunk=True)
    ((title, spec, _),) = speed_charts(result)
    assert title == "Inference time"
    values = spec["data"]["values"] if "data" in spec else spec["layer"][0]["data"]["values"]
    assert [row["what"] for row in values] == ["dense, torch", "shrunk, torch", "engine"]
    assert [row["ms"] for row in values] == [row["ms"][1] for row in result["speed"]["rows"]]
    page = build(write_run(tmp_path, json.loads(json.dumps(result)), run_metrics())).read_text(encoding="utf-8")
    for cell in ("36 µs", "30 µs", "4 µs", "takes 19.8 kB on disk", "was compiled from the shrunk net"):
        assert cell in page
