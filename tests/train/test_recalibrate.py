"""Recalibration: statistics against NumPy, and all else as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc


def data(seed: int, *sizes: int, shape: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, *shape, generator=generator) * 2 + 1 for size in sizes]


def expected(batches: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Plain means over batches of channel means and of unbiased variances."""
    flat = [np.moveaxis(batch.double().numpy(), 1, 0).reshape(batch.shape[1], -1) for batch in batches]
    return np.mean([x.mean(1) for x in flat], axis=0), np.mean([x.var(1, ddof=1) for x in flat], axis=0)


def statistics(net: nn.Module, name: str) -> tuple[np.ndarray, np.ndarray]:
    return net.get_buffer(f"{name}.running_mean").numpy(), net.get_buffer(f"{name}.running_var").numpy()


KINDS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "features": (nn.BatchNorm1d, (3,)),
    "sequences": (nn.BatchNorm1d, (3, 4)),
    "images": (nn.BatchNorm2d, (3, 4, 2)),
    "volumes": (nn.BatchNorm3d, (3, 2, 2, 2)),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(2, 5), min_size=1, max_size=4), seed=st.integers(0, 2**16))
def test_statistics_are_the_plain_means_over_batches(kind: str, sizes: list[int], seed: int) -> None:
    make, shape = KINDS[kind]
    net = nn.Sequential(make(3))
    batches = data(seed, *sizes, shape=shape)
    assert sc.recalibrate(net, iter(batches)) == 1
    mean, variance = expected(batches)
    assert statistics(net, "0")[0] == pytest.approx(mean, rel=1e-4, abs=1e-5)
    assert statistics(net, "0")[1] == pytest.approx(variance, rel=1e-4)
    assert int(net.get_buffer("0.num_batches_tracked")) == len(sizes)


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4, momentum=None),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def test_a_norm_behind_another_sees_what_a_training_batch_would_send_it_without_dropout() -> None:
    net = deep().double()
    net.get_parameter("1.weight").data.uniform_(0.5, 2)
    net.get_parameter("1.bias").data.uniform_(-1, 1)
    batches = [batch.double() for batch in data(1, 6, 6, 6, shape=(2, 4, 4))]
    assert sc.recalibrate(net, batches) == 2
    first, second = net.get_parameter("0.weight").detach(), net.get_parameter("4.weight").detach()
    seen, passed = [], []
    for batch in batches:
        x = nn.functional.conv2d(batch, first)
        seen.append(x)
        a = np.moveaxis(x.numpy(), 1, -1)
        normed = (a - a.mean((0, 1, 2))) / np.sqrt(a.var((0, 1, 2)) + 1e-5)
        scale, shift = (net.get_parameter(f"1.{key}").detach().numpy() for key in ("weight", "bias"))
        h = np.maximum(normed * scale + shift, 0) @ second[:, :, 0, 0].numpy().T
        h = h + net.get_parameter("4.bias").detach().numpy()
        passed.append(torch.from_numpy(np.moveaxis(h, -1, 1).copy()))
    for name, read in (("1", seen), ("5", passed)):
        assert statistics(net, name)[0] == pytest.approx(expected(read)[0])
        assert statistics(net, name)[1] == pytest.approx(expected(read)[1])


@pytest.mark.parametrize("training", [True, False])
def test_weights_modes_momentum_and_gradients_stay(training: bool) -> None:
    net = deep().train(training)
    net.get_submodule("1").train(not training)
    net.get_parameter("7.bias").grad = torch.ones(2)
    modes = [module.training for module in net.modules()]
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    sc.recalibrate(net, data(0, 4, 4, shape=(2, 4, 4)))
    assert [module.training for module in net.modules()] == modes
    assert [net.get_submodule(name).momentum for name in ("1", "5")] == [0.3, None]
    assert all(torch.equal(parameter, before[name]) for name, parameter in net.named_parameters())
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["7.bias"]


def test_modes_and_momentum_come_back_after_a_failure() -> None:
    net = deep().train()
    with pytest.raises(RuntimeError):
        sc.recalibrate(net, [*data(0, 4, shape=(2, 4, 4)), torch.ones(4, 9, 4, 4)])
    assert all(module.training for module in net.modules())
    assert [net.get_submodule(name).momentum for name in ("1", "5")] == [0.3, None]


def test_nothing_to_learn_from_changes_nothing() -> None:
    net = deep()
    net(torch.randn(8, 2, 4, 4))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert sc.recalibrate(net, []) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_model_without_statistics_counts_none_and_is_not_run() -> None:
    plain = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2))
    assert sc.recalibrate(plain, [torch.ones(1, 99)]) == 0


def test_the_order_of_batches_and_earlier_statistics_do_not_count() -> None:
    batches = data(3, 4, 4, 4, shape=(2, 4, 4))
    first, second = deep(), deep()
    for _ in range(5):
        second(torch.randn(8, 2, 4, 4) * 9)
    sc.recalibrate(first, batches)
    sc.recalibrate(second, batches[::-1])
    for name in ("1", "5"):
        for a, b in zip(statistics(first, name), statistics(second, name), strict=True):
            assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


def test_a_pruned_net_is_normalised_by_its_own_statistics_and_zeros_stay() -> None:
    net = deep()
    for _ in range(20):
        net(torch.randn(32, 2, 4, 4))
    masks = sc.prune(net, 0.5)
    x = torch.randn(256, 2, 4, 4)
    assert sc.recalibrate(torch.compile(net), [x]) == 2  # type: ignore[arg-type]
    y = net.eval()[:2](x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(3), atol=1e-2, rtol=0)
    assert all((net.get_parameter(name)[~mask] == 0).all() for name, mask in masks.items())


def test_a_failing_pass_leaves_statistics_and_modes_as_they_were() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)).eval()
    sc.recalibrate(net, [torch.full((4, 2), 5.0)])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(TypeError, match="inputs alone, and one is a tuple"):
        sc.recalibrate(net, [torch.ones(4, 2), (torch.ones(4, 2), torch.ones(4))])  # type: ignore[list-item]
    with pytest.raises(RuntimeError):
        sc.recalibrate(net, [torch.ones(4, 3)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not net[0].training and net[0].momentum == 0.1
