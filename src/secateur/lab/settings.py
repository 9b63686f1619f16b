"""The settings of a run as one value, checked when made, written to and read from ``config.toml``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur.files import write_text
from secateur.lab.data import LabError
from secateur.vocabulary import near_matches

__all__ = ["Settings", "read_settings", "write_settings"]

OPTIMIZERS = ("adam", "adamw", "sgd")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything needed to run an experiment again.

    Raises:
        LabError: a value is out of range; the text names the setting and the range.

    Example:
        >>> Settings(sparsity=0.8).sparsity
        0.8
        >>> Settings(sparsity=1.5)
        Traceback (most recent call last):
        secateur.lab.data.lookup.LabError: sparsity is a share between 0 and 1 ...
    """

    data: str = _setting("digits", "data set: digits, mnist, fashion-mnist, cifar-10 or package.module:callable")
    model: str = _setting("lenet-300-100", "model name, or package.module:callable")
    method: str = _setting("gradual", "pruning method; `secateur methods` lists them")
    sparsity: float = _setting(0.9, "share of the target weights to remove, between 0 and 1")
    seed: int = _setting(0, "seed of the split, the initial weights and the batch order")
    epochs: int = _setting(30, "epochs of dense training before pruning")
    prune_epochs: int = _setting(60, "epochs of pruning and retraining; the dense reference trains on as long")
    batch_size: int = _setting(32, "images a training batch")
    optimizer: str = _setting("adam", "adam, adamw or sgd (momentum 0.9)")
    learning_rate: float = _setting(0.002, "peak learning rate; warm-up, then half a cosine, in each phase")
    weight_decay: float = _setting(0.0, "weight decay of the optimizer")
    initial_sparsity: float = _setting(0.0, "sparsity at which gradual pruning begins")
    rounds: int = _setting(4, "prune-retrain rounds of iterative pruning")
    validation: float = _setting(0.1, "share of the training images kept for validation")
    threads: int = _setting(1, "CPU threads for torch")

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            _check_type(each.name, getattr(self, each.name), type(each.default))
        checks = {
            "sparsity": (0 <= self.sparsity <= 1, "a share between 0 and 1 (0.9 removes nine weights in ten)"),
            "initial_sparsity": (0 <= self.initial_sparsity <= 1, "a share between 0 and 1"),
            "validation": (0 < self.validation < 1, "a share above 0 and below 1"),
            "seed": (0 <= self.seed < 2**31, "a number from 0 to 2147483647"),
            "epochs": (self.epochs >= 0, "a number of at least 0"),
            "prune_epochs": (self.prune_epochs >= 0, "a number of at least 0"),
            "batch_size": (self.batch_size >= 1, "a number of at least 1"),
            "rounds": (self.rounds >= 1, "a number of at least 1"),
            "threads": (1 <= self.threads <= 1024, "a number from 1 to 1024"),
            "learning_rate": (0 < self.learning_rate <= 100, "above 0 and at most 100"),
            "weight_decay": (0 <= self.weight_decay <= 100, "between 0 and 100"),
        }
        for name, (right, range_) in checks.items():
            if not right:
                raise LabError(f"{name} is {range_}, got {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            raise LabError(f"unknown optimizer {self.optimizer!r}; {near_matches(self.optimizer, OPTIMIZERS)}")
        for each in dataclasses.fields(self):
            if isinstance(each.default, float):  # a whole number given for a share is written like any other share
                object.__setattr__(self, each.name, float(getattr(self, each.name)))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name."""
        return dataclasses.asdict(self)

    def differences(self, other: Settings) -> list[str]:
        """Return one line for each setting in which the two differ."""
        mine, theirs = self.as_dict(), other.as_dict()
        return [f"{name}: {mine[name]} here, {theirs[name]} there" for name in mine if mine[name] != theirs[name]]

    def command(self, verb: str = "run") -> str:
        """Return the shell command that makes these settings (those that are not the defaults)."""
        flags = [
            f"--{each.name.replace('_', '-')} {shlex.quote(str(getattr(self, each.name)))}"
            for each in dataclasses.fields(self)
            if each.name in ("data", "model", "method", "sparsity") or getattr(self, each.name) != each.default
        ]
        return f"secateur {verb} " + " ".join(flags)


def _check_type(name: str, value: object, kind: type) -> None:
    right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not right or isinstance(value, bool):
        wanted = {float: "a number", int: "a whole number", str: "text"}[kind]
        raise LabError(f"{name} is {wanted}, got {value!r}")


def write_settings(path: Path, settings: Settings, note: str) -> None:
    """Write settings as TOML with one line of comment, atomically."""
    import tomli_w

    write_text(path, f"# {note}\n" + tomli_w.dumps(settings.as_dict()))


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file.

    Raises:
        LabError: there is no such file, it is not TOML, or a setting does not exist or has a value of another kind.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LabError(f"there is no config file {path}") from error
    except (OSError, ValueError) as error:
        raise LabError(f"the config file {path} cannot be read: {error}") from error
    known = {each.name: type(each.default) for each in dataclasses.fields(Settings)}
    for name, value in values.items():
        if name not in known:
            raise LabError(f"{path} has a setting {name!r} that does not exist; {near_matches(name, known)}")
        _check_type(f"{path}: {name}", value, known[name])
    return values
