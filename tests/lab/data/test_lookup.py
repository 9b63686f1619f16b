import pytest

from secateur.lab.data.lookup import LabError, positionals, resolve, user_callable

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize("spelled", ["cifar-10", "CIFAR10", "Cifar_10", " cifar-10 "])
def test_spelling_is_loose(spelled):
    assert resolve(spelled, ["mnist", "cifar-10"]) == "cifar-10"


def test_other_names_are_unknown():
    assert resolve("cifar-100", ["cifar-10"]) is None


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory, with a package of the user's in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_code").mkdir()
    (tmp_path / "users_code" / "__init__.py").write_text("")
    (tmp_path / "users_code" / "parts.py").write_text(
        "NUMBER = 3\ndef make():\n    import users_neighbour\n    return users_neighbour.VALUE\n"
        "class Box:\n    make = staticmethod(make)\n"
    )
    (tmp_path / "users_neighbour.py").write_text("VALUE = 'found'\n")
    (tmp_path / "users_broken.py").write_text("import users_missing_dependency\n")
    (tmp_path / "users_outdated.py").write_text("from users_code.parts import gone\n")
    return tmp_path


@pytest.mark.parametrize("name", ["users_code.parts:make", "users_code.parts:Box.make"])
def test_code_in_the_current_directory_is_found_with_its_neighbours(here, name):
    assert user_callable(name)() == "found"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("users_nothing:make", "no module 'users_nothing' in"),
        ("users_code.nothing:make", "no module 'users_code.nothing' in"),
        ("users_code.parts:mak", "no 'mak'; did you mean 'make'"),
        ("users_code.parts:NUMBER", "NUMBER is a int, not a function"),
        ("users_broken:make", "importing users_broken failed: .*users_missing_dependency"),
        ("users_outdated:make", "importing users_outdated failed: .*gone"),
        ("users_code.parts:", "not of the form"),
        (":make", "not of the form"),
        ("folder/users_code.py:make", "not of the form"),
    ],
)
def test_names_that_lead_nowhere_say_where_they_stop(here, name, said):
    with pytest.raises(LabError, match=said):
        user_callable(name)


def test_parameters_of_functions_and_classes():
    class Model:
        def __init__(self, shape, classes, width=4, *rest, depth): ...

    assert positionals(Model) == (["shape", "classes", "width"], ["shape", "classes"])
    assert positionals(lambda: None) == ([], [])
    assert positionals(dict) == ([], [])
