"""Models for the lab, by name, for any image shape and number of classes; timm's; or the user's own."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from secateur.lab.data.lookup import LabError, called, positionals, resolve, user_callable
from secateur.lab.models import from_timm
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

    make: Callable[[Shape, int, float], nn.Module]
    smallest: int


TABLE: dict[str, Entry] = {
    "lenet-300-100": Entry(lenet_300_100, 1),
    "lenet-5": Entry(lenet_5, 28),
    "tutorial-convnet": Entry(tutorial_convnet, 4),
    "resnet-18": Entry(lambda shape, classes, width: imagenet_resnet(shape, classes, (2, 2, 2, 2), width=width), 16),
    "resnet-34": Entry(lambda shape, classes, width: imagenet_resnet(shape, classes, (3, 4, 6, 3), width=width), 16),
    "resnet-50": Entry(lambda shape, classes, width: imagenet_resnet(shape, classes, (3, 4, 6, 3), True, width), 16),
    "resnet-20": Entry(lambda shape, classes, width: small_resnet(shape, classes, 20, width), 8),
    "resnet-32": Entry(lambda shape, classes, width: small_resnet(shape, classes, 32, width), 8),
    "resnet-56": Entry(lambda shape, classes, width: small_resnet(shape, classes, 56, width), 8),
    "vgg-16-bn": Entry(vgg_16_bn, 32),
    "mobilenet-v1": Entry(mobilenet_v1, 32),
}


def names() -> tuple[str, ...]:
    """Return the names :func:`build` knows besides timm's; ``mlp:300-100`` stands for ``mlp:`` and any widths.

    Example:
        >>> names()[:3]
        ('mlp:300-100', 'lenet-300-100', 'lenet-5')
    """
    return (MLP, *TABLE)


def smallest(name: str) -> int:
    """Return the smallest side, in pixels, of the images a model accepts; 1 for timm's and a user's own.

    Raises:
        LabError: the name is unknown.
        MissingExtraError: the model is timm's, and timm is not there.

    Example:
        >>> smallest("lenet-5"), smallest("resnet-20")
        (28, 8)
    """
    if _of_timm(name):
        from_timm.find(name)
        return 1
    return _entry(name).smallest


def build(
    name: str, shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0, width: float = 1.0
) -> nn.Module:
    """Return a new model that takes (B, C, H, W) images and gives (B, classes) logits.

    Args:
        name: one of :func:`names`, in any spelling of case, hyphens and underscores; ``mlp:`` and the
            widths of the hidden layers, such as ``mlp:512-256-128``; ``timm:`` and an architecture of timm's, such
            as ``timm:resnet18``, with new weights; or ``package.module:callable``, importable from the current
            directory. The callable gets ``(shape, classes)`` if it has two positional parameters without a default,
            or its first two are called so; otherwise nothing.
        shape: (C, H, W) of an image; each side at least ``smallest(name)``.
        classes: number of outputs, at least 1.
        dropout: probability of dropping a unit ahead of every linear layer but one that reads the image; of timm's
            models ahead of the classifier.
        width: factor on the numbers of hidden units and channels; 1 for timm's and a user's own.

    Raises:
        LabError: an unknown name, images too small, or user code that is missing or returns something
            else than a module.
        MissingExtraError: the model is timm's, and timm is not there.

    Example:
        >>> model = build("LeNet_300_100", (1, 28, 28), 10)
        >>> sum(p.numel() for p in model.parameters())
        266610
    """
    if len(shape) != 3 or min(shape) < 1:
        raise LabError(f"shape must be (channels, height, width), each at least 1, not {shape}")
    if classes < 1:
        raise LabError(f"classes must be at least 1, not {classes}")
    if _of_timm(name):
        return from_timm.make(name, shape, classes, dropout, width)
    entry = _entry(name)
    if min(shape[1:]) < entry.smallest:
        raise LabError(
            f"{name} needs images of at least {entry.smallest} pixels a side, not {shape[1]}x{shape[2]}: "
            f"load the data with smallest={entry.smallest}"
        )
    model = entry.make(shape, classes, width)
    return _with_dropout(model, dropout, name) if dropout else model


def _with_dropout(model: nn.Module, rate: float, name: str) -> nn.Module:
    """Return the layers of a Sequential with dropout between them; the names of its tensors stay."""
    if not isinstance(model, nn.Sequential):
        raise LabError(f"dropout goes between the layers of a Sequential; {name} is a {type(model).__name__}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    learned = False
    for key, layer in model.named_children():
        if isinstance(layer, nn.Linear) and learned:
            layers[f"dropout_{key}"] = nn.Dropout(rate)
        layers[key] = layer
        learned = learned or any(True for _ in layer.parameters())
    return nn.Sequential(layers)


def _of_timm(name: str) -> bool:
    return name.strip().lower().startswith(from_timm.PREFIX)


def _entry(name: str) -> Entry:
    if re.match(r"mlp(:|$)", name.strip().lower()):
        return _mlp_entry(name)
    if ":" in name:
        return Entry(lambda shape, classes, width: _user_model(name, shape, classes, width), 1)
    known = resolve(name, TABLE)
    if known is None:
        close = near_matches(name, names())
        raise LabError(f"unknown model {name!r}: {close} (timm's: timm:resnet18; your own: package.module:callable)")
    return TABLE[known]


def _mlp_entry(name: str) -> Entry:
    widths = re.fullmatch(r"mlp:([1-9][0-9]*(?:[-_][1-9][0-9]*)*)", name.strip().lower())
    if widths is None:
        raise LabError(f"{name!r}: an MLP is named with the widths of its hidden layers, such as mlp:300-100")
    hidden = [int(width) for width in re.split("[-_]", widths[1])]
    return Entry(lambda shape, classes, width: mlp(shape, classes, hidden, width), 1)


def _user_model(name: str, shape: Shape, classes: int, width: float) -> nn.Module:
    if width != 1:
        raise LabError(f"{name} has no width to scale; this needs one of the models by name")
    function = user_callable(name)
    accepted, required = positionals(function)
    if len(required) == 2 or (accepted[:2] == ["shape", "classes"] and len(required) <= 2):
        model = called(name, function, shape, classes)
    elif not required:
        model = called(name, function)
    else:
        raise LabError(f"{name} is called with nothing or with (shape, classes), but it needs {', '.join(required)}")
    if not isinstance(model, nn.Module):
        raise LabError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module")
    return model
