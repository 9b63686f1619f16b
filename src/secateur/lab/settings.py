"""The settings of a run as one value, checked when made, written to and read from ``config.toml``."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur.files import write_text
from secateur.lab.data import LabError
from secateur.vocabulary import near_matches

__all__ = ["Settings", "read_settings", "write_settings"]

OPTIMIZERS = ("adam", "adamw", "sgd")
SCOPES = ("global", "layerwise", "erk", "lamp")
SCHEDULES = ("polynomial", "linear", "cosine", "exponential", "constant")
NEURON_SCORES = ("incoming", "outgoing", "product", "activity", "taylor")
CONTROLS = ("none", "scratch", "shuffle")
INITIALS = ("kept", "drawn")
LAYERS = ("none", "convolutions", "dense", "turns")
PRECISIONS = ("float32", "bfloat16")


def _text(default: str, group: str, help_: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"group": group, "help": help_, "choices": choices})


def _number(default: float, group: str, help_: str, low: float = 0, high: float = math.inf, above: bool = False) -> Any:
    """Return a field for a number in [low, high], or in (low, high] with ``above``."""
    return field(default=default, metadata={"group": group, "help": help_, "low": low, "high": high, "above": above})


def _share(default: float, group: str, help_: str) -> Any:
    return _number(default, group, help_, 0, 1)


def _switch(group: str, help_: str) -> Any:
    return field(default=False, metadata={"group": group, "help": help_})


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

    data: str = _text("digits", "what", "data set: digits, mnist, fashion-mnist, cifar-10 or package.module:callable")
    model: str = _text("lenet-300-100", "what", "model name, timm:NAME, or package.module:callable")
    method: str = _text("gradual", "what", "pruning method; `secateur methods` lists them")
    sparsity: float = _share(0.9, "what", "share of the target weights to remove, between 0 and 1")
    seed: int = _number(0, "what", "seed of the split, the initial weights and the batch order", 0, 2**31 - 1)
    validation: float = _share(0.1, "what", "share of the training images kept for validation")
    threads: int = _number(1, "what", "CPU threads for torch", 1, 1024)

    device: str = _text("cpu", "what", "where to train: cpu, cuda, mps; measuring is always on the CPU")

    epochs: int = _number(30, "training", "epochs of dense training before pruning")
    prune_epochs: int = _number(60, "training", "epochs of pruning and retraining; the dense reference goes on as long")
    batch_size: int = _number(32, "training", "images a training batch", 1)
    optimizer: str = _text("adam", "training", "adam, adamw or sgd (momentum 0.9)", OPTIMIZERS)
    learning_rate: float = _number(0.002, "training", "peak rate; warm-up, then half a cosine", 0, 100, above=True)
    weight_decay: float = _number(0.0, "training", "weight decay of the optimizer", 0, 100)
    l1: float = _number(0.0, "training", "L1 penalty on the targets in dense training", 0, 100)
    l2: float = _number(0.0, "training", "L2 penalty on the targets in dense training", 0, 100)
    smoothing: float = _share(
        0.0, "training", "label smoothing: share of every label spread over all classes, but where --distill teaches"
    )
    dropout: float = _share(0.0, "training", "dropout ahead of every dense layer but the first")
    augment: bool = field(
        default=True, metadata={"group": "training", "help": "crop and flip where the data set has it"}
    )
    precision: str = _text("float32", "training", "float32 or bfloat16 (autocast) arithmetic", PRECISIONS)
    test_precision: str = _text("float32", "training", "the same for validation and test", PRECISIONS)

    include: str = _text("", "pruning", "targets, by commas: names or globs; all that can be pruned if empty")
    ignore: str = _text("", "pruning", "names or globs, by commas, of what is never pruned")
    biases: bool = _switch("pruning", "biases are targets too")
    scope: str = _text("global", "pruning", "what is ranked together: global, layerwise, erk or lamp", SCOPES)
    layers: str = _text("", "pruning", "sparsities of their own, such as fc1=0.98,fc3=0.5 (with --scope layerwise)")
    schedule: str = _text("polynomial", "pruning", "curve of gradual pruning: " + ", ".join(SCHEDULES), SCHEDULES)
    initial_sparsity: float = _share(0.0, "pruning", "sparsity at which gradual pruning begins")
    rise: float = _share(0.8, "pruning", "share of the pruning epochs in which gradual sparsity rises")
    regrow: bool = _switch("pruning", "gradual: masked weights may return when masks are redrawn")
    rounds: int = _number(4, "pruning", "prune-retrain rounds of the iterative methods", 1)
    quality: float = _number(
        0.0, "pruning", "three-step: prune below this times the standard deviation of a layer's weights left", 0, 100
    )
    neuron_score: str = _text("product", "pruning", "neurons: " + ", ".join(NEURON_SCORES), NEURON_SCORES)
    max_drop: float = _number(
        0.0,
        "pruning",
        "find the highest sparsity whose validation accuracy is at most so many "
        "points (of 100) below dense, to within 1/128; 0 prunes to --sparsity",
        0,
        100,
    )
    control: str = _text(
        "none",
        "pruning",
        "afterwards train the same mask from scratch, or a shuffled one: none, scratch, shuffle",
        CONTROLS,
    )

    retrain_rate: float = _number(1.0, "retraining", "factor on the learning rate in retraining", 0, 100, above=True)
    retrain_l1: float = _number(0.0, "retraining", "L1 penalty on the targets in retraining", 0, 100)
    retrain_l2: float = _number(0.0, "retraining", "L2 penalty on the targets in retraining", 0, 100)
    survivors: str = _text("kept", "retraining", "three-step: weights left are kept, or drawn anew", INITIALS)
    fixed: str = _text(
        "none", "retraining", "three-step: layers that do not retrain: none, convolutions, dense, or by turns", LAYERS
    )
    freeze_above: float = _share(
        1.0,
        "retraining",
        "freeze: layers with a larger share of zeros are frozen; 1 takes the share of the whole model",
    )
    rewind: float = _share(0.0, "retraining", "lottery tickets: share of dense training to rewind to; 0 is the start")
    distill: float = _share(0.0, "retraining", "weight of the dense model's outputs in the loss of retraining")
    temperature: float = _number(4.0, "retraining", "softens those outputs", 0, 1000, above=True)
    recalibrate: bool = _switch("retraining", "estimate BatchNorm statistics anew where a cut is not retrained")

    bits: int = _number(5, "packing", "bits of the codebooks of a second, quantized packed file; 0 for none", 0, 8)
    share_epochs: int = _number(2, "packing", "epochs in which the values of the codebooks are trained")
    engine: bool = field(
        default=True,
        metadata={"group": "packing", "help": "compile the pruned net for the sparse engine and time it at the end"},
    )

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            _check_type(each.name, value, type(each.default))
            _check_range(each.name, value, each.metadata)
            if isinstance(each.default, float):  # a whole number given for a share is written like any other share
                object.__setattr__(self, each.name, float(value))
        if not 0 < self.validation < 1:
            raise LabError(f"validation is a share above 0 and below 1, got {self.validation}")
        if self.quality and self.max_drop:
            raise LabError("quality sets thresholds, so max_drop has no sparsity to search for; leave one of them out")
        if self.layers and self.max_drop:
            raise LabError("layers gives sparsities, which max_drop does not search for; leave one of them out")
        if self.distill and not self.epochs:
            raise LabError("distill takes the trained dense net for a teacher, and without epochs there is none")

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
            _flag(each.name, getattr(self, each.name))
            for each in dataclasses.fields(self)
            if each.name in ("data", "model", "method", "sparsity") or getattr(self, each.name) != each.default
        ]
        return f"secateur {verb} " + " ".join(flags)


def words(text: str) -> list[str]:
    """Split a setting or a flag that lists things by commas.

    Example:
        >>> words("fc1, fc2,")
        ['fc1', 'fc2']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def _flag(name: str, value: Any) -> str:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {shlex.quote(str(value))}"


def _check_range(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    if metadata.get("choices") and value not in metadata["choices"]:
        raise LabError(f"unknown {name} {value!r}; {near_matches(value, metadata['choices'])}")
    if "low" not in metadata:
        return
    low, high, above = metadata["low"], metadata["high"], metadata["above"]
    if (low < value if above else low <= value) and value <= high:
        return
    if (low, high) == (0, 1):
        raise LabError(f"{name} is a share between 0 and 1 (0.9 means nine in ten), got {value}")
    least = f"above {low}" if above else f"of at least {low}"
    raise LabError(f"{name} is a number {least}{'' if high == math.inf else f' and at most {high}'}, got {value}")


def _check_type(name: str, value: object, kind: type) -> None:
    right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        wanted = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}[kind]
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
