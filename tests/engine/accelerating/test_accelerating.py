"""Which layers of a model are accelerated and which are not, by what they are and by trial, and what is said of it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from sparse_networks import apart, cut, perceptron
from torch import Tensor, nn
from torch.nn.utils import prune

import secateur as sc
from secateur import native
from secateur.engine.accelerating import NothingAcceleratedWarning, timing
from secateur.engine.accelerating.layers import AcceleratedLinear
from secateur.engine.accelerating.timing import Times
from secateur.vocabulary import MissingKernelsError, SelectionError

pytestmark = [
    pytest.mark.skipif(not native.available(), reason=str(native.why_not())),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]


# -- which layers ------------------------------------------------------------------------------------------------------


def test_layers_below_the_sparsity_are_left() -> None:
    net = perceptron()
    with torch.no_grad():
        net[2].weight.fill_(1)
    report = sc.acceleration(sc.accelerate(net))
    assert report is not None and report.accelerated == ("0", "4")
    assert [layer.sparsity for layer in report.layers] == [0.9, 0.0, 0.9]
    assert str(report).splitlines() == [
        "layer  kind    weight  sparsity",
        "-----  ------  ------  --------",
        "0      Linear  40x20   0.9000    accelerated",
        "2      Linear  40x40   0.0000    left: its sparsity is below 0.8",
        "4      Linear  5x40    0.9000    accelerated",
        "2 of 3 layers accelerated",
    ]
    assert sc.acceleration(net) is None


class Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _patched() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def _masked() -> nn.Module:
    layer = nn.Linear(4, 4)
    prune.l1_unstructured(layer, "weight", 0.9)
    return layer


def _of_inference() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Twice(4, 4), "no kernels for Twice"),
        (lambda: nn.ConvTranspose2d(4, 4, 2), "no kernels for ConvTranspose2d"),
        (_patched, "its forward was replaced"),
        (_masked, "its weight or bias is computed anew for every call"),
        (_of_inference, "its weight was made in inference mode, which hides whether it changes"),
        (lambda: nn.Linear(4, 4).double(), "its weight is float64 on cpu, not float32 on cpu"),
        (lambda: nn.Linear(4, 4, device="meta"), "its weight is float32 on meta, not float32 on cpu"),
        (lambda: nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"), "its padding mode is circular"),
    ],
)
def test_layers_that_the_kernels_do_not_know_are_left_with_a_reason(make: Any, why: str) -> None:
    net = nn.Sequential(make(), nn.Linear(4, 4))
    fast = sc.accelerate(net, above=0)
    report = sc.acceleration(fast)
    assert report is not None and (report.layers[0].why_not, report.accelerated) == (why, ("1",))
    assert type(fast[0]) is type(net[0])


def test_a_model_with_nothing_to_accelerate_is_returned_with_a_warning() -> None:
    with pytest.warns(NothingAcceleratedWarning, match="no layer of Linear was accelerated: its sparsity is below 0.8"):
        fast = sc.accelerate(nn.Linear(3, 3))
    assert type(fast) is nn.Linear
    with pytest.warns(NothingAcceleratedWarning, match="it has none with weights"):
        sc.accelerate(nn.ReLU())


def test_settings_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SelectionError, match="above=80 is no sparsity"):
        sc.accelerate(perceptron(), above=80)
    with pytest.raises(SelectionError, match="threads=0"):
        sc.accelerate(perceptron(), threads=0)
    monkeypatch.setattr(native, "_found", lambda: (None, "install a compiler"))
    with pytest.raises(MissingKernelsError, match="install a compiler"):
        sc.accelerate(perceptron())


def test_what_else_is_in_a_model_is_left_as_it_is() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.memory = nn.LSTM(16, 16, batch_first=True)
            self.filters = nn.Conv1d(16, 16, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.sum()) > 0:  # what nothing can trace
                x = -x
            x = self.memory(self.encoder(x))[0]
            return self.filters(x.transpose(1, 2))

    net = cut(Mixed())
    fast = sc.accelerate(net)
    report = sc.acceleration(fast)
    assert report is not None
    assert report.accelerated == ("encoder.linear1", "encoder.linear2", "filters")
    reasons = {layer.name: layer.why_not for layer in report.layers if layer.why_not}
    assert reasons["memory"] == "no kernels for LSTM" and "MultiheadAttention" in reasons["encoder.self_attn"]
    x = torch.randn(3, 9, 16)
    with torch.no_grad():
        assert apart(fast(x), net(x)) < 1e-6


# -- by trial ----------------------------------------------------------------------------------------------------------


def test_layers_are_tried_on_what_reaches_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def alternating(call: Any, switch: Any) -> Times:
        switch(True)
        seen.append(tuple(call().shape))
        switch(False)
        return Times(dense=2e-5, sparse=1e-5 if len(seen) != 2 else 3e-5)

    monkeypatch.setattr(timing, "alternating", alternating)

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.never, self.second = nn.Linear(20, 30), nn.Linear(20, 30), nn.Linear(30, 5)

        def forward(self, x: Tensor, more: bool = False) -> Tensor:
            return self.second(self.first(x) + (self.never(x) if more else 0))

    fast = sc.accelerate(cut(Branching()), example={"x": torch.randn(7, 20)})
    assert seen == [(7, 30), (7, 5), (7, 5)]
    report = sc.acceleration(fast)
    assert report is not None and report.accelerated == ("first",) and report.model == Times(2e-5, 1e-5)
    assert str(report).splitlines()[2:] == [
        "first   Linear  30x20   0.9000    20        10         accelerated",
        "never   Linear  30x20   0.9000                         left: the example brings no float32 to it",
        "second  Linear  5x30    0.9000    20        30         left: it is no faster",
        "1 of 3 layers accelerated; on the example the model takes 10 µs, 20 µs without",
    ]


def test_a_trial_leaves_no_trace_but_the_faster_layers() -> None:
    net = nn.Sequential(cut(nn.Conv2d(3, 16, 3, padding=1)), nn.BatchNorm2d(16), nn.Flatten(), nn.LazyLinear(4)).train()
    net(torch.randn(2, 3, 8, 8))
    cut(net[3])
    net.train()
    calls: list[int] = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    before = {name: each.clone() for name, each in net.state_dict().items()}
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingAcceleratedWarning)  # which is faster is not for a test to say
        fast = sc.accelerate(net, example=(x,))
    assert all(torch.equal(each, before[name]) for name, each in net.state_dict().items())
    assert all(module.training for module in fast.modules()) and net.training
    report = sc.acceleration(fast)
    assert report is not None and report.model is not None
    for layer in report.layers:
        assert layer.times is not None
        assert (layer.why_not == "") == (layer.times.sparse < layer.times.dense) == (layer.name in report.accelerated)
    calls.clear()
    fast.eval()(x)
    assert len(calls) == 1  # hooks are called as ever


def test_an_accelerated_model_can_be_accelerated_anew() -> None:
    net = perceptron()
    with torch.no_grad():
        net[2].weight.fill_(1)
    fast = sc.accelerate(sc.accelerate(net, threads=2), above=0)
    assert [type(each) for each in fast[::2]] == [AcceleratedLinear] * 3
    with pytest.warns(NothingAcceleratedWarning):
        assert type(sc.accelerate(fast, above=1)[0]) is nn.Linear
    compiled = sc.accelerate(torch.compile(net))  # type: ignore[arg-type]
    assert type(compiled) is nn.Sequential


def test_a_layer_used_twice_stays_one() -> None:
    layer = nn.Linear(8, 8)
    net = cut(nn.Sequential(layer, nn.ReLU(), layer))
    fast = sc.accelerate(net)
    assert fast[0] is fast[2] and len(list(fast.parameters())) == 2
    assert len(sc.acceleration(fast).layers) == 1  # type: ignore[union-attr]
