"""From what a user types to an object: loose spelling of known names, and `package.module:callable`."""

from __future__ import annotations

import importlib
import inspect
import operator
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from secateur.vocabulary import SecateurError, near_matches

__all__ = ["LabError", "called", "positionals", "resolve", "user_callable"]


class LabError(SecateurError, ValueError):
    """A name, an option or a shape that the lab cannot work with."""


def resolve(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` spells, ignoring case, hyphens and underscores, or None.

    Example:
        >>> resolve("Fashion_MNIST", ["mnist", "fashion-mnist"])
        'fashion-mnist'
    """
    bare = {_bare(word): word for word in known}
    return bare.get(_bare(name))


def _bare(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


def user_callable(name: str) -> Callable[..., object]:
    """Import what ``package.module:callable`` names.

    The current directory is put first on the import path and stays there, as with ``python -m``: the
    callable may import its neighbours when it is called.

    Raises:
        LabError: the name has another form, or leads to no module, no attribute or nothing callable.

    Example:
        >>> user_callable("collections:OrderedDict")()
        OrderedDict()
    """
    module_name, _, path = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise LabError(f"{name!r} is not of the form package.module:callable, such as mycode.parts:make")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _import(name, module_name)
    try:
        found = operator.attrgetter(path)(module)
    except AttributeError as error:
        public = [word for word in vars(module) if not word.startswith("_")]
        raise LabError(f"{name}: {module_name} has no {path!r}; {near_matches(path, public)}") from error
    if not callable(found):
        raise LabError(f"{name}: {path} is a {type(found).__name__}, not a function or class to call")
    return found  # type: ignore[no-any-return]


def _import(name: str, module_name: str) -> object:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or ""
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{missing}."):
            raise LabError(
                f"{name}: no module {missing!r} in {Path.cwd()} or among the installed packages; "
                "run from the folder that holds it, or install it"
            ) from error
        raise LabError(f"{name}: importing {module_name} failed: {error}") from error
    except Exception as error:  # whatever the user's code raises
        raise LabError(f"{name}: importing {module_name} failed: {_told(error)}") from error


def called(name: str, function: Callable[..., object], *arguments: object) -> object:
    """Call a user's function.

    Raises:
        LabError: it raised something; the text names the place.
    """
    try:
        return function(*arguments)
    except SecateurError:
        raise
    except Exception as error:
        raise LabError(f"{name} failed: {_told(error)}") from error


def _told(error: Exception) -> str:
    """Return an error of the user's code with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"


def positionals(function: Callable[..., object]) -> tuple[list[str], list[str]]:
    """Return the names of the positional parameters, and of those among them without a default.

    Both are empty for the few builtins that do not tell.

    Example:
        >>> positionals(lambda shape, classes=10, *, width=64: None)
        (['shape', 'classes'], ['shape'])
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [parameter for parameter in parameters if parameter.kind in kinds]
    required = [parameter.name for parameter in found if parameter.default is inspect.Parameter.empty]
    return [parameter.name for parameter in found], required
