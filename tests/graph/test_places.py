"""Parameters that code turns, reshapes and computes with before they are used: followed as if they were stored so."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur.graph.flow import Flow
from secateur.graph.places import moved, own_axis, own_sizes
from secateur.shrink import NothingShrunkWarning

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(SHAPES, st.randoms(use_true_random=False))
def test_every_axis_of_a_permuted_parameter_is_known(shape: list[int], random: Any) -> None:
    order = random.sample(range(len(shape)), len(shape))
    stored = torch.arange(torch.Size(shape).numel()).reshape(shape)
    places = moved(Flow(stored, name="w"), lambda tensor: tensor.permute(order))
    flow = Flow(stored.permute(order), name="w", places=places)
    assert own_sizes(flow) == tuple(shape)
    found = [own_axis(flow, dim) for dim in range(len(shape))]
    assert sorted(axis for axis in found if axis is not None) == list(range(len(shape)))
    assert all(shape[axis] == flow.shape[dim] for dim, axis in enumerate(found) if axis is not None)
    wide = [(dim, axis) for dim, axis in enumerate(found) if flow.shape[dim] > 1]
    assert all(order[dim] == axis for dim, axis in wide)
    again = torch.broadcast_tensors(*places)
    assert torch.equal(stored[again], flow.value)


def test_an_axis_turned_round_is_none_of_the_parameters_own() -> None:
    stored = torch.zeros(2, 3)
    flow = Flow(stored, name="w", places=moved(Flow(stored, name="w"), lambda tensor: tensor.flip(0)))
    assert (own_axis(flow, 0), own_axis(flow, 1)) == (None, 1)


class HandWritten(nn.Module):
    """Layers as Keras writes them: (kernel..., in, out), turned each time, biases and norms added by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 3, 2, 8))
        self.depthwise = nn.Parameter(torch.randn(3, 3, 8, 2))
        self.bias, self.shift = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(16))
        self.gain, self.mean = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16))
        self.variance = nn.Parameter(torch.rand(16) + 0.5)
        self.head, self.last = nn.Parameter(torch.randn(5, 16)), nn.Parameter(torch.randn(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(x, self.kernel.permute(3, 2, 0, 1)).relu()
        x = x.permute(0, 2, 3, 1) + self.bias.reshape(1, 1, 1, -1)
        # In height, width, 1, inputs times multiplier, as depthwise kernels are.
        kernel = self.depthwise.reshape(3, 3, 1, -1).permute(3, 2, 0, 1)
        x = nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel, groups=kernel.shape[0] // 2).permute(0, 2, 3, 1)
        x = (x - self.mean) * ((self.variance + 1e-3).rsqrt() * self.gain) + self.shift
        x = torch.tanh(x.mean((1, 2)) @ self.head.t())
        return x @ self.last


def test_hand_written_layers_are_followed() -> None:
    coupling = sc.couple(HandWritten(), torch.zeros(2, 2, 9, 9))
    filters, neurons, outputs = coupling.groups
    held = {(axis.name, axis.dim) for axis in filters.axes}
    names = ("bias", "mean", "variance", "gain", "shift")
    assert held == {("kernel", 3), ("depthwise", 2), ("head", 1), *((name, 0) for name in names)}
    assert {(axis.name, axis.dim) for axis in neurons.axes} == {("head", 0), ("last", 0)}
    assert (len(filters.units), len(neurons.units), len(outputs.units)) == (8, 5, 3)
    assert outputs.whole and not filters.whole and not coupling.unknown
    shift = coupling.axis("shift", 0)
    kernel = coupling.axis("kernel", 3)
    assert shift is not None
    assert kernel is not None
    assert torch.equal(shift, kernel.repeat_interleave(2))  # each filter has two channels behind it


@settings(max_examples=10)
@given(st.integers(0, 2**16), st.floats(0, 1))
def test_hand_written_layers_are_cut(seed: int, sparsity: float) -> None:
    torch.manual_seed(seed)
    net, example = HandWritten(), torch.randn(3, 2, 9, 9)
    choice, shift = sc.UnitChoice(sc.couple(net, example)), net.shift.detach().clone()
    sc.apply(net, choice(sc.unit_weights(net, choice.coupling), sparsity))
    with torch.no_grad():
        net.shift.copy_(shift)  # what is gone is a constant now, and not zero
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingShrunkWarning)
        small = sc.shrink(net, example)
    assert small.kernel.shape[3] == int((net.kernel != 0).flatten(0, 2).any(0).sum())
    assert small.head.shape[0] == int((net.head != 0).any(1).sum())
    assert torch.allclose(small(example), net(example), rtol=1e-4, atol=1e-4)


class Added(nn.Module):
    """What is added behind a product takes up the constants it reads; ``how`` says what is added, and where."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.a, self.b = nn.Linear(4, 6), nn.Parameter(torch.randn(6, 6))
        self.vector = nn.Parameter(torch.randn(6))
        self.register_buffer("steady", torch.randn(6), persistent=False)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu() @ self.b
        if self.how == "added":
            x = self.vector + x
        elif self.how == "taken":
            x = x - self.vector
        elif self.how == "taken from":
            x = self.vector - x
        elif self.how == "twice":
            x = (x + self.vector) * self.vector
        elif self.how == "a buffer":
            x = x + self.steady
        return self.last(x.sigmoid())


@pytest.mark.parametrize(
    ("how", "folds"),
    [("added", True), ("taken", True), ("taken from", False), ("twice", False), ("a buffer", False), ("not", False)],
)
def test_constants_go_into_what_is_added_behind(how: str, folds: bool) -> None:
    torch.manual_seed(0)
    net, example = Added(how), torch.randn(8, 4)
    with torch.no_grad():
        net.a.weight[:3] = 0
        net.a.bias.fill_(0.5)  # three units are constants, and not zero
    with contextlib.nullcontext() if folds else pytest.warns(NothingShrunkWarning):
        small = sc.shrink(net, example)
    record = sc.shrinkage(small)
    assert record is not None
    assert record.folded == (("vector",) if folds else ())
    assert small.a.out_features == (3 if folds else 6)
    assert folds or "no bias to take it up" in str(record)
    assert torch.allclose(small(example), net(example), atol=1e-5)


SUMS = ["bi,oi->bo", "bi,io->bo", "io,bi->bo", "...i,oi->...o", "bti,iok->btok", "btik,iko->bto", "bit,oi->bto"]


class Sum(nn.Module):
    """An Einstein sum between two layers, whatever its axes."""

    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation
        inputs, out = equation.split("->")
        self.swapped = inputs.startswith("io")
        x, weight = reversed(inputs.split(",")) if self.swapped else inputs.split(",")
        sizes = {"b": 3, "t": 4, "i": 6, "k": 2, "o": 5}
        self.shape = [sizes[letter] for letter in x.replace("...", "bt")]
        self.dim = x.replace("...", "bt").index("i")
        self.first = nn.Conv1d(2, 6, 1)
        self.weight = nn.Parameter(torch.randn([sizes[each] for each in weight]))
        self.bias = nn.Parameter(torch.randn(5))
        self.out = out.replace("...", "bt").index("o")
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu().transpose(1, 2)  # (B, everything else, i)
        rest = [size for dim, size in enumerate(self.shape) if dim not in (0, self.dim)]
        x = x.reshape(x.shape[0], *rest, -1).movedim(-1, self.dim)
        pair = (self.weight, x) if self.swapped else (x, self.weight)
        return self.last((torch.einsum(self.equation, *pair).movedim(self.out, -1) + self.bias).tanh())


@pytest.mark.parametrize("equation", SUMS)
def test_einstein_sums_are_followed(equation: str) -> None:
    torch.manual_seed(0)
    net = Sum(equation)
    example = torch.randn(3, 2, torch.Size(net.shape).numel() // 18)
    with torch.no_grad():
        net.first.weight[[1, 4]] = 0
        net.first.bias.fill_(0.5)
        net.last.weight[:, 2] = 0
    small = sc.shrink(net, example)
    # A constant other than zero has no bias to go to where there are several new axes.
    assert (small.first.out_channels, small.last.in_features) == ((6, 4) if equation == "bti,iok->btok" else (4, 4))
    assert torch.allclose(small(example), net(example), atol=1e-5)


@pytest.mark.parametrize("equation", ["bi,bo->bo", "bi,oi->b", "bi,i->bi", "bii,oi->bo"])
def test_sums_of_other_kinds_are_named(equation: str) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.weight = nn.Linear(4, 3), nn.Parameter(torch.randn(3, 3)[: None if "," in equation else 1])

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            x = x.unsqueeze(-1) * x.unsqueeze(-2) if "ii" in equation else x
            return torch.einsum(equation, x, self.weight[0] if ",i-" in equation else self.weight)

    coupling = sc.couple(Other(), torch.randn(3, 4))
    assert all(group.whole for group in coupling.groups)


class Mixture(nn.Module):
    """A parameter that is computed with but is nobody's unit."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(6))
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.logits.softmax(0))


def test_a_softmax_over_a_parameter_keeps_what_it_meets() -> None:
    groups = sc.couple(Mixture(), torch.zeros(2, 4)).groups
    assert groups[0].whole
    assert ("logits", 0) not in {(axis.name, axis.dim) for group in groups for axis in group.axes if not group.whole}


class Gated(nn.Module):
    """A gain that is computed: zero where its parameter is."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([1.0, 0.0, -2.0, 0.0]))
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.gain.relu())


def test_a_computed_gain_of_zero_makes_a_unit_a_constant() -> None:
    net, example = Gated(), torch.randn(5, 3)
    small = sc.shrink(net, example)
    assert small.a.out_features == 1
    assert torch.allclose(small(example), net(example), atol=1e-6)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.t()).relu() @ self.weight


def test_a_matrix_used_both_ways_is_cut_once() -> None:
    net, example = Tied(), torch.randn(4, 8)
    with torch.no_grad():
        net.weight[[0, 3]] = 0
    small = sc.shrink(net, example)
    assert small.weight.shape == (3, 8)
    assert torch.allclose(small(example), net(example), atol=1e-5)
