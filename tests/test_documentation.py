"""What the documents show is run: README and guide code, examples, links and named files."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MIGRATING = sorted((ROOT / "docs" / "migrating").glob("from-*.md"))
PAGES = [ROOT / "README.md", ROOT / "docs" / "guide.md", *sorted((ROOT / "docs" / "methods").glob("*.md")), *MIGRATING]


def blocks(page: Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")], ids=str)
def test_the_python_of_a_page_runs_in_one_piece(page: Path, tmp_path: Path) -> None:
    code = blocks(page)
    if "import keras" in code and find_spec("keras") is None:
        pytest.skip("the page needs Keras")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert page not in MIGRATING or "Warning" not in done.stderr, done.stderr


FRAMEWORKS = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", FRAMEWORKS, flags=re.DOTALL))
def test_each_example_of_the_frameworks_runs(code: str, tmp_path: Path) -> None:
    for name in ("keras", "lightning", "transformers", "accelerate", "onnx"):
        used = rf"^(import|from) {name}|integrations import {name}"
        if re.search(used, code, flags=re.MULTILINE) and find_spec(name) is None:
            pytest.skip(f"the example needs {name}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_every_page_on_migrating_is_listed_and_shows_a_table_differences_and_a_checked_example() -> None:
    listed = (ROOT / "docs" / "migrating" / "README.md").read_text(encoding="utf-8")
    assert len(MIGRATING) == 6
    for page in MIGRATING:
        text = page.read_text(encoding="utf-8")
        assert f"({page.name})" in listed
        assert "| theirs" in text and "## What differs" in text
        assert "sc.shrink" in text or "sk.shrink" in text, f"{page.name} does not say how models become smaller"
        assert "assert " in blocks(page), page.name


def test_pruning_takes_fewer_than_ten_lines_of_a_users_script() -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert block is not None
    ours = [line for line in block[1].splitlines() if "sc." in line or "secateur" in line or "pruner" in line]
    assert 0 < len(ours) < 10


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=str)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_examples_run_and_the_pruned_network_still_works() -> None:
    assert runpy.run_path(str(ROOT / "examples" / "own_loop.py"))["main"]() >= 0.94
    reached = runpy.run_path(str(ROOT / "examples" / "ways_to_choose.py"))["main"]()
    assert reached["2:4, two of every four inputs stay"] == 0.5


def test_every_method_has_a_card_and_every_card_a_method() -> None:
    from secateur.lab.methods import TABLE

    cards = ROOT / "docs" / "methods"
    assert {page.stem for page in cards.glob("*.md")} == set(TABLE)
    parts = ("Source", "Made of", "Settings", "Cost", "When it fails", "Try it")
    for card in [*cards.glob("*.md"), *cards.glob("options/*.md")]:
        text = card.read_text(encoding="utf-8")
        assert [part for part in parts if f"- **{part}**" not in text] == [], card.name


def test_options_that_go_with_any_method_have_cards_under_their_names() -> None:
    from secateur.lab.settings import Settings

    for card in (ROOT / "docs" / "methods" / "options").glob("*.md"):
        name = card.stem.replace("-", "_")
        assert name in Settings.__dataclass_fields__ and f"# --{card.stem}\n" in card.read_text(encoding="utf-8")


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^(?:\$ )?secateur (\w+)", text, flags=re.MULTILINE))
    environment = {**os.environ, "COLUMNS": "100"}
    for verb in verbs:
        command = [sys.executable, "-m", "secateur.lab", verb, "--help"]
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0, verb
