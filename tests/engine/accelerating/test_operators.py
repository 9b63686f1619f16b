"""The operators of torch: what torch demands of them, in compiled and exported graphs, and when weights change."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from sparse_networks import apart, convnet
from torch import Tensor, nn

import secateur as sc
from secateur import native
from secateur.engine.accelerating import known
from secateur.engine.accelerating.operators import GradientError, window_of

pytestmark = [
    pytest.mark.skipif(not native.available(), reason=str(native.why_not())),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]
ops = torch.ops.secateur


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 1, 3, 5)])
def test_torch_finds_nothing_wrong_with_products(transposed: bool, shape: tuple[int, ...]) -> None:
    weight, bias = torch.randn(4, 5), torch.randn(4)
    args = (torch.randn(shape), weight.t().contiguous() if transposed else weight, bias, transposed, 0)
    torch.library.opcheck(ops.sparse_linear.default, args)
    assert apart(ops.sparse_linear(*args), nn.functional.linear(args[0], weight, bias)) < 1e-6


@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (4, 7, 6)])
def test_torch_finds_nothing_wrong_with_convolutions(shape: tuple[int, ...]) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).requires_grad_(False)
    args = (torch.randn(shape), layer.weight.detach(), layer.bias, [2, 2, 1, 1, 1, 1, 1, 1, 2], 1)
    torch.library.opcheck(ops.sparse_conv.default, args)
    assert apart(ops.sparse_conv(*args), layer(args[0])) < 1e-6


def test_padding_may_differ_on_every_side() -> None:
    x, weight = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 2, 3)
    found = ops.sparse_conv(x, weight, None, [1, 2, 1, 2, 0, 3, 1, 1, 1], 1)
    assert apart(found, nn.functional.conv2d(nn.functional.pad(x, (0, 3, 1, 2)), weight, stride=(1, 2))) < 1e-6
    line = torch.randn(2, 3, 8)
    found = ops.sparse_conv(line, weight[:, :, 0], None, [1, 1, 0, 0, 4, 1, 1, 2, 1], 1)
    assert apart(found, nn.functional.conv1d(nn.functional.pad(line, (4, 1)), weight[:, :, 0], dilation=2)) < 1e-6


def test_empty_inputs_give_empty_outputs() -> None:
    assert ops.sparse_linear(torch.zeros(0, 5), torch.ones(4, 5), None, False, 1).shape == (0, 4)
    assert ops.sparse_conv(
        torch.zeros(0, 3, 4, 4), torch.ones(2, 3, 1, 1), None, [1, 1, 0, 0, 0, 0, 1, 1, 1], 1
    ).shape == (*(0, 2, 4, 4),)


def test_what_does_not_fit_is_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ops.sparse_linear(torch.zeros(2, 3), torch.ones(4, 5), None, False, 1)
    plain = [1, 1, 0, 0, 0, 0, 1, 1, 1]
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        ops.sparse_conv(torch.zeros(1, 2, 4, 4), torch.ones(2, 3, 1, 1), None, plain, 1)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        ops.sparse_conv(torch.zeros(1, 3, 4, 4), torch.ones(2, 3, 5, 5), None, plain, 1)
    with pytest.raises(RuntimeError, match="Expected 3D"):
        ops.sparse_conv(torch.zeros(4), torch.ones(2, 3, 5, 5), None, plain, 1)


def test_gradients_are_refused_rather_than_lost() -> None:
    x, weight = torch.randn(2, 5, requires_grad=True), torch.randn(4, 5)
    with pytest.raises(GradientError, match="no_grad"):
        ops.sparse_linear(x, weight, None, False, 1)
    with torch.no_grad():
        assert not ops.sparse_linear(x, weight, None, False, 1).requires_grad


def test_weights_of_inference_mode_are_multiplied_as_they_are() -> None:
    # Nothing counts how often they change.
    with torch.inference_mode():
        weight = torch.ones(4, 5)
        before = ops.sparse_linear(torch.ones(1, 5), weight, None, False, 1)
        weight.zero_()
        after = ops.sparse_linear(torch.ones(1, 5), weight, None, False, 1)
    assert before.tolist() == [[5.0] * 4] and not after.any()


@pytest.mark.parametrize("how", ["in place", "data", "other memory", "bias", "data of the bias", "other bias"])
def test_changed_weights_are_noticed(how: str) -> None:
    net = nn.Linear(20, 30).requires_grad_(False)
    fast, x = sc.accelerate(net, above=0), torch.randn(3, 20)
    assert apart(fast(x), net(x)) < 1e-6
    other = nn.Linear(20, 30).requires_grad_(False)
    if how == "in place":
        net.load_state_dict(other.state_dict())
    elif how == "data":
        net.weight.data.copy_(other.weight)
    elif how == "other memory":
        fast.weight.data = net.weight.data = other.weight.clone()
    elif how == "bias":
        net.bias.mul_(2)
    elif how == "data of the bias":
        net.bias.data.mul_(2)
    else:
        fast.bias = net.bias = other.bias
    assert apart(fast(x), net(x)) < 1e-6


def test_what_was_made_goes_with_the_weights() -> None:
    gc.collect()
    before = len(known._KNOWN)
    net = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
    fast = sc.accelerate(net, above=0)
    fast(torch.randn(3, 20))
    assert len(known._KNOWN) == before + 2
    del net, fast
    gc.collect()
    assert len(known._KNOWN) == before


def test_views_of_one_memory_are_kept_apart() -> None:
    both = torch.randn(2, 4, 5)
    x = torch.randn(3, 5)
    biases = (None, both[0, :, 0], both[0, :, 1], both[0, 0, :4])
    for _ in range(2):
        for weight, bias in ((both[0], None), *((both[1], each) for each in biases)):
            found = ops.sparse_linear(x, weight, bias, False, 1)
            assert apart(found, nn.functional.linear(x, weight, bias)) < 1e-6
    square = both[0, :, :4]
    assert apart(ops.sparse_linear(x[:, :4], square, None, True, 1), x[:, :4] @ square) < 1e-6
    assert apart(ops.sparse_linear(x[:, :4], square, None, False, 1), x[:, :4] @ square.t()) < 1e-6


def test_many_threads_may_call_one_convnet() -> None:
    net = convnet()
    fast = sc.accelerate(net)
    inputs = [torch.randn(1 + number % 3, 3, 6 + number % 4, 9) for number in range(24)]
    with torch.no_grad():
        wanted = [net(x) for x in inputs]
    found: dict[int, Tensor] = {}

    def work(first: int) -> None:
        for number in range(first, 24, 6):
            found[number] = fast(inputs[number])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(apart(found[number], each.detach()) for number, each in enumerate(wanted)) < 1e-6


def test_windows_of_lines_and_images() -> None:
    assert window_of(torch.zeros(2, 3, 4, 5), [1, 2, 3, 4, 5, 6, 7, 8, 9]).numbers == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_exported_programs_take_any_size_and_are_loaded_elsewhere(tmp_path: Path) -> None:
    net = convnet()
    batch, height = torch.export.Dim("batch"), torch.export.Dim("height", min=4)
    example = torch.randn(2, 3, 8, 8)
    program = torch.export.export(sc.accelerate(net), (example,), dynamic_shapes=({0: batch, 2: height},))
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called.count(ops.sparse_conv.default) == 2 and called.count(ops.sparse_linear.default) == 1
    assert set(program.state_dict) == set(net.state_dict())
    x = torch.randn(5, 3, 13, 8)
    with torch.no_grad():
        wanted = net(x)
    assert apart(program.module()(x), wanted) < 1e-6
    torch.export.save(program, tmp_path / "net.pt2")
    torch.save((x, wanted), tmp_path / "pair.pt")
    code = f"""
