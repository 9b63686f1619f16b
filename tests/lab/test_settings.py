"""Settings: one value that checks itself and survives files and the command line."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.lab.cli import main
from secateur.lab.data import LabError
from secateur.lab.settings import Settings, read_settings, write_settings

FIELDS = {each.name: each for each in dataclasses.fields(Settings)}


def values(name: str) -> st.SearchStrategy[Any]:
    """Legal values of a setting."""
    each = FIELDS[name]
    low, high = each.metadata.get("low"), each.metadata.get("high", 0)
    if isinstance(each.default, bool):
        return st.booleans()
    if isinstance(each.default, str):
        choices = each.metadata["choices"]
        return st.sampled_from(choices) if choices else st.sampled_from(["a", "it's", "a b", "x=0.5,y=1", "*.w[0]"])
    if isinstance(each.default, int):
        return st.integers(int(low), int(min(high, 10**6)))
    return st.floats(low, min(high, 1e6), exclude_min=each.metadata["above"] or name == "validation", exclude_max=True)


def together(found: dict[str, Any]) -> Settings:
    """Make settings of values that are legal each by itself: some leave a search or a teacher nothing to do."""
    if found["quality"] or found["layers"]:
        found = found | {"max_drop": 0.0}
    return Settings(**(found | {"distill": 0.0} if not found["epochs"] else found))


SETTINGS = st.fixed_dictionaries({name: values(name) for name in FIELDS}).map(together)


@given(SETTINGS)
def test_the_command_makes_the_same_settings_again(settings: Settings) -> None:
    words = shlex.split(settings.command())
    assert words[:2] == ["secateur", "run"]
    context = main.commands["run"].make_context("run", words[2:])
    given_flags = {name: value for name, value in context.params.items() if name in FIELDS and value is not None}
    assert Settings(**given_flags) == settings


@given(SETTINGS)
def test_a_file_holds_the_same_settings(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    path = tmp_path_factory.mktemp("toml") / "c.toml"
    write_settings(path, settings, "a note")
    assert Settings(**read_settings(path)) == settings


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_described_and_belongs_to_a_group(name: str) -> None:
    metadata = FIELDS[name].metadata
    assert metadata["group"] in ("what", "training", "pruning", "retraining", "packing") and len(metadata["help"]) > 15


@pytest.mark.parametrize("name", [n for n, each in FIELDS.items() if "low" in each.metadata])
def test_numbers_outside_their_range_are_refused_by_name(name: str) -> None:
    metadata = FIELDS[name].metadata
    below = metadata["low"] if metadata["above"] else metadata["low"] - 1
    wrong = [below] + ([metadata["high"] + 1] if metadata["high"] < 1e9 else [])
    for value in wrong:
        with pytest.raises(LabError, match=name):
            Settings(**{name: type(FIELDS[name].default)(value)})


@pytest.mark.parametrize("name", [n for n, each in FIELDS.items() if each.metadata.get("choices")])
def test_words_that_do_not_exist_get_near_matches(name: str) -> None:
    right = FIELDS[name].metadata["choices"][0]
    with pytest.raises(LabError, match=f"unknown {name}.*{right}"):
        Settings(**{name: right + "x"})


def test_values_of_another_kind_are_refused(tmp_path: Path) -> None:
    for name, wrong in (("epochs", 1.5), ("sparsity", "90%"), ("biases", 1), ("seed", True), ("model", 5)):
        with pytest.raises(LabError, match=name):
            Settings(**{name: wrong})
    (tmp_path / "c.toml").write_text("biases = 'yes'\n")
    with pytest.raises(LabError, match="true or false"):
        read_settings(tmp_path / "c.toml")
