"""The package's names come on first use, are those that an eager import would give, and stay what they are."""

from __future__ import annotations

import ast
import copy
import pickle
import pkgutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import secateur as sc

SOURCE = Path(sc.__file__)
# Public functions that have the name of a folder.
SHADOWING = sorted({each.name for each in pkgutil.iter_modules(sc.__path__)} & set(sc.__all__))


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def eager() -> dict[str, object]:
    """Return what the imports give that type checkers see."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    names: dict[str, object] = {}
    exec(compile(ast.Module(guarded.body, []), str(SOURCE), "exec"), names)
    names.pop("__builtins__")
    return names


def test_every_public_name_is_what_an_eager_import_gives() -> None:
    names = eager()
    assert sorted(sc.__all__) == sorted(names) == sorted(sc._HOMES)  # type: ignore[attr-defined]
    for name, value in names.items():
        assert getattr(sc, name) is value, name


def test_star_gives_all_of_them() -> None:
    names: dict[str, object] = {}
    exec("from secateur import *", names)
    assert {*sc.__all__} == names.keys() - {"__builtins__"}


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, secateur; print(secateur.__version__, [n for n in ('torch', 'numpy') if n in sys.modules])"
    assert run(code).split() == [sc.__version__, "[]"]


def test_all_names_are_listed_before_they_are_used() -> None:
    code = "import sys, secateur; print(*dir(secateur)); assert 'torch' not in sys.modules"
    assert {*sc.__all__, "__version__"} <= set(run(code).split())


def test_functions_stay_functions_whatever_is_imported_and_in_whatever_order() -> None:
    assert SHADOWING == ["measure", "pack", "shrink"]
    orders = [*permutations(f"secateur.{name}" for name in SHADOWING), ("secateur.measure.budget",)]
    orders += [("secateur.pack.arrays",), ("secateur.pack.container", "secateur.shrink.cutting"), ()]
    code = f"""
import sys, types
from importlib import import_module
for order in {orders!r}:
    for name in [name for name in sys.modules if name.partition(".")[0] == "secateur"]:
        del sys.modules[name]
    import secateur
    for name in order:
        import_module(name)
    for name in {SHADOWING!r} * 2:
        assert type(getattr(secateur, name)) is types.FunctionType, (order, name)
        import_module("secateur." + name)
    from secateur import measure, pack, shrink
    import secateur.pack.arrays, secateur.measure.budget
    assert (secateur.measure, secateur.pack, secateur.shrink) == (measure, pack, shrink)
    assert measure is sys.modules["secateur.measure.measuring"].measure
print("done")
"""
    assert run(code) == "done\n"


def test_any_name_can_be_the_first_one_asked_for() -> None:
    # As the order of imports is the user's, none may lean on another that an eager import would have done before.
    code = """
import sys, secateur
for first in {module: name for name, module in secateur._HOMES.items()}.values():
    for name in [name for name in sys.modules if name.partition(".")[0] == "secateur"]:
        del sys.modules[name]
    import secateur
    assert getattr(secateur, first) is not None, first
print("done")
"""
    assert run(code) == "done\n"


def test_submodules_are_found_as_modules(tmp_path: Path) -> None:
    assert isinstance(sc.vocabulary, ModuleType) and isinstance(sc.criteria, ModuleType)
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "__init__.py").write_text("two = 2")
    with_folder = f"import secateur as sc; sc.__path__.append({str(tmp_path)!r}); "
    assert run(with_folder + "print(sc.added.two)") == "2\n"
    assert run(with_folder + "import secateur.added; print(secateur.added.two)") == "2\n"
    assert run(with_folder + "from secateur import added; print(added.two)") == "2\n"


def test_what_is_not_there_is_said_as_of_any_module() -> None:
    assert not hasattr(sc, "prnue") and not hasattr(sc, "_private")
    with pytest.raises(AttributeError, match="module 'secateur' has no attribute 'prnue'"):
        sc.prnue  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'prnue' from 'secateur'"):
        exec("from secateur import prnue")


def test_what_is_missing_inside_of_a_submodule_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import of_nobody")
    monkeypatch.setattr(sc, "__path__", [*sc.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="of_nobody"):
        sc.broken  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ["prune", *SHADOWING])
def test_a_name_can_be_replaced_for_a_test(name: str) -> None:
    before, other = getattr(sc, name), object()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sc, name, other)
        __import__(f"secateur.{name}" if name in SHADOWING else "secateur")
        assert getattr(sc, name) is other
    assert getattr(sc, name) is before and isinstance(before, FunctionType)


def test_functions_and_classes_are_pickled_and_copied_by_their_name() -> None:
    for name in sc.__all__:
        value = getattr(sc, name)
        assert isinstance(value, ModuleType) or pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy(sc.Window(2, 4)) == sc.Window(2, 4) == pickle.loads(pickle.dumps(sc.Window(2, 4)))


def test_the_package_itself_can_be_sent_to_another_process() -> None:
    # As part of a function of a script, which goes by value and takes along the modules it names.
    cloudpickle = pytest.importorskip("cloudpickle")
    scope: dict[str, object] = {"__name__": "__main__"}
    exec("import secateur as sc\ndef sparsity(keep): return sc.Window(keep, 4)", scope)
    sent = cloudpickle.dumps(scope["sparsity"])
    assert pickle.loads(sent)(2) == sc.Window(2, 4)
    assert pickle.loads(pickle.dumps(sc)) is sc
