"""Torch's transformer encoders, which go around the layers inside of them, run on the kernels all the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sparse_networks import apart, cut
from torch import Tensor, nn

import secateur as sc
from secateur import native
from secateur.engine.accelerating import NothingAcceleratedWarning, layers, timing
from secateur.engine.accelerating.timing import Times

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.why_not()))

X = torch.randn(3, 7, 16)
PADDING = torch.arange(7).expand(3, 7) >= torch.tensor([[7], [5], [2]])


def encoder() -> nn.TransformerEncoder:
    return cut(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)).eval()


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the kernels multiplied."""
    seen: list[Tensor] = []
    multiply = layers.linear

    def noting(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x)
        return multiply(x, *rest)

    monkeypatch.setattr(layers, "linear", noting)
    return seen


@pytest.mark.parametrize("padding", [None, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize("gradients", [False, True], ids=["without gradients", "with"])
def test_what_is_called_accelerated_runs_on_the_kernels(
    padding: Tensor | None, gradients: bool, products: list[Tensor]
) -> None:
    net = encoder()
    fast = sc.accelerate(net)
    with torch.set_grad_enabled(gradients):
        y = fast(X, src_key_padding_mask=padding)
        expected = net(X, src_key_padding_mask=padding)
    assert len(products) == 4
    there = torch.ones(3, 7, dtype=torch.bool) if padding is None else ~padding
    assert apart(y[there], expected[there]) < 1e-6


def test_a_model_accelerated_anew_computes_at_once_where_nothing_is_accelerated(products: list[Tensor]) -> None:
    net = encoder()
    with pytest.warns(NothingAcceleratedWarning):
        dense = sc.accelerate(sc.accelerate(net), above=1)
    with torch.no_grad():
        assert torch.equal(dense(X, src_key_padding_mask=PADDING), net(X, src_key_padding_mask=PADDING))
    assert not products
    assert net.use_nested_tensor and net.layers[0].activation_relu_or_gelu == 1


@pytest.mark.parametrize("at_once", [1e-5, 9e-5])
def test_an_encoder_that_is_faster_at_once_stays_so(monkeypatch: pytest.MonkeyPatch, at_once: float) -> None:
    seen: list[Tensor] = []

    def alternating(call: Any, switch: Any) -> Times:
        seen.append(call())
        whole = seen[-1].shape[-1] == 16 and len(seen) > 4
        switch(True)
        call()
        switch(False)
        return Times(at_once if whole else 2e-5, 2e-5 if whole else 1e-5)

    monkeypatch.setattr(timing, "alternating", alternating)
    example = {"src": X, "src_key_padding_mask": PADDING}
    if at_once < 2e-5:
        with pytest.warns(NothingAcceleratedWarning, match="its encoder is faster at once"):
            fast = sc.accelerate(encoder(), example=example)
    else:
        fast = sc.accelerate(encoder(), example=example)
    report = sc.acceleration(fast)
    assert report is not None and len(report.accelerated) == (0 if at_once < 2e-5 else 4)
    assert fast.use_nested_tensor == (at_once < 2e-5)
