"""The loss of a phase: what it is made of, by formulas of its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax

import secateur as sc
from secateur.lab.bench import Training
from secateur.lab.training import objective


def test_the_loss_is_smoothed_cross_entropy_and_its_penalties() -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    x, labels = torch.randn(8, 4), torch.randint(3, (8,))
    logits = net(x)
    target = 0.8 * nn.functional.one_hot(labels, 3) + 0.2 / 3
    expected = -(target * log_softmax(logits, 1)).sum(1).mean()
    loss = objective(Training(smoothing=0.2), sc.prunable(net), None)(x, logits, labels)
    assert float(loss.detach()) == pytest.approx(float(expected))
    both = objective(Training(l1=0.1, l2=0.2, smoothing=0.2), sc.prunable(net), None)(x, logits, labels)
    assert float(both - loss) == pytest.approx(float(0.1 * net.weight.abs().sum() + 0.1 * net.weight.square().sum()))


def test_a_teacher_takes_the_place_of_smoothing() -> None:
    torch.manual_seed(0)
    net, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    x, labels = torch.randn(8, 4), torch.randint(3, (8,))
    values = [
        float(objective(Training(smoothing=share, distill=0.5), sc.prunable(net), teacher)(x, net(x), labels))
        for share in (0.0, 0.2)
    ]
    assert values[0] == values[1]
