"""Models of the timm library by ``timm:NAME``, with weights drawn anew."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from secateur.lab.data.lookup import LabError, resolve
from secateur.lab.models.layers import Shape
from secateur.vocabulary import MissingExtraError, near_matches

__all__ = ["PREFIX", "find", "make"]

PREFIX = "timm:"


def find(name: str) -> str:
    """Return the name by which timm knows ``timm:NAME``.

    Raises:
        LabError: timm has no such model.
        MissingExtraError: timm is not installed, or cannot be imported.
    """
    known = _timm().list_models()
    wanted = name.strip()[len(PREFIX) :].strip()
    found = wanted if wanted in known else resolve(wanted, known)
    if found is None:
        raise LabError(
            f"timm has no model {wanted!r}: {near_matches(wanted, known)} (weights are drawn anew, so that tags of "
            "trained ones are left out)"
        )
    return found


def make(name: str, shape: Shape, classes: int, dropout: float = 0.0, width: float = 1.0) -> nn.Module:
    """Return a new model of timm that takes images of ``shape`` and gives (B, classes) logits.

    Args:
        name: ``timm:`` and the name of an architecture, in any spelling of case, hyphens and underscores.
        shape: (C, H, W) of an image; a model that is built for one size is built for this one.
        classes: number of outputs.
        dropout: timm's ``drop_rate``, ahead of the classifier.
        width: must be 1: nothing in timm scales the width of any model.

    Raises:
        LabError: timm has no such model, or it has no dropout, or cannot take such images.
        MissingExtraError: timm is not installed, or cannot be imported.
    """
    if width != 1:
        raise LabError(f"{name} has no width to scale; this needs one of the lab's own models, such as resnet-18")
    timm, found = _timm(), find(name)
    options: dict[str, Any] = {"drop_rate": dropout} if dropout else {}
    known = timm.get_pretrained_cfg(found)
    if known is not None and known.fixed_input_size:  # timm's mark of the models that take img_size
        options["img_size"] = shape[1:]
    task = f"{name} cannot be built for images of {_text(shape)}" + (f" with dropout {dropout:g}" if dropout else "")
    model: nn.Module = _attempt(
        task, lambda: timm.create_model(found, pretrained=False, num_classes=classes, in_chans=shape[0], **options)
    )
    _check_patches(model, name, shape)
    _try_out(model.eval(), name, shape, classes)
    return model.train()


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _attempt(task: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # every family fails in a way of its own
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise LabError(f"{task} ({reason}); most of timm's models want larger images, of a multiple of 32") from error


def _check_patches(model: nn.Module, name: str, shape: Shape) -> None:
    """Refuse images that do not divide into patches: a transformer would silently leave out what remains."""
    embedding = getattr(model, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    if not isinstance(patch, tuple) or getattr(embedding, "dynamic_img_pad", False):
        return
    if any(side % step for side, step in zip(shape[1:], patch, strict=False)):
        raise LabError(
            f"{name} reads patches of {'x'.join(map(str, patch))} pixels, into which images of {_text(shape)} do not "
            "divide: it would never see what remains; choose another model, or images of another size"
        )


def _try_out(model: nn.Module, name: str, shape: Shape, classes: int) -> None:
    """Refuse at once a model whose layers leave nothing of such images, or whose outputs are no logits."""
    with torch.no_grad():
        task = f"{name} cannot take images of {_text(shape)}"
        logits = _attempt(task, lambda: model(torch.zeros(2, *shape)))
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        raise LabError(f"{name} is no classifier: it does not give one logit for each class")


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(f"models named timm:... need timm ({error}): pip install 'secateur[vision]'") from error
    except RuntimeError as error:  # torchvision's operators were built for another torch
        raise MissingExtraError(
            f"timm cannot be imported ({textwrap.shorten(str(error), 150)}): pip install 'secateur[vision]' with "
            "builds of torch and torchvision that belong together"
        ) from error
    return timm  # type: ignore[no-any-return]
