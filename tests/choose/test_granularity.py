"""Granularities: inverse views, and units found by explicit loops over real layers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.choose.granularity import Granularity, canonical, pool, restore
from secateur.vocabulary import Layout, NamedTensors, SelectionError, Target

SIDE = st.integers(0, 5)


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[torch.Tensor, Layout]:
    """A tensor of 1 to 5 axes, possibly empty, not always contiguous, with a layout that fits it."""
    groups = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(0, 3), max_size=2))
    first, second = draw(SIDE) * groups, draw(SIDE)
    if draw(st.booleans()):
        shape, layout = [first, second, *kernel], Layout(1, 0, groups)
    else:
        shape, layout = [first, second, *kernel], Layout(groups=groups)
    if draw(st.integers(0, 4)) == 0:
        shape, layout = [first], Layout()
    x = torch.arange(float(math.prod(shape))).reshape(shape)
    return (x.mT.contiguous().mT if x.ndim > 2 else x), layout


GRANULARITIES = st.one_of(
    st.just(sc.Element()),
    st.just(sc.Row()),
    st.just(sc.Column()),
    st.builds(sc.Block, st.integers(1, 4), st.integers(1, 4)),
)


@settings(max_examples=300, deadline=None)
@given(laid_out(), GRANULARITIES)
def test_join_undoes_split(case: tuple[torch.Tensor, Layout], granularity: Granularity) -> None:
    x, layout = case
    assert torch.equal(restore(canonical(x, layout), x.shape, layout), x)
    units = granularity.split(x, layout)
    assert torch.equal(granularity.join(units, x.shape, layout), x)
    kept = granularity.split(torch.ones_like(x, dtype=torch.bool), layout)
    assert int(kept.sum()) == x.numel(), "padding is False, all else True"


LAYERS = {
    "linear": nn.Linear(6, 4),
    "bilinear": nn.Bilinear(2, 3, 4),
    "conv1d": nn.Conv1d(4, 6, 3),
    "conv2d": nn.Conv2d(4, 6, (3, 2)),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "conv3d": nn.Conv3d(2, 4, 2),
    "transposed": nn.ConvTranspose2d(4, 6, 3),
    "transposed-grouped": nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed-1d": nn.ConvTranspose1d(6, 4, 2, groups=2),
}


def place(layer: nn.Module, index: tuple[int, ...]) -> tuple[int, int, int]:
    """Output unit, input unit, and column of the (out, in * kernel) matrix of one weight, from the definition."""
    a, b, *rest = (*index, *([] if len(index) > 1 else [0]))
    shape = layer.weight.shape  # type: ignore[union-attr]
    groups = getattr(layer, "groups", 1)
    kernel = 0
    for size, at in zip(shape[2:], rest, strict=True):
        kernel = kernel * size + at
    group = a // (shape[0] // groups)
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return group * shape[1] + b, a, a % (shape[0] // groups) * math.prod(shape[2:]) + kernel
    # Only a convolution's second axis counts inputs of its own group.
    return a, group * shape[1] + b if groups > 1 else b, b * math.prod(shape[2:]) + kernel


def unit_of(granularity: Granularity, layer: nn.Module, index: tuple[int, ...]) -> tuple[int, ...]:
    out, into, column = place(layer, index)
    if isinstance(granularity, sc.Row):
        return (out,)
    if isinstance(granularity, sc.Column):
        return (into,)
    assert isinstance(granularity, sc.Block)
    return (out // granularity.height, column // granularity.width)


POOLS = {
    "l2": lambda values: math.sqrt(sum(v * v for v in values)),
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "max": max,
}


@pytest.mark.parametrize("reduce", POOLS)
@pytest.mark.parametrize(
    "kind", [sc.Row, sc.Column, lambda reduce: sc.Block(2, 4, reduce)], ids=["row", "col", "block"]
)
@pytest.mark.parametrize("name", LAYERS)
def test_units_of_layers_equal_those_of_explicit_loops(name: str, kind: object, reduce: str) -> None:
    layer, granularity = LAYERS[name], kind(reduce=reduce)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(len(name))
    (target,) = sc.prunable(layer).targets.values()
    score = torch.rand(layer.weight.shape, generator=generator, dtype=torch.float64)  # type: ignore[union-attr,arg-type]
    if reduce != "l2":
        score = score - 2  # signed scores: the padding of a partial block must not outrank them
    values: dict[tuple[int, ...], list[float]] = {}
    indices = list(itertools.product(*map(range, score.shape)))
    for index in indices:
        values.setdefault(unit_of(granularity, layer, index), []).append(float(score[index]))
    pooled = {unit: POOLS[reduce](own) for unit, own in values.items()}
    remove = round(0.4 * len(pooled))
    gone = set(sorted(pooled, key=lambda unit: pooled[unit])[:remove])
    mask = sc.select(NamedTensors({"weight": score}, {"weight": target}), 0.4, granularity=granularity)["weight"]
    for index in indices:
        assert bool(mask[index]) == (unit_of(granularity, layer, index) not in gone)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "bilinear"])
def test_removed_rows_and_columns_silence_outputs_and_inputs(name: str) -> None:
    layer = LAYERS[name]
    dims = {"conv1d": 1, "transposed-1d": 1, "linear": 0, "conv3d": 3}.get(name, 2)
    inputs = 6 if name in ("linear", "transposed-1d") else 2 if name == "conv3d" else 4
    x = torch.randn(1, inputs, *[5] * dims)
    for granularity in (sc.Row(), sc.Column()):
        masks = sc.select(sc.criteria.magnitude(sc.prunable(layer, biases=True)), 0.5, granularity=granularity)
        parameters = {key: p.detach() * masks[key] for key, p in layer.named_parameters()}
        y = torch.func.functional_call(layer, parameters, (x,))
        if isinstance(granularity, sc.Row):
            silent = [i for i in range(y.shape[1]) if (y[:, i] == 0).all()]
            assert len(silent) == round(0.5 * y.shape[1]), "weights and biases of a row go together"
        else:
            base = torch.func.functional_call(layer, parameters, (torch.zeros_like(x),))
            probes = [torch.zeros_like(x) for _ in range(inputs)]
            for channel, probe in enumerate(probes):
                probe[:, channel] = 1
            deaf = [torch.equal(torch.func.functional_call(layer, parameters, (p,)), base) for p in probes]
            assert sum(deaf) == round(0.5 * inputs)


def test_a_bias_that_fits_no_row_is_refused() -> None:
    scores = {"up.weight": torch.ones(4, 3, 2, 2), "up.bias": torch.ones(3)}
    with pytest.raises(SelectionError, match=r"'up\.bias' has 3 elements.*prunable"):
        sc.select(scores, 0.5, granularity=sc.Row())
    known = {"up.weight": Target(Layout(1, 0))}
    assert sc.select(NamedTensors(scores, known), 1 / 3, granularity=sc.Row())["up.bias"].sum() == 2


def test_half_precision_is_pooled_without_overflow() -> None:
    scores = {"w": torch.full((2, 100), 300.0, dtype=torch.float16)}
    scores["w"][1] = 301
    assert sc.select(scores, 0.5, granularity=sc.Row())["w"].any(1).tolist() == [False, True]


def test_bad_sizes_and_reductions_are_refused() -> None:
    with pytest.raises(SelectionError, match="at least 1"):
        sc.Block(0, 4)
    with pytest.raises(SelectionError, match="unknown"):
        pool(torch.ones(2, 2), torch.ones(2), "median")  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="infinities of both signs"):
        signs = torch.tensor([[float("inf"), float("-inf")], [0.0, 0.0]])
        sc.select({"w": signs}, 0.5, granularity=sc.Row("sum"))
    with pytest.raises(SelectionError, match="all targets are vectors"):
        sc.select({"bias": torch.ones(3)}, 0.5, granularity=sc.Column())


@pytest.mark.parametrize("layout", [Layout(groups=3, stacked=True), Layout(1, 0, 3, True)])
def test_stacked_matrices_are_seen_one_by_one(layout: Layout) -> None:
    stack = torch.arange(3 * 4 * 5, dtype=torch.float32).view(3, 4, 5)
    seen = canonical(stack, layout)
    outs = 4 if layout.out_axis == 0 else 5
    assert seen.shape == (3 * outs, 20 // outs, 1)
    assert torch.equal(restore(seen, stack.shape, layout), stack)
    matrix = stack[1] if layout.out_axis == 0 else stack[1].T
    assert torch.equal(seen[outs : 2 * outs, :, 0], matrix)
    for way in (sc.Row(), sc.Column(), sc.Block(2, 2)):
        assert torch.equal(way.join(way.split(stack, layout), stack.shape, layout), stack)
    # A column is an input of one matrix, and holds what all its outputs read there.
    assert torch.equal(sc.Column().split(stack, layout)[0], matrix_column(stack, layout))


def matrix_column(stack: torch.Tensor, layout: Layout) -> torch.Tensor:
    return stack[0, :, 0] if layout.out_axis == 0 else stack[0, 0, :]
