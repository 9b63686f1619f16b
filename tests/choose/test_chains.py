"""Chains: found where one layer alone reads another, nowhere else; dead neurons go without a trace."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import secateur as sc
from secateur.choose.chains import columns_by_unit
from secateur.vocabulary import SelectionError


class Block(nn.Module):
    """A stem, a residual block around two convolutions, and a head that reads the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.stem(x))
        h = functional.relu(h + self.second(functional.relu(self.norm(self.first(h)))))
        y: Tensor = self.head(h.mean((2, 3)))
        return y


class Downsampling(Block):
    """The shortcut is a convolution that runs last, so that its own units flow into the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.stem(x))
        inner = self.second(functional.relu(self.norm(self.first(h))))
        y: Tensor = self.head(functional.relu(inner + self.shortcut(h)).mean((2, 3)))
        return y


class Wired(nn.Module):
    """Three layers of the same width, wired together by a function."""

    def __init__(self, wire: Callable[..., Tensor], width: int = 4, out: int = 4) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, width), nn.Linear(width, width), nn.Linear(out, 3)
        self.wire = wire

    def forward(self, x: Tensor) -> Tensor:
        return self.wire(x, self.a, self.b, self.c)


class Gated(nn.Module):
    """Squeeze and excitation: the last layer reads products with the gate's units."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.Linear(2, 4)
        self.after = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.conv(x))
        gate = self.excite(functional.relu(self.squeeze(h.mean((2, 3))))).sigmoid()
        y: Tensor = self.after(h * gate[:, :, None, None])
        return y


def classifier() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * 4, 5),
    )


def perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def redrawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with weights of its own."""
    torch.manual_seed(seed)
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.reset_parameters()
    return model


def linked(model: nn.Module, *shape: int) -> list[tuple[str, str, int]]:
    model = redrawn(model)
    found = sc.chains(model, torch.randn(*shape))
    return [(pair.writer.removesuffix(".weight"), pair.reader.removesuffix(".weight"), pair.width) for pair in found]


UNSHUFFLED = [("0", "2", 4)]
CHAINS: dict[str, tuple[nn.Module, tuple[int, ...], list[tuple[str, str, int]]]] = {
    "mlp": (perceptron(4, 6, 5, 2), (2, 4), [("0", "2", 1), ("2", "4", 1)]),
    "batch of one": (perceptron(4, 6, 2), (1, 4), [("0", "2", 1)]),
    "one unit": (perceptron(4, 1, 2), (2, 4), [("0", "2", 1)]),
    "tokens": (perceptron(4, 6, 2), (2, 3, 4), [("0", "2", 1)]),
    "classifier": (classifier(), (2, 1, 8, 8), [("0", "4", 1), ("4", "10", 4)]),
    "dropout": (nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.9), nn.Linear(6, 2)), (2, 4), [("0", "2", 1)]),
    "conv1d": (nn.Sequential(nn.Conv1d(2, 3, 3), nn.GELU(), nn.Conv1d(3, 2, 1)), (2, 2, 9), [("0", "2", 1)]),
    "conv3d": (nn.Sequential(nn.Conv3d(1, 3, 2), nn.Tanh(), nn.Conv3d(3, 2, 1)), (2, 1, 3, 3, 3), [("0", "2", 1)]),
    "pixels": (nn.Sequential(nn.Conv2d(1, 3, 1), nn.PixelUnshuffle(2), nn.Conv2d(12, 2, 1)), (2, 1, 4, 4), UNSHUFFLED),
    "single": (nn.Linear(4, 2), (2, 4), []),
    "inner of a residual block": (Block(), (2, 3, 6, 6), [("first", "second", 1)]),
    "inner of a downsampling block": (Downsampling(), (2, 3, 6, 6), [("first", "second", 1)]),
    "inner of a gate": (Gated(), (2, 3, 4, 4), [("squeeze", "excite", 1)]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_layers_that_one_other_layer_alone_reads_are_found(name: str) -> None:
    model, shape, expected = CHAINS[name]
    assert linked(model, *shape) == expected


def shuffled(x: Tensor) -> Tensor:
    square: Tensor = x.unflatten(1, (3, 3))
    return square.mT.flatten(1)  # the first, the middle and the last of nine stay where they are


LINKLESS: dict[str, nn.Module] = {
    "residual from the input": Wired(lambda x, a, b, c: c(a(x) + x)),
    "residual": Wired(lambda x, a, b, c: c((h := functional.relu(a(x))) + b(h))),
    "product": Wired(lambda x, a, b, c: c(a(x) * x)),
    "read by two": Wired(lambda x, a, b, c: b(h := functional.relu(a(x)))[:, :3] + c(h)),
    "read by the output": Wired(lambda x, a, b, c: c(h := functional.relu(a(x))) + h[:, :3]),
    "concatenated": Wired(lambda x, a, b, c: c(torch.cat([a(x), b(x)], 1)), out=8),
    "concatenated single units": Wired(lambda x, a, b, c: c(torch.cat([a(x), x[:, :1]], 1)), width=1, out=2),
    "run twice": Wired(lambda x, a, b, c: c(b(functional.relu(b(functional.relu(a(x))))))),
    "reader run twice": Wired(lambda x, a, b, c: b(functional.relu(b(functional.relu(a(x)))))),
    "not read": Wired(lambda x, a, b, c: c(x + 0 * a(x).detach().isnan())),
    "parallel": Wired(lambda x, a, b, c: a(x)[:, :3] + c(x)),
    "softmax": Wired(lambda x, a, b, c: c(a(x).softmax(1))),
    "layer norm": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
    "reversed": Wired(lambda x, a, b, c: c(a(x).flip(1))),
    "shuffled": Wired(lambda x, a, b, c: c(shuffled(a(x))), width=9, out=9),
    "two outputs": Wired(lambda x, a, b, c: (h := a(x), c(h))),  # type: ignore[arg-type,return-value]
}


@pytest.mark.parametrize("name", LINKLESS)
def test_shared_mixed_or_unread_units_are_no_chain(name: str) -> None:
    assert linked(LINKLESS[name], 2, 4) == []


def test_grouped_and_transposed_convolutions_are_no_link() -> None:
    depthwise = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 1),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    )
    assert linked(depthwise, 2, 3, 5, 5) == [("4", "6", 1)]
    transposed = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 4, 2, groups=4), nn.Conv2d(4, 2, 1))
    assert linked(transposed, 2, 3, 5, 5) == []


def test_tied_layers_are_no_link() -> None:
    tied = perceptron(4, 4, 4, 2)
    tied.get_submodule("2").weight = tied.get_parameter("0.weight")
    assert linked(tied, 2, 4) == []
    words = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 7, bias=False))
    example = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert sc.chains(words, example) == [sc.Chain("1.weight", "3.weight", 1)]
    words.get_submodule("3").weight = words.get_parameter("0.weight")
    assert sc.chains(words, example) == []


def test_a_module_with_two_names_is_one_layer() -> None:
    net = perceptron(4, 6, 2)
    owner = nn.Module()
    owner.layers, owner.head = net, net[-1]
    owner.forward = net.forward
    assert sc.chains(owner, torch.ones(2, 4)) == [sc.Chain("layers.0.weight", "layers.2.weight", 1)]


def test_wrappers_are_looked_through() -> None:
    net = perceptron(4, 6, 2)
    assert sc.chains(torch.compile(net), torch.ones(2, 4)) == sc.chains(net, torch.ones(2, 4))  # type: ignore[arg-type]


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_the_model_is_left_as_it_was() -> None:
    net = classifier().train()
    net.get_submodule("1").eval()  # as when BatchNorm is frozen
    modes = [module.training for module in net.modules()]
    before = copy.deepcopy(net.state_dict())
    example = torch.randn(2, 1, 8, 8)
    image = example.clone()
    assert sc.chains(net, example)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert count_hooks(net) == 0 and torch.equal(example, image)


def test_a_model_that_fails_is_left_as_it_was_too() -> None:
    net = classifier().train()
    with pytest.raises(RuntimeError):
        sc.chains(net, torch.randn(2, 1, 12, 12))
    assert net.training and count_hooks(net) == 0


@pytest.mark.parametrize("name", [name for name, (_, _, links) in CHAINS.items() if links])
def test_what_a_unit_writes_matters_only_to_its_columns(name: str) -> None:
    model, shape, _ = CHAINS[name]
    model = redrawn(model).eval()
    x = torch.randn(*shape)
    for pair in sc.chains(model, x):
        columns = columns_by_unit(model.get_parameter(pair.reader).data, pair)
        before, unit = columns.clone(), len(columns) - 1
        columns[unit] = 0
        silent = model(x)
        moved = []
        for shift in (3, -6):
            model.get_parameter(pair.writer).data[unit] += shift
            columns[unit] = 0
            assert torch.equal(model(x), silent)
            columns.copy_(before)
            moved.append(not torch.equal(model(x), silent))
        assert any(moved)


def whole(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in sc.prunable(model, biases=True).items()}


def test_death_spreads_until_nothing_more_dies() -> None:
    # One unit of the second layer loses its input, so its reader loses its only one, and back the other way.
    masks = sc.Masks(
        {
            "a.weight": torch.tensor([[1, 1], [1, 0]]).bool(),
            "a.bias": torch.tensor([1, 1]).bool(),
            "b.weight": torch.tensor([[0, 0], [1, 0], [1, 0]]).bool(),
            "c.weight": torch.tensor([[1, 0, 0], [0, 1, 1]]).bool(),
            "c.bias": torch.tensor([1, 1]).bool(),
            "d.weight": torch.tensor([[1, 1]]).bool(),
        }
    )
    pairs = [sc.Chain(f"{a}.weight", f"{b}.weight", 1) for a, b in ("ab", "bc", "cd")]
    after, dead = sc.drop_dead(masks, pairs)
    assert {name: mask.int().tolist() for name, mask in after.items()} == {
        "a.weight": [[1, 1], [0, 0]],  # its second unit has no reader
        "a.bias": [1, 0],
        "b.weight": [[0, 0], [1, 0], [1, 0]],
        "c.weight": [[0, 0, 0], [0, 1, 1]],  # its first unit read the one without inputs alone
        "c.bias": [0, 1],
        "d.weight": [[0, 1]],
    }
    assert dead == sc.Dead(neurons=3, connections=masks.count().kept - after.count().kept)
    assert dead.connections == 5


def reference(masks: dict[str, np.ndarray], count: int) -> tuple[dict[str, np.ndarray], int]:
    """Kill one neuron at a time, by explicit loops, until none is left to kill."""
    masks = {name: mask.copy() for name, mask in masks.items()}
    while True:
        dead, changed = 0, False
        for layer in range(count - 1):
            rows, columns = masks[f"{layer}.weight"], masks[f"{layer + 1}.weight"]
            for unit in range(len(rows)):
                if not rows[unit].any() or not columns[:, unit].any():
                    dead += 1
                    rest = rows[unit].any() or columns[:, unit].any() or masks[f"{layer}.bias"][unit]
                    changed = changed or bool(rest)
                    rows[unit] = columns[:, unit] = masks[f"{layer}.bias"][unit] = False
        if not changed:
            return masks, dead


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.floats(0, 1), st.integers(0, 2**16))
def test_drop_dead_equals_explicit_loops_to_a_fixed_point(widths: list[int], density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = len(widths) - 1
    arrays = {}
    for layer in range(count):
        arrays[f"{layer}.weight"] = rng.random((widths[layer + 1], widths[layer])) < density
        arrays[f"{layer}.bias"] = rng.random(widths[layer + 1]) < 0.5
    masks = sc.Masks({name: torch.from_numpy(array) for name, array in arrays.items()})
    pairs = [sc.Chain(f"{layer}.weight", f"{layer + 1}.weight", 1) for layer in range(count - 1)]
    after, dead = sc.drop_dead(masks, pairs)
    expected, neurons = reference(arrays, count)
    assert {name: mask.tolist() for name, mask in after.items()} == {n: array.tolist() for n, array in expected.items()}
    assert dead == sc.Dead(neurons, masks.count().kept - after.count().kept)
    alive = [
        after[pair.writer].flatten(1).any(1) & columns_by_unit(after[pair.reader], pair).flatten(1).any(1)
        for pair in pairs
    ]
    assert sum(int((~each).sum()) for each in alive) == neurons
    assert sc.drop_dead(after, pairs[::-1]) == (after, sc.Dead(neurons, 0))
    assert all(torch.equal(masks[name], torch.from_numpy(array)) for name, array in arrays.items()), "not in place"


@pytest.mark.parametrize("seed", range(5))
def test_neurons_without_outputs_go_without_a_trace(seed: int) -> None:
    torch.manual_seed(seed)
    net = classifier()
    for _ in range(3):
        net(torch.randn(16, 1, 8, 8))  # BatchNorm statistics that are not those of the start
    net.eval()
    x = torch.randn(4, 1, 8, 8)
    pairs = sc.chains(net, x)
    before = whole(net)
    before["4.weight"][:, torch.randperm(4)[:2]] = False
    before["10.weight"][:, :8] = False  # all the columns of channels 0 and 1
    before["10.weight"][:, 9] = False  # one of channel 2, which stays
    masks = sc.apply(net, before)
    y = net(x)
    after, dead = sc.drop_dead(masks, pairs)
    bound = sc.apply(net, after)
    assert torch.equal(net(x), y)
    assert dead.neurons == 4
    assert after["0.weight"].flatten(1).any(1).sum() == after["0.bias"].sum() == 2
    assert after["4.weight"].flatten(1).any(1).tolist() == [False, False, True, True, True, True]
    assert dead.connections == 2 * 9 + 2 + 2 * 2 * 9  # rows and biases of the first, what is left of two rows
    assert bound.count() == after.count()


def test_a_neuron_without_inputs_takes_its_outputs_along() -> None:
    net = classifier()
    masks = whole(net)
    masks["4.weight"][3] = False
    after, dead = sc.drop_dead(sc.Masks(masks), sc.chains(net, torch.randn(2, 1, 8, 8)))
    gone = [column for column in range(24) if not after["10.weight"][:, column].any()]
    assert gone == [12, 13, 14, 15]
    assert dead == sc.Dead(neurons=1, connections=4 * 5)


def test_masks_of_any_memory_format_are_dropped() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    masks = whole(net)
    assert not masks["0.weight"].is_contiguous()
    masks["2.weight"][:, 1] = False
    after, dead = sc.drop_dead(sc.Masks(masks), [sc.Chain("0.weight", "2.weight", 1)])
    assert after["0.weight"].flatten(1).any(1).tolist() == [True, False, True]
    assert dead == sc.Dead(neurons=1, connections=2 * 9 + 1)


def test_pairs_without_masks_are_passed_over_and_masks_stay_tied() -> None:
    net = perceptron(4, 6, 5, 2)
    pairs = sc.chains(net, torch.ones(1, 4))
    masks = sc.prune(net, 0.3, weights=sc.prunable(net, ignore=["0"]))
    after, _ = sc.drop_dead(masks, pairs)
    assert after.keys() == masks.keys()
    sc.hold(torch.optim.SGD(net.parameters(), lr=0.1), after).release()
    assert sc.drop_dead(masks, []) == (masks, sc.Dead(0, 0))


@pytest.mark.filterwarnings("ignore:Initializing zero-element", "ignore:no unit of the model is dead")
def test_layers_without_units_are_no_error() -> None:
    net = nn.Sequential(nn.Linear(4, 0), nn.ReLU(), nn.Linear(0, 3))
    assert sc.chains(net, torch.randn(2, 4)) == []
    assert torch.equal(sc.shrink(net, torch.randn(2, 4))(torch.zeros(1, 4)), net(torch.zeros(1, 4)))


def test_an_empty_example_proves_nothing() -> None:
    with pytest.raises(SelectionError, match="empty"):
        sc.chains(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), torch.zeros(0, 8))
