"""Distillation: against NumPy, its two ends, and where gradients flow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import secateur as sc

Array = npt.NDArray[np.float64]
SEED, SHARE, HEAT = st.integers(0, 2**16), st.floats(0, 1), st.floats(0.1, 20)


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def case(seed: int, examples: int = 5, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (torch.randn(examples, classes, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    return logits.requires_grad_(), teacher, torch.randint(classes, (examples,), generator=generator)


@given(SEED, SHARE, HEAT)
def test_value_and_slope_equal_numpy(seed: int, weight: float, temperature: float) -> None:
    logits, teacher, labels = case(seed)
    loss = sc.distillation(logits, teacher, labels, weight=weight, temperature=temperature)
    loss.backward()
    z, t, y = logits.detach().numpy(), teacher.numpy(), np.eye(4)[labels.numpy()]
    student, target = softmax(z / temperature), softmax(t / temperature)
    entropy = -np.log((softmax(z) * y).sum(1)).mean()
    apart = (target * (np.log(target) - np.log(student))).sum(1).mean()
    assert float(loss.detach()) == pytest.approx((1 - weight) * entropy + weight * temperature**2 * apart, abs=1e-9)
    slope = ((1 - weight) * (softmax(z) - y) + weight * temperature * (student - target)) / len(z)
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(slope, abs=1e-9)


@given(SEED, HEAT)
def test_without_weight_it_is_cross_entropy_whatever_the_teacher_says(seed: int, temperature: float) -> None:
    logits, teacher, labels = case(seed)
    expected = functional.cross_entropy(logits, labels)
    assert torch.equal(sc.distillation(logits, teacher, labels, weight=0.0, temperature=temperature), expected)
    nonsense = torch.full_like(teacher, float("nan"))
    assert torch.equal(sc.distillation(logits, nonsense, labels, weight=0.0), expected)


@given(SEED, HEAT)
def test_at_weight_one_equal_logits_cost_nothing_and_pull_nowhere(seed: int, temperature: float) -> None:
    logits, _, labels = case(seed)
    shifted = logits.detach() + 7  # the same probabilities
    loss = sc.distillation(logits, shifted, labels, weight=1.0, temperature=temperature)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-9)
    assert logits.grad is not None and logits.grad.abs().max() < 1e-12


@given(SEED, HEAT)
def test_at_weight_one_labels_do_not_count_and_nothing_is_below_zero(seed: int, temperature: float) -> None:
    logits, teacher, labels = case(seed)
    loss = sc.distillation(logits, teacher, labels, weight=1.0, temperature=temperature)
    assert float(loss.detach()) >= -1e-12
    assert torch.equal(loss, sc.distillation(logits, teacher, (labels + 1) % 4, weight=1.0, temperature=temperature))


def test_outputs_in_bfloat16_are_compared_in_float32() -> None:
    logits, _, labels = case(0)
    near = (logits + 0.01 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))).detach().float()
    slopes = []
    for auto in (False, True):
        student = logits.detach().float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=auto):
            loss = sc.distillation(student, near, labels, 1.0)
        loss.backward()
        assert loss.dtype == torch.float32 and student.grad is not None
        slopes.append(student.grad)
    assert torch.equal(*slopes)


def test_no_gradient_flows_into_the_teacher() -> None:
    student, teacher = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)
    x, labels = torch.randn(6, 3), torch.arange(6) % 4
    sc.distillation(student(x), teacher(x), labels).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = sc.distillation(logits, torch.tensor([[-1e4, 1e4, 0.0]]), torch.tensor([0]))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_a_student_comes_closer_to_its_teacher() -> None:
    torch.manual_seed(0)
    student, teacher = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4).requires_grad_(False)
    x, labels = torch.randn(64, 3), torch.zeros(64, dtype=torch.int64)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
    before = (student(x).softmax(1) - teacher(x).softmax(1)).abs().max()
    for _ in range(200):
        sc.distillation(student(x), teacher(x), labels, weight=1.0, temperature=2.0).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (student(x).softmax(1) - teacher(x).softmax(1)).abs().max() < before / 10
