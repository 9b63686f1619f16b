"""The house keeps its storeys: imports point only upwards, and the library needs only its three dependencies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "secateur"
STOREYS = ["vocabulary", "files", "masks", "choose", "train", "graph", "shrink", "pack", "engine", "native", "measure"]
STOREYS += ["integrations", "lab"]
PUBLIC_TO_THE_LAB = {"secateur", "secateur.vocabulary", "secateur.files"}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def storey(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] == "secateur"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_only_to_storeys_above(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module in imports(path):
        if own == "lab":
            assert module in PUBLIC_TO_THE_LAB or module.startswith("secateur.lab"), module
        else:
            assert module != "secateur", f"{path.name} imports the top-level package"
            assert STOREYS.index(storey(module)) <= STOREYS.index(own), f"{path.name} imports {module}"


def test_importing_the_library_brings_in_no_extra() -> None:
    extras = ["sklearn", "rich", "click", "altair", "matplotlib", "tensorboard", "joblib", "pooch", "scipy", "PIL"]
    code = f"import sys, secateur; print([name for name in {extras!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_described() -> None:
    import secateur

    for name in secateur.__all__:
        assert (getattr(secateur, name).__doc__ or "").strip(), name
