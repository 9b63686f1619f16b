"""Scores of neurons and filters: against NumPy, and statistics of units against one example at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import secateur as sc
from secateur.choose.stats import Units
from secateur.vocabulary import SelectionError

Array = npt.NDArray[np.float64]
RULES = sc.criteria.neurons


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * 4, 5),
    )
    net(torch.randn(32, 1, 4, 4))
    return net


def images(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 1, 4, 4, generator=generator), torch.arange(4) % 5) for _ in range(count)]


def unit_scores(scores: sc.Scores, name: str) -> Array:
    """One number a unit, after a check that all weights of its row have it."""
    rows = scores[name].flatten(1).double().numpy()
    assert (rows == rows[:, :1]).all()
    return np.asarray(rows[:, 0])


def incoming(writer: Array) -> Array:
    return np.array([np.sqrt((row**2).sum()) for row in writer])


def outgoing(reader: Array, units: int) -> Array:
    width = reader.shape[1] // units
    return np.array([np.sqrt((reader[:, u * width : (u + 1) * width] ** 2).sum()) for u in range(units)])


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    st.sampled_from([(), (3,), (2, 3)]),
    st.integers(0, 2**16),
)
def test_norms_equal_explicit_loops(sizes: tuple[int, ...], kernel: tuple[int, ...], seed: int) -> None:
    units, inputs, outputs, width = sizes
    rng = np.random.default_rng(seed)
    writer, reader = rng.normal(size=(units, inputs, *kernel)), rng.normal(size=(outputs, units * width, *kernel))
    weights = {"a.weight": torch.from_numpy(writer), "b.weight": torch.from_numpy(reader)}
    chain = [sc.Chain("a.weight", "b.weight", width)]
    into, out = incoming(writer), outgoing(reader, units)
    for rule, raw in ((RULES.incoming, into), (RULES.outgoing, out), (RULES.product, into * out)):
        scores = rule(weights, chain)
        assert scores.keys() == {"a.weight"} and scores["a.weight"].shape == writer.shape
        assert unit_scores(scores, "a.weight") == pytest.approx(raw / raw.mean())


def test_every_writer_of_a_real_net_is_scored_and_no_other() -> None:
    net = classifier()
    weights = sc.prunable(net, biases=True)
    pairs = sc.chains(net, images()[0][0])
    scores = RULES.outgoing(weights, pairs)
    assert list(scores) == ["0.weight", "4.weight"]
    assert not any(score.requires_grad for score in scores.values())
    raw = outgoing(weights["8.weight"].detach().double().numpy(), 6)
    assert unit_scores(scores, "4.weight") == pytest.approx(raw / raw.mean(), rel=1e-5)


@given(st.floats(1e-3, 1e3), st.integers(0, 3))
def test_the_product_does_not_see_a_shift_of_scale_between_layers(factor: float, unit: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (2, 4)))
    chain = [sc.Chain("a", "b", 1)]
    before = RULES.product({"a": a, "b": b}, chain)["a"]
    a[unit] *= factor
    b[:, unit] /= factor
    torch.testing.assert_close(RULES.product({"a": a, "b": b}, chain)["a"], before)


def test_a_silent_layer_scores_zero_and_not_nan() -> None:
    weights = {"a": torch.zeros(3, 2), "b": torch.ones(1, 3)}
    assert RULES.product(weights, [sc.Chain("a", "b", 1)])["a"].tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("rule", ["incoming", "outgoing", "product", "activity", "taylor"])
def test_units_that_are_gone_do_not_lift_those_that_are_left(rule: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 3, generator=generator), torch.randn(2, 6, generator=generator)
    shares = torch.rand(6, generator=generator)

    def scores(gone: list[int]) -> Tensor:
        left = torch.ones(6).index_fill(0, torch.tensor(gone, dtype=torch.long), 0)
        seen = Units(active={"a": shares * left}, taylor={"a": shares * left}, batches=1)
        stats = () if rule in ("incoming", "outgoing", "product") else (seen,)
        weights = {"a": a * left[:, None], "b": b * left}
        found: sc.Scores = getattr(RULES, rule)(weights, [sc.Chain("a", "b", 1)], *stats)
        return found["a"][:, 0]

    whole, after = scores([]), scores([1, 4])
    assert after[[1, 4]].tolist() == [0, 0]
    assert after[after > 0].mean().item() == pytest.approx(1)
    left = [0, 2, 3, 5]
    torch.testing.assert_close(after[left], whole[left] / whole[left].mean())


def test_statistics_of_a_net_computed_by_hand() -> None:
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        net.get_parameter("0.weight").copy_(torch.tensor([[1.0], [-2.0], [0.5]]))
        net.get_parameter("2.weight").copy_(torch.tensor([[3.0, 1.0, -4.0]]))
    pairs = sc.chains(net, torch.ones(1, 1))
    # Inputs 1, 2 then -1, 0: activations (1, 0, .5), (2, 0, 1) then (0, 2, 0), (0, 0, 0). The loss is the output, so
    # its slope in them is (3, 1, -4), and |a * slope| is (3, 0, 2), (6, 0, 4) then (0, 2, 0), (0, 0, 0).
    data = [(torch.tensor([[1.0], [2.0]]), torch.zeros(2)), (torch.tensor([[-1.0], [0.0]]), torch.zeros(2))]
    found = sc.stats.units(net, data, lambda y, _: y.mean(), pairs)
    assert found.batches == 2
    assert found.active["0.weight"].tolist() == [0.5, 0.25, 0.5]
    assert found.taylor["0.weight"].tolist() == [9 / 4, 2 / 4, 6 / 4]
    weights = sc.prunable(net)
    raw = np.array([9, 2, 6])
    assert unit_scores(RULES.taylor(weights, pairs, found), "0.weight") == pytest.approx(raw / raw.mean())
    raw = np.array([2, 1, 2])
    assert unit_scores(RULES.activity(weights, pairs, found), "0.weight") == pytest.approx(raw / raw.mean())


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))


# A net of which the last layer reads 6 units, the shape of an example, and the axis of units in what is read.
NETS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...], int]] = {
    "features": (dense, (4,), -1),
    "tokens": (dense, (7, 4), -1),
    "as many tokens as units": (dense, (6, 4), -1),
    "channels last": (dense, (3, 2, 4), -1),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(4, 6, 2), nn.ReLU(), nn.Conv1d(6, 5, 1)), (4, 5), 0),
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(4, 6, 2), nn.ReLU(), nn.Conv2d(6, 5, 1)), (4, 5, 3), 0),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(4, 6, 2), nn.ReLU(), nn.Conv3d(6, 5, 1)), (4, 3, 4, 3), 0),
    "flattened": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(36, 5)
        ),
        (4, 4, 3),
        -1,
    ),
    "unshuffled": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.PixelUnshuffle(2), nn.Conv2d(24, 5, 1)),
        (4, 4, 2),
        0,
    ),
}


def one_by_one(net: nn.Sequential, data: list[tuple[Tensor, Tensor]], axis: int) -> tuple[Array, Array]:
    """Share of non-zero activations and mean effect of 6 units, from one example at a time."""
    active, effects = [], []
    for x, y in data:
        for example, label in zip(x, y, strict=True):
            read = net[:-1](example[None]).detach().requires_grad_()
            functional.mse_loss(net[-1](read), label[None]).backward()
            assert read.grad is not None
            a, slope = (np.moveaxis(t[0].detach().double().numpy(), axis, 0).reshape(6, -1) for t in (read, read.grad))
            active.append((a != 0).mean(1))
            effects.append(np.abs((a * slope).mean(1)))
    return np.mean(active, axis=0), np.mean(effects, axis=0)


@pytest.mark.parametrize("name", NETS)
def test_statistics_of_units_equal_those_of_one_example_at_a_time(name: str) -> None:
    make, shape, axis = NETS[name]
    torch.manual_seed(len(name))
    net = make()
    x = torch.randn(12, *shape)
    y = torch.randn_like(net.eval()(x))
    data = list(zip(x.split(4), y.split(4), strict=True))
    active, effects = one_by_one(net, data, axis)
    (pair,) = pairs = sc.chains(net, x)
    found = sc.stats.units(net, data, functional.mse_loss, pairs)
    assert found.active[pair.writer].shape == found.taylor[pair.writer].shape == (6,)
    assert found.active[pair.writer].numpy() == pytest.approx(active, rel=1e-5)
    assert found.taylor[pair.writer].numpy() == pytest.approx(effects, rel=1e-4)
    scores = RULES.taylor(sc.prunable(net), pairs, found)
    assert unit_scores(scores, pair.writer) == pytest.approx(effects / effects[effects > 0].mean(), rel=1e-4)


def test_activity_is_taken_behind_the_pooling_where_the_next_layer_reads() -> None:
    net = classifier().eval()
    x, y = images()[0]
    pairs = sc.chains(net, x)
    found = sc.stats.units(net, [(x, y)], functional.cross_entropy, pairs)
    pooled = net[:4](x).detach().numpy()
    assert found.active["0.weight"].numpy() == pytest.approx([(pooled[:, u] != 0).mean() for u in range(4)])
    flat = net[:7](x).detach().numpy()
    assert found.active["4.weight"].numpy() == pytest.approx(
        [(flat[:, 4 * u : 4 * u + 4] != 0).mean() for u in range(6)]
    )
    assert all(0 < share < 1 for share in found.active["4.weight"].tolist())


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_the_model_is_left_as_it_was() -> None:
    net = classifier().train()
    net.get_submodule("1").eval()  # as when BatchNorm is frozen
    net.get_parameter("8.bias").grad = torch.full((5,), 7.0)
    modes = [module.training for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pairs = sc.chains(net, images()[0][0])
    with torch.no_grad():
        found = sc.stats.units(net, images(), functional.cross_entropy, pairs)
    with pytest.raises(RuntimeError):
        sc.stats.units(net, [*images(1), (torch.ones(2, 9, 4, 4), torch.zeros(2))], functional.cross_entropy, pairs)
    assert not any(tensor.requires_grad for tensor in [*found.active.values(), *found.taylor.values()])
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["8.bias"]
    assert (net.get_parameter("8.bias").grad == 7).all()  # type: ignore[union-attr]
    assert count_hooks(net) == 0


def test_frozen_and_compiled_models_have_the_same_statistics() -> None:
    net = classifier()
    pairs = sc.chains(net, images()[0][0])
    expected = sc.stats.units(net, images(), functional.cross_entropy, pairs)
    for model in (torch.compile(net, backend="eager"), net.requires_grad_(False)):
        found = sc.stats.units(model, images(), functional.cross_entropy, pairs)  # type: ignore[arg-type]
        for name in expected.taylor:
            assert torch.equal(found.active[name], expected.active[name])
            torch.testing.assert_close(found.taylor[name], expected.taylor[name])


def test_no_batch_is_refused_and_no_chain_is_no_statistics() -> None:
    net = classifier()
    with pytest.raises(SelectionError, match="no batch"):
        sc.stats.units(net, [], functional.cross_entropy, sc.chains(net, images()[0][0]))
    found = sc.stats.units(net, images(), functional.cross_entropy, [])
    assert (found.active, found.taylor, found.batches) == ({}, {}, 3)


@pytest.mark.filterwarnings("ignore::secateur.vocabulary.CollapseWarning")
@pytest.mark.parametrize("rule", ["incoming", "outgoing", "product", "activity", "taylor"])
@pytest.mark.parametrize("sparsity", [0.0, 0.35, 0.5, 0.9])
def test_selection_removes_the_lowest_units_of_all_layers_whole(rule: str, sparsity: float) -> None:
    net = classifier()
    pairs = sc.chains(net, images()[0][0])
    weights = sc.prunable(net, biases=True)
    stats = () if rule in ("incoming", "outgoing", "product") else (units_of(net, pairs),)
    scores: sc.Scores = getattr(RULES, rule)(weights, pairs, *stats)
    masks = sc.select(scores, sparsity, granularity=sc.Row(reduce="max"))
    ranked = sorted((score, name, u) for name in scores for u, score in enumerate(unit_scores(scores, name)))
    gone = {(name, unit) for _, name, unit in ranked[: round(sparsity * 10)]}
    assert {(n, u) for n, mask in masks.items() for u, row in enumerate(mask.flatten(1)) if not row.any()} == gone
    assert all(row.all() or not row.any() for mask in masks.values() for row in mask.flatten(1))
    sc.hold(torch.optim.SGD(net.parameters(), lr=0.1), masks).release()  # they know their parameters


def units_of(net: nn.Module, pairs: list[sc.Chain]) -> Units:
    return sc.stats.units(net, images(), functional.cross_entropy, pairs)


def test_units_chosen_and_dropped_are_gone_from_the_model() -> None:
    net = classifier().eval()
    x = images()[0][0]
    pairs = sc.chains(net, x)
    weights = sc.prunable(net, biases=True)
    rows = sc.select(RULES.product(weights, pairs), 0.5, granularity=sc.Row(reduce="max"))
    every = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
    masks, dead = sc.drop_dead(sc.Masks(every | dict(rows), weights.targets), pairs)
    assert dead.neurons == 5
    sc.apply(net, masks)
    gone = [u for u in range(6) if not masks["4.weight"][u].any()]
    y = net(x)
    net.get_parameter("4.weight").data[gone] = 9.0
    assert torch.equal(net(x), y)
