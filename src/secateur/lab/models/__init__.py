"""Models for the lab, by name, for any image shape and number of classes; or the user's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from secateur.lab.data.lookup import LabError, positionals, resolve, user_callable
from secateur.lab.models.layers import Shape
from secateur.lab.models.lenet import lenet_5, lenet_300_100, tutorial_convnet
from secateur.lab.models.mlp import mlp
from secateur.lab.models.mobilenet import mobilenet_v1
from secateur.lab.models.resnet import imagenet_resnet, small_resnet
from secateur.lab.models.vgg import vgg_16_bn
from secateur.vocabulary import near_matches

__all__ = ["build", "names", "smallest"]

MLP = "mlp:300-100"  # stands for perceptrons of any widths


@dataclass(frozen=True)
class Entry:
    """How a model is made, and the smallest side in pixels of its images.

    That side is the smallest at which every weight has something to do: 3x3 filters with padding need
    two pixels a side to use all their taps, so the last ones of a model decide. LeNet-5 would run from 16
    pixels on, but with an eighth of the weights it is known by.
    """

    make: Callable[[Shape, int], nn.Module]
    smallest: int


TABLE: dict[str, Entry] = {
    "lenet-300-100": Entry(lenet_300_100, 1),
    "lenet-5": Entry(lenet_5, 28),
    "tutorial-convnet": Entry(tutorial_convnet, 4),
    "resnet-18": Entry(lambda shape, classes: imagenet_resnet(shape, classes, (2, 2, 2, 2)), 16),
    "resnet-34": Entry(lambda shape, classes: imagenet_resnet(shape, classes, (3, 4, 6, 3)), 16),
    "resnet-50": Entry(lambda shape, classes: imagenet_resnet(shape, classes, (3, 4, 6, 3), True), 16),
    "resnet-20": Entry(lambda shape, classes: small_resnet(shape, classes, 20), 8),
    "resnet-32": Entry(lambda shape, classes: small_resnet(shape, classes, 32), 8),
    "resnet-56": Entry(lambda shape, classes: small_resnet(shape, classes, 56), 8),
    "vgg-16-bn": Entry(vgg_16_bn, 32),
    "mobilenet-v1": Entry(mobilenet_v1, 32),
}


def names() -> tuple[str, ...]:
    """Return the names :func:`build` knows; ``mlp:300-100`` stands for ``mlp:`` and any widths.

    Example:
        >>> names()[:3]
        ('mlp:300-100', 'lenet-300-100', 'lenet-5')
    """
    return (MLP, *TABLE)


def smallest(name: str) -> int:
    """Return the smallest side, in pixels, of the images a model accepts; 1 for a user's own.

    Raises:
        LabError: the name is unknown.

    Example:
        >>> smallest("lenet-5"), smallest("resnet-20")
        (28, 8)
    """
    return _entry(name).smallest


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a new model that takes (B, C, H, W) images and gives (B, classes) logits.

    Args:
        name: one of :func:`names`, in any spelling of case, hyphens and underscores; ``mlp:`` and the
            widths of the hidden layers, such as ``mlp:512-256-128``; or ``package.module:callable``,
            importable from the current directory. The callable gets ``(shape, classes)`` if it has two
            positional parameters without a default, or its first two are called so; otherwise nothing.
        shape: (C, H, W) of an image; each side at least ``smallest(name)``.
        classes: number of outputs, at least 1.

    Raises:
        LabError: an unknown name, images too small, or user code that is missing or returns something
            else than a module.

    Example:
        >>> model = build("LeNet_300_100", (1, 28, 28), 10)
        >>> sum(p.numel() for p in model.parameters())
        266610
    """
    if len(shape) != 3 or min(shape) < 1:
        raise LabError(f"shape must be (channels, height, width), each at least 1, not {shape}")
    if classes < 1:
        raise LabError(f"classes must be at least 1, not {classes}")
    entry = _entry(name)
    if min(shape[1:]) < entry.smallest:
        raise LabError(
            f"{name} needs images of at least {entry.smallest} pixels a side, not {shape[1]}x{shape[2]}: "
            f"load the data with smallest={entry.smallest}"
        )
    return entry.make(shape, classes)


def _entry(name: str) -> Entry:
    if re.match(r"mlp(:|$)", name.strip().lower()):
        return _mlp_entry(name)
    if ":" in name:
        return Entry(lambda shape, classes: _user_model(name, shape, classes), 1)
    known = resolve(name, TABLE)
    if known is None:
        close = near_matches(name, names())
        raise LabError(f"unknown model {name!r}: {close} (your own: package.module:callable)")
    return TABLE[known]


def _mlp_entry(name: str) -> Entry:
    widths = re.fullmatch(r"mlp:([1-9][0-9]*(?:[-_][1-9][0-9]*)*)", name.strip().lower())
    if widths is None:
        raise LabError(f"{name!r}: an MLP is named with the widths of its hidden layers, such as mlp:300-100")
    hidden = [int(width) for width in re.split("[-_]", widths[1])]
    return Entry(lambda shape, classes: mlp(shape, classes, hidden), 1)


def _user_model(name: str, shape: Shape, classes: int) -> nn.Module:
    function = user_callable(name)
    accepted, required = positionals(function)
    if len(required) == 2 or (accepted[:2] == ["shape", "classes"] and len(required) <= 2):
        model = function(shape, classes)
    elif not required:
        model = function()
    else:
        raise LabError(f"{name} is called with nothing or with (shape, classes), but it needs {', '.join(required)}")
    if not isinstance(model, nn.Module):
        raise LabError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module")
    return model
