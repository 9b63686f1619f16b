"""Weights share few values: the right ones, and still the right ones after anyone's loop has trained them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional
from wrapping import Lookahead

import secateur as sc
from secateur.train.share import kmeans, shared
from secateur.vocabulary import BadTargetError, CorruptFileError, SelectionError


def make_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    sc.prune(net, 0.6)
    return net


def work(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 5
    for _ in range(steps):
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


def values_of(weight: torch.Tensor) -> int:
    return len(weight.detach()[weight.detach() != 0].unique())


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.002, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.005),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.005, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001),
    "around another": lambda p: Lookahead(torch.optim.Adam(p, lr=0.01)),
}


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_as_good_as_those_of_scikit_learn_from_the_same_start(seed: int) -> None:
    torch.manual_seed(seed)
    values = torch.cat([torch.randn(3000), 0.3 * torch.randn(500) + 4]).double()
    centroids, labels = kmeans(values, 16)
    start = np.linspace(float(values.min()), float(values.max()), 16)[:, None]
    reference = KMeans(16, n_init=1, init=start).fit(values.numpy()[:, None]).inertia_
    error = float(((values - centroids[labels]) ** 2).sum())
    assert len(centroids) == 16
    assert error < 1.01 * reference
    nearest = (values[:, None] - centroids).abs().argmin(1)
    assert torch.equal(nearest, labels)


def test_a_far_value_does_not_take_all_centroids() -> None:
    values = torch.cat([torch.randn(1000), torch.tensor([1e4])])
    centroids, labels = kmeans(values, 8)
    assert len(centroids) == 8
    assert float((values - centroids[labels]).abs().mean()) < 0.3


@pytest.mark.parametrize("values", [[], [3.0], [1.0, 1.0], [1.0, 2.0, 4.0, 2.0]])
def test_few_different_values_stay_as_they_are(values: list[float]) -> None:
    tensor = torch.tensor(values)
    centroids, labels = kmeans(tensor, 4)
    assert torch.equal(centroids[labels].float(), tensor)


def test_sharing_is_deterministic_and_keeps_zeros() -> None:
    weight = torch.randn(50, 40)
    weight[torch.rand(50, 40) < 0.7] = 0
    one, other = shared("w", weight, 3), shared("w", weight.clone(), 3)
    assert torch.equal(one, other)
    assert torch.equal(one == 0, weight == 0)
    assert values_of(one) == 8


def test_the_gradient_of_a_centroid_is_the_sum_over_its_members() -> None:
    net = nn.Linear(6, 1, bias=False)
    net.weight.data = torch.tensor([[1.0, 1.0, 2.0, 2.0, 2.0, 0.0]])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    with sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=1)):
        (net.weight * torch.tensor([1.0, 3.0, -1.0, -1.0, -2.0, 9.0])).sum().backward()
        optimizer.step()
    assert net.weight.tolist() == [[-1.0, -1.0, 4.0, 4.0, 4.0, 0.0]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_share_values_through_training(name: str) -> None:
    net = make_net()
    optimizer = OPTIMIZERS[name](net.parameters())
    work(net, optimizer, 5)  # so that states differ from weight to weight
    sc.prune(net, 0.6)
    zeros = {key: p == 0 for key, p in net.named_parameters()}
    books = sc.codebooks(sc.prunable(net, biases=True), bits={"0.weight": 3, "4.weight": 4, "0.bias": 2, "4.bias": 2})
    before = {key: books[key].clone() for key in books}
    with sc.share(optimizer, books):
        work(net, optimizer, 50)
        for key, bits in (("0.weight", 3), ("4.weight", 4), ("4.bias", 2)):
            assert values_of(net.get_parameter(key)) <= 2**bits
    for key in ("0.weight", "4.weight"):
        assert torch.equal(net.get_parameter(key) == 0, zeros[key])
        kept = net.get_parameter(key).detach()[~zeros[key]]
        assert set(kept.tolist()) <= set(books[key].tolist())
        assert not torch.equal(before[key], books[key])


def test_training_helps() -> None:
    net = make_net()
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 5
    work(net, torch.optim.Adam(net.parameters(), lr=0.01), 100)
    sc.prune(net, 0.6)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.002)
    with sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=1)):
        untrained = float(functional.cross_entropy(net(x), y))
        work(net, optimizer, 60)
        assert float(functional.cross_entropy(net(x), y)) < 0.7 * untrained


def test_it_goes_on_from_its_state() -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, sc.Sharing]:
        net = make_net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.002)
        return net, optimizer, sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=2))

    whole, optimizer, _ = start()
    work(whole, optimizer, 20)

    first, optimizer, sharing = start()
    work(first, optimizer, 10)
    state, model = sharing.codebooks.state_dict(), copy.deepcopy(first.state_dict())
    second, optimizer, sharing = start()
    second.load_state_dict(model)
    sharing.codebooks.load_state_dict(state)
    work(second, optimizer, 10)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_small_steps_are_not_lost_in_rounding() -> None:
    net = nn.Linear(4, 1, bias=False)
    net.weight.data = torch.full((1, 4), 1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5)
    with sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=1)):
        for _ in range(1000):
            net.weight.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert net.weight[0, 0].item() == pytest.approx(1 - 1000 * 4e-5, abs=4e-3)


def test_released_weights_move_alone_again() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=1)).release()
    assert values_of(net[4].weight) == 2
    work(net, optimizer, 3)
    assert values_of(net[4].weight) > 2


def test_it_stands_beside_hold_and_packs_exactly(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    masks = sc.apply(net, {name: weight != 0 for name, weight in sc.prunable(net).items()})
    books = sc.codebooks(sc.prunable(net), bits=4)
    with sc.hold(optimizer, masks), sc.share(optimizer, books):
        work(net, optimizer, 20)
    packed = sc.pack(net, tmp_path / "x.sct", masks=masks)
    assert 0 < packed.records["4.weight"].codes <= 16
    assert torch.equal(sc.unpack(tmp_path / "x.sct")["4.weight"], net[4].weight)


def test_bad_input_is_named() -> None:
    net = make_net()
    with pytest.raises(SelectionError, match="1 to 8 bits, got 9"):
        sc.codebooks(sc.prunable(net), bits=9)
    with pytest.raises(BadTargetError, match=r"'4\.weight'"):
        sc.codebooks(sc.prunable(net), bits={"0.weight": 3})
    with pytest.raises(TypeError, match="Optimizer"):
        sc.share(net, sc.codebooks(sc.prunable(net)))  # type: ignore[arg-type]
    books = sc.codebooks(sc.prunable(net))
    state = books.state_dict()
    with pytest.raises(CorruptFileError, match="lacks"):
        books.load_state_dict({})
    with pytest.raises(CorruptFileError, match="does not fit"):
        books.load_state_dict({**state, "0.weight/labels": state["0.weight/labels"] + 100})
    net[4].weight.data[0, 0] = float("nan")
    with pytest.raises(BadTargetError, match=r"'4\.weight' holds NaN"):
        sc.codebooks(sc.prunable(net))
    books, net = sc.codebooks(sc.prunable(make_net())), None
    with pytest.raises(BadTargetError, match="gone"):
        books.apply()


def test_half_precision_centroids_are_those_of_the_type() -> None:
    weight = torch.randn(30, 30).half()
    assert values_of(shared("w", weight, 3)) <= 8
    assert np.isfinite(shared("w", weight, 3).numpy()).all()


def test_a_closure_moves_centroids_as_a_plain_step_does() -> None:
    weights = []
    for closed in (False, True):
        net = make_net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

        def closure(net: nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = net(torch.ones(3, 1, 6, 6)).square().mean()
            loss.backward()
            return loss

        with sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=2)):
            if closed:
                optimizer.step(closure)  # type: ignore[arg-type]
            else:
                closure()
                optimizer.step()
        weights.append(net[4].weight.detach())
    assert torch.equal(*weights)


@pytest.mark.parametrize(("dtype", "value"), [(torch.float32, 3.4e38), (torch.float64, 1e300), (torch.float64, 1e-300)])
def test_centroids_that_no_bfloat16_is_near_stay_as_they_are(dtype: torch.dtype, value: float) -> None:
    weight = nn.Parameter(torch.tensor([[value, value], [1.0, 2.0]], dtype=dtype))
    assert set(shared("weight", weight.detach(), 2).flatten().tolist()) == {weight[0, 0].item(), 1.0, 2.0}
