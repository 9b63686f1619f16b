"""Flags of the command line: one for every setting, grouped by what they are about, and kinds of values."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from secateur.lab.data.lookup import LabError
from secateur.lab.settings import Settings, read_settings, words

if TYPE_CHECKING:
    from secateur.lab.networks import Made

__all__ = [
    "COUNTS",
    "SHAPE",
    "SHARE",
    "Commands",
    "Grouped",
    "common_flags",
    "made_by",
    "named",
    "network_flags",
    "settings_flags",
    "settings_of",
]

Function = TypeVar("Function", bound=Callable[..., Any])


class Share(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases
    """A sparsity: a fraction, never percent."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share, or fail with the way out."""
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            number = str(value).removesuffix("%")
            hint = f"; write {float(number) / 100:g}" if number != str(value) and number.isdecimal() else ""
            self.fail(f"sparsity is a share between 0 and 1 (0.9 removes nine weights in ten), got {value!r}{hint}")
        return share


SHARE = Share()


class Shape(click.ParamType):  # type: ignore[type-arg]
    """The shape of an image: channels, height and width by commas."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Return the three numbers, or fail with the way out."""
        parts = value if isinstance(value, tuple) else str(value).split(",")
        try:
            channels, height, width = (int(part) for part in parts)
        except ValueError:
            channels = height = width = 0
        if min(channels, height, width) < 1:
            self.fail(f"a shape is channels, height and width by commas, such as 3,32,32; got {value!r}")
        return channels, height, width


SHAPE = Shape()


class Counts(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers of at least one, by commas."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, each once, or fail with the way out."""
        try:
            counts = tuple(dict.fromkeys(int(part) for part in words(str(value)))) if isinstance(value, str) else value
        except ValueError:
            counts = ()
        if not counts or min(counts) < 1:
            self.fail(f"these are whole numbers of at least 1 by commas, such as 1,16; got {value!r}")
        return tuple(counts)


COUNTS = Counts()


class Commands(click.Group):
    """A group that suggests the nearest command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find a command; one that is not there is answered with the nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def settings_flags(*leave_out: str) -> Callable[[Function], Function]:
    """Add a flag for every setting; one not given is None, so that a config file can fill it."""

    def add(function: Function) -> Function:
        for each in reversed(dataclasses.fields(Settings)):
            if each.name not in leave_out:
                function = _flag(each)(function)
        return function

    return add


def _flag(setting: dataclasses.Field[Any]) -> Callable[[Function], Function]:
    name, default = setting.name.replace("_", "-"), setting.default
    if isinstance(default, bool):
        shown = "on" if default else "off"
        text = f"{setting.metadata['help']}  [default: {shown}]"
        return click.option(f"--{name}/--no-{name}", default=None, help=text)
    text = f"{setting.metadata['help']}  [default: {default if default != '' else 'none'}]"
    kind = SHARE if setting.name in ("sparsity", "initial_sparsity") else type(default)
    return click.option(f"--{name}", type=kind, default=None, help=text)


class Grouped(click.Command):
    """A command whose many flags are listed by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the flags under the groups of the settings."""
        groups = {each.name: each.metadata["group"] for each in dataclasses.fields(Settings)}
        rows: dict[str, list[tuple[str, str]]] = {name: [] for name in [*groups.values(), ""]}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                rows[groups.get(parameter.name or "", "")].append(record)
        for name, records in rows.items():
            if not records:
                continue
            with formatter.section(name.capitalize() or "Options"):
                formatter.write_dl(records)


def common_flags(function: Function) -> Function:
    """Add the flags of every command that runs something."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--config", type=path, help="Settings from a TOML file; flags given here win."),
        click.option("--out", type=path, help="Folder for everything that is written."),
        click.option("--data-dir", type=path, help="Folder with data sets  [default: $SECATEUR_DATA, else download]"),
    ):
        function = option(function)
    return function


def network_flags(function: Function) -> Function:
    """Add the flags that say how the network of a file is made."""
    for option in (
        click.option("--classes", type=click.IntRange(1), default=10, show_default=True, help="Its outputs."),
        click.option(
            "--shape", type=SHAPE, default="1,28,28", show_default=True, help="Its images: channels, height, width."
        ),
        click.option("--model", help="What network a file holds, as for run; a run's folder knows."),
    ):
        function = option(function)
    return function


def made_by(path: Path, model: str | None, shape: tuple[int, int, int], classes: int) -> Made:
    """Return how the network at a path is made, by the flags of the command under way.

    Raises:
        LabError: it is a run, which knows that itself, and shape or classes are given; whoever takes what is returned
            sees a model.
    """
    if path.is_dir() and named("shape", "classes"):
        given = " and ".join(named("model", "shape", "classes"))
        raise LabError(f"the run in {path} knows its network: leave {given} out")
    from secateur.lab.networks import Made

    return Made(model or "", shape, classes)


def named(*flags: str) -> list[str]:
    """Return those of some flags that the user has given to the command under way."""
    source = click.get_current_context().get_parameter_source
    return [f"--{flag}" for flag in flags if source(flag) is ParameterSource.COMMANDLINE]


def settings_of(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Return the settings of a config file, if one is given, under those given as flags."""
    values = read_settings(config) if config else {}
    return Settings(**(values | {name: value for name, value in flags.items() if value is not None}))
