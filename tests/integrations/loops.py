"""A small problem that all loops of the tests train on, and what must hold in all of them."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import secateur as sc

SCHEDULE = sc.PolynomialSchedule(0.2, 0.9, begin_step=2, end_step=20, frequency=3)


def digits(count: int = 640) -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:count], dtype=torch.float32) / 16, torch.tensor(labels[:count])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def assert_held(model: nn.Module, masks: sc.Masks, sparsity: float) -> None:
    """Exactly as many zeros as asked for, where the masks say, and nowhere else."""
    targets = {name: parameter for name, parameter in model.named_parameters() if name in masks}
    assert targets.keys() == masks.keys()
    removed = sum(int((parameter == 0).sum()) for parameter in targets.values())
    assert removed == round(sparsity * sum(parameter.numel() for parameter in targets.values()))
    assert all(torch.equal(parameter == 0, ~masks[name]) for name, parameter in targets.items())
