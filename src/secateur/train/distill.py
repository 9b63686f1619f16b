"""Retraining that listens to the dense model as well as to the labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["distillation"]


def distillation(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, weight: float = 0.9, temperature: float = 4.0
) -> Tensor:
    """Return the loss of a classifier that learns from labels and from another classifier's outputs.

    ``(1 - weight) * cross-entropy + weight * T^2 * KL(teacher / T || student / T)``, means over the batch.

    Source: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531),
    section 2.

    Args:
        logits: (B, classes), of the network in training.
        teacher_logits: (B, classes), of the dense network; no gradient flows into it.
        labels: (B,) class numbers.
        weight: share of the teacher in the loss, in [0, 1].
        temperature: above 0; what both outputs are divided by before they are compared.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> round(float(distillation(logits, logits, labels, weight=0.5)), 4)  # half the cross-entropy
        0.0635
    """
    loss = functional.cross_entropy(logits, labels)
    if not weight:
        return loss
    # At least in float32, also under autocast: in bfloat16 what sets two like outputs apart is mostly rounding.
    wide = torch.promote_types(logits.dtype, torch.float32)
    soft = functional.log_softmax(logits.to(wide) / temperature, dim=1)
    target = functional.log_softmax(teacher_logits.detach().to(wide) / temperature, dim=1)
    apart = functional.kl_div(soft, target, reduction="batchmean", log_target=True)
    return (1 - weight) * loss + weight * temperature**2 * apart
