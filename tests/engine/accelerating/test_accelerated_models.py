"""Accelerated models compute what they did, and stay modules of torch in every way."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_networks import apart, cut, perceptron
from torch import nn

import secateur as sc
from secateur import native
from secateur.engine.accelerating.layers import AcceleratedConv2d, AcceleratedLinear
from secateur.lab import models

pytestmark = [
    pytest.mark.skipif(not native.available(), reason=str(native.why_not())),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]


# -- agreement ---------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Conv1d | nn.Conv2d:
    axes, groups = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    gaps = draw(st.lists(st.integers(1, 2), min_size=axes, max_size=axes))
    same = draw(st.booleans())
    padding = "same" if same else draw(st.sampled_from(["valid", 1, 2]))
    return (nn.Conv1d if axes == 1 else nn.Conv2d)(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        tuple(kernel),  # type: ignore[arg-type]
        stride=1 if same else draw(st.integers(1, 3)),
        padding=padding,  # type: ignore[arg-type]
        dilation=tuple(gaps),  # type: ignore[arg-type]
        groups=groups,
        bias=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=50)
@given(layer=convolutions(), batch=st.integers(0, 20), data=st.data())
def test_convolutions_agree(layer: nn.Conv1d | nn.Conv2d, batch: int, data: st.DataObject) -> None:
    # 0 for an input without a batch axis.
    size = [data.draw(st.integers(8, 14)) for _ in layer.kernel_size]
    x = torch.randn(*([batch] if batch else []), layer.in_channels, *size)
    if batch and len(size) == 2 and data.draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    if data.draw(st.booleans()):
        x = x.transpose(-1, 0).contiguous().transpose(-1, 0)
    fast = sc.accelerate(layer, above=0)
    with torch.no_grad():
        assert apart(fast(x), layer(x)) < 1e-6


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    ahead=st.lists(st.integers(1, 7), max_size=3),
    bias=st.booleans(),
    view=st.booleans(),
)
def test_linear_layers_agree(sizes: tuple[int, int], ahead: list[int], bias: bool, view: bool) -> None:
    layer = nn.Linear(*sizes, bias=bias).requires_grad_(False)
    x = torch.randn(*ahead, 2 * sizes[0])[..., ::2] if view else torch.randn(*ahead, sizes[0])
    assert apart(sc.accelerate(layer, above=0)(x), layer(x)) < 1e-6


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_residual_network_agrees_on_images_of_any_size(threads: int | None) -> None:
    net = cut(models.build("resnet-20", (3, 32, 32), 10))
    fast = sc.accelerate(net, threads=threads)
    assert len(sc.acceleration(fast).accelerated) > 15  # type: ignore[union-attr]
    with torch.no_grad():
        for batch, size in ((1, 32), (3, 32), (17, 16), (2, 40)):
            x = torch.randn(batch, 3, size, size)
            assert apart(fast(x), net(x)) < 1e-5
            assert apart(fast(x.to(memory_format=torch.channels_last)), net(x)) < 1e-5


def test_gpt2_with_transposed_and_tied_weights_agrees() -> None:
    transformers = pytest.importorskip("transformers")
    import secateur.integrations.transformers  # noqa: F401  # which makes Conv1D prunable

    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=40, bos_token_id=0, eos_token_id=0
    )
    net = cut(transformers.GPT2LMHeadModel(config))
    fast = sc.accelerate(net)
    report = sc.acceleration(fast)
    assert report is not None and [layer.kind for layer in report.layers] == ["Conv1D"] * 8 + ["Linear"]
    assert len(report.accelerated) == 9 and fast.lm_head.weight is fast.transformer.wte.weight
    words = torch.randint(50, (3, 11))
    with torch.no_grad():
        assert apart(fast(words).logits, net(words).logits) < 1e-5
    assert torch.equal(*(each.generate(words, max_new_tokens=4, do_sample=False) for each in (fast, net)))
    hidden = torch.randn(2, 7, 32, requires_grad=True)
    twin, layer = fast.transformer.h[0].mlp.c_fc, net.transformer.h[0].mlp.c_fc
    assert apart(twin(hidden), layer(hidden)) < 1e-6 and twin(hidden).requires_grad


# -- still a module of torch -------------------------------------------------------------------------------------------


def test_the_model_given_stays_and_shares_the_memory_of_its_weights() -> None:
    net = perceptron()
    fast = sc.accelerate(net)
    assert type(net[0]) is nn.Linear and type(fast[0]) is AcceleratedLinear and isinstance(fast[0], nn.Linear)
    assert all(p.requires_grad for p in net.parameters()) and not any(p.requires_grad for p in fast.parameters())
    assert fast[0].weight.data_ptr() == net[0].weight.data_ptr() and fast[0].in_features == 20
    assert list(fast.state_dict()) == list(net.state_dict()) and list(sc.prunable(fast)) == list(sc.prunable(net))


def test_states_go_both_ways() -> None:
    net, x = perceptron(), torch.randn(4, 20)
    fast = copy.deepcopy(sc.accelerate(net))
    other = perceptron()
    fast.load_state_dict(other.state_dict())
    assert apart(fast(x), other(x).detach()) < 1e-6 < apart(fast(x), net(x).detach())
    file = io.BytesIO()
    torch.save(fast.state_dict(), file)
    file.seek(0)
    net.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(net(x), other(x))
    fast.load_state_dict(perceptron().state_dict(), assign=True)
    assert apart(fast(x), net(x).detach()) > 1e-6


def test_models_are_copied_and_saved_whole() -> None:
    net, x = perceptron(), torch.randn(4, 20)
    fast = sc.accelerate(net)
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    for again in (copy.deepcopy(fast), torch.load(file, weights_only=False)):
        assert type(again[0]) is AcceleratedLinear and torch.equal(again(x), fast(x))
        assert again[0].weight.data_ptr() != fast[0].weight.data_ptr()
        assert sc.acceleration(again) == sc.acceleration(fast)


def test_gradients_flow_through_the_dense_weights() -> None:
    net, fast = (layer(cut(nn.Conv2d(3, 4, 3))) for layer in (lambda n: n, sc.accelerate))
    assert type(fast) is AcceleratedConv2d
    fast.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    gradients = [torch.autograd.grad(each(x).square().sum(), x)[0] for each in (net, fast)]
    assert apart(*gradients) < 1e-6
    tangents = [torch.func.jvp(each, (x.detach(),), (torch.ones_like(x),))[1] for each in (net, fast)]
    assert apart(*tangents) < 1e-6
    fast.requires_grad_(True).train()
    for each in (net, fast):
        each(x).square().sum().backward()
    assert apart(fast.weight.grad, net.weight.grad) < 1e-6  # type: ignore[arg-type]
    torch.optim.SGD(fast.parameters(), 0.1).step()
    with torch.no_grad():
        dense = nn.functional.conv2d(x, fast.weight, fast.bias)
        assert apart(fast(x), dense) < 1e-6


def test_other_types_and_autocast_go_the_dense_way() -> None:
    net, x = perceptron(), torch.randn(4, 20)
    fast = sc.accelerate(net)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x), net(x))
    wide = copy.deepcopy(fast).double()
    assert torch.equal(wide(x.double()), copy.deepcopy(net).double()(x.double()))
    with pytest.raises(RuntimeError, match="dtype"):
        fast(x.double())
    assert fast.to("meta")(x.to("meta")).shape == (4, 5)
