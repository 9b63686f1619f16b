"""The one training loop: an epoch over tensors, a learning-rate curve, an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

import secateur as sc
from secateur.lab.data import LabError, Split, batches
from secateur.lab.memory import memory_kept
from secateur.lab.settings import Settings
from secateur.vocabulary import SecateurError

__all__ = [
    "DivergedError",
    "Objective",
    "Score",
    "Training",
    "arithmetic",
    "evaluate",
    "learning_rate",
    "make_optimizer",
    "objective",
    "train_epoch",
]

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From images, logits and labels to the loss of a batch."""


class DivergedError(SecateurError, ArithmeticError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class Training:
    """How a phase trains.

    Attributes:
        rate: factor on the learning rate of the settings.
        l1, l2: penalties on the targets.
        smoothing: of labels, where no teacher smooths them.
        distill: weight of the teacher in the loss.
        temperature: of the teacher's outputs.
        frozen: names of targets whose layers do not train.
        cycles: how often the learning-rate curve runs.
        begin, stop: steps of the curve, and of the data, between which to train; all of them by default. With
            ``stop`` the last state is kept, not the best.
        stream: name of the phase whose batches to see; the phase's own if empty.
        bits: of codebooks whose values the weights share while these are trained; 0 for weights of their own.
        from_here: the state that the phase begins in may be the best one, too.
    """

    rate: float = 1.0
    l1: float = 0.0
    l2: float = 0.0
    smoothing: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    frozen: tuple[str, ...] = ()
    cycles: int = 1
    begin: int = 0
    stop: int | None = None
    stream: str = ""
    bits: int = 0
    from_here: bool = False


@dataclass(frozen=True)
class Score:
    """Mean loss and accuracy (in [0, 1]) over a number of images."""

    loss: float
    accuracy: float


def make_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """Return the fused optimizer that the settings name.

    Raises:
        LabError: no parameter of the model is to be trained.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise LabError(f"nothing of {settings.model} can be trained: all its parameters have requires_grad=False")
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)


def learning_rate(peak: float, step: int, steps: int, cycles: int = 1) -> float:
    """Return the rate at ``step`` of ``steps``: linear warm-up over 5 %, then half a cosine to 1 % of the peak.

    Example:
        >>> [round(learning_rate(1.0, step, 100), 3) for step in (0, 5, 100)]
        [0.2, 1.0, 0.01]
    """
    length = max(1, math.ceil(steps / cycles))
    step = step % length if step < steps else length
    warm = max(1, round(0.05 * length))
    if step < warm:
        return peak * (step + 1) / warm
    progress = (step - warm) / max(1, length - warm)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def objective(training: Training, weights: sc.Weights, teacher: nn.Module | None) -> Objective:
    """Return the loss of a phase: cross-entropy, the teacher's share and the penalties that it asks for."""

    def loss(images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        if training.distill and teacher is not None:
            with torch.no_grad():
                taught = teacher(images)
            value = sc.distillation(logits, taught, labels, training.distill, training.temperature)
        else:
            value = functional.cross_entropy(logits, labels, label_smoothing=training.smoothing)
        if training.l1 or training.l2:
            value = value + sc.penalty(weights, training.l1, training.l2)
        return value

    return loss


@memory_kept()
def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    data: Iterable[tuple[Tensor, Tensor]],
    before_step: Callable[[int], None],
    after_step: Callable[[], None],
    loss_of: Objective,
    precision: str = "float32",
) -> Score:
    """Train for one epoch; return the running loss and accuracy of its batches.

    Args:
        model: gives logits of shape (B, classes).
        optimizer: steps once a batch.
        data: pairs of images and labels.
        before_step: called with the batch's index before its step (sets the learning rate).
        after_step: called after each step (advances a pruner, a progress bar).
        loss_of: from :func:`objective`.
        precision: "float32", or "bfloat16" to compute most of the forward and backward pass in it.

    Raises:
        DivergedError: the loss is not finite.
    """
    model.train()
    # Summed on the device: reading a number off it would wait for every step.
    device = next(model.parameters()).device
    seen, loss_sum, correct = 0, torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    for index, (images, labels) in enumerate(data):
        before_step(index)
        with arithmetic(images, precision):
            logits = model(images)
            loss = loss_of(images, logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        after_step()
        seen += len(labels)
        loss_sum += loss.detach() * len(labels)
        correct += (logits.detach().argmax(1) == labels).sum()
    if not math.isfinite(float(loss_sum)):
        raise DivergedError("the training loss is not finite; lower --learning-rate")
    return Score(float(loss_sum) / max(1, seen), int(correct) / max(1, seen))


@memory_kept()
@torch.inference_mode()
def evaluate(model: nn.Module, split: Split, precision: str = "float32", size: int = 100) -> Score:
    """Return mean loss and accuracy of a model in eval mode over a split.

    Args:
        model: gives logits of shape (B, classes); in eval mode from here on.
        split: images and labels.
        precision: "float32", or "bfloat16" to compute most of it in that.
        size: images at a time; the activations of few stay in the cache.
    """
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in batches(split, size):
        with arithmetic(images, precision):
            logits = model(images)
        loss += float(functional.cross_entropy(logits.float(), labels, reduction="sum"))
        correct += int((logits.argmax(1) == labels).sum())
    return Score(loss / max(1, len(split)), correct / max(1, len(split)))


def arithmetic(images: Tensor, precision: str) -> torch.autocast:
    """Return the context in which a model computes on these images, with ``precision`` "float32" or "bfloat16"."""
    return torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16")
