"""The house keeps its storeys: imports point only upwards, and the library needs only its three dependencies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "secateur"
STOREYS = [
    "vocabulary",
    "files",
    "modules",
    "silence",
    "bits",
    "native",
    "masks",
    "choose",
    "train",
    "graph",
    "shrink",
    "pack",
    "engine",
    "measure",
    "integrations",
    "lab",
]
PUBLIC_TO_THE_LAB = {
    "secateur",
    "secateur.vocabulary",
    "secateur.files",
    "secateur.engine",
}  # and each adapter in integrations/
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def storey(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively: write secateur.{node.module} out"
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] == "secateur"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_only_to_storeys_above(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module in imports(path):
        if own == "lab":
            assert module in PUBLIC_TO_THE_LAB or storey(module) in ("lab", "integrations"), module
        else:
            assert module != "secateur", f"{path.name} imports the top-level package"
            assert STOREYS.index(storey(module)) <= STOREYS.index(own), f"{path.name} imports {module}"


def test_importing_the_library_brings_in_no_extra() -> None:
    extras = ["sklearn", "rich", "click", "altair", "matplotlib", "tensorboard", "joblib", "pooch", "scipy", "PIL"]
    extras += ["onnx", "onnxruntime", "onnxscript", "openvino", "timm"]
    extras += ["keras", "lightning", "pytorch_lightning", "transformers", "accelerate", "jax", "tensorflow"]
    code = f"import sys; from secateur import *; print([name for name in {extras!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_described() -> None:
    import secateur

    for name in secateur.__all__:
        assert (getattr(secateur, name).__doc__ or "").strip(), name


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.is_relative_to(SOURCE / "lab")],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_the_lab_uses_public_names_only(path: Path) -> None:
    import secateur

    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = {*secateur.__all__, "__version__"}
    aliases = {"secateur"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "secateur":
            assert {alias.name for alias in node.names} <= public | {"lab"}
        elif isinstance(node, ast.Import):
            aliases |= {alias.asname for alias in node.names if alias.name == "secateur" and alias.asname}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    }
    assert used <= public | {"lab"}, f"not public: {sorted(used - public)}"


def test_every_folder_is_a_storey_of_the_design() -> None:
    own = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert own - {"__main__"} <= set(STOREYS)