import torch
import secateur.engine.accelerating
program = torch.export.load({str(tmp_path / "net.pt2")!r})
x, wanted = torch.load({str(tmp_path / "pair.pt")!r})
assert (program.module()(x) - wanted).abs().max() < 1e-5
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "nanobind" not in done.stderr, done.stderr


def test_graphs_of_dynamo_are_whole_and_follow_the_weights() -> None:
    net = convnet()
    fast = torch.compile(sc.accelerate(net), fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert apart(fast(x), net(x)) < 1e-6
        net[0].weight.mul_(2)
        assert apart(fast(x), net(x)) < 1e-6
        other = torch.randn(4, 3, 9, 10)
        assert apart(fast(other), net(other)) < 1e-6
    # Where gradients are to flow the graph is made anew, of dense layers.
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(net(x).sum(), x)
    (found,) = torch.autograd.grad(fast(x).sum(), x)
    assert apart(found, wanted) < 1e-6


@pytest.mark.slow
def test_graphs_of_inductor_are_whole_and_follow_the_weights() -> None:
    net = convnet()
    fast = torch.compile(sc.accelerate(net), fullgraph=True)
    for memory in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 3, 8, 8).to(memory_format=memory)
        with torch.no_grad():
            assert apart(fast(x), net(x)) < 1e-6
            net[0].weight.mul_(2)
            assert apart(fast(x), net(x)) < 1e-6
    with torch.inference_mode():
        other = torch.randn(4, 3, 9, 10)
        assert apart(fast(other), net(other)) < 1e-6
