"""Measuring: exact counts, multiply-adds against torch's own counter, nothing left behind."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import secateur as sc
from secateur.measure.cost import peak_memory
from secateur.vocabulary import BadTargetError, SelectionError

QUICK = sc.Timing(warmup=1, repeats=3)


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, dilation=2),
        nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_multiply_adds_are_torchs_flops_over_two(batch: int) -> None:
    net, x = convnet().eval(), torch.randn(batch, 4, 18, 18)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    report = sc.measure(net, x, timing=None)
    assert report.macs is not None
    assert report.macs.dense * batch == counter.get_total_flops() // 2


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1), st.integers(0, 99))
def test_what_is_kept_and_what_is_zero_add_up(sparsity: float, seed: int) -> None:
    net = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    weights = {name: torch.rand_like(w) + 0.1 for name, w in sc.prunable(net).items()}
    with torch.no_grad():
        for name, parameter in sc.prunable(net).items():
            parameter.copy_(weights[name])
    masks = sc.Masks({n: sc.criteria.random({n: w}, seed)[n] >= sparsity for n, w in weights.items()})
    sc.apply(net, masks)
    report = sc.measure(net, masks=masks, timing=None)
    assert report.targets.kept == masks.count().kept
    assert report.targets.weights - report.targets.kept == masks.count().removed
    assert report.parameters.weights == 7 * 5 + 5 + 5 * 3 + 3
    assert sc.Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_effective_multiply_adds_follow_the_kept_share() -> None:
    net = nn.Linear(10, 10, bias=False)
    sc.prune(net, 0.7)
    report = sc.measure(net, torch.zeros(4, 10), target_sparsity=0.7, timing=QUICK)
    assert report.macs is not None and (report.macs.dense, report.macs.effective) == (100, 30)
    assert report.latency is not None and report.latency.batch == 4
    assert report.latency.low_ms <= report.latency.median_ms <= report.latency.high_ms
    assert not report.notes


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.head = nn.Linear(6, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.embed(tokens))
        return out


def test_a_tied_tensor_is_counted_once() -> None:
    report = sc.measure(Tied(), torch.zeros(2, 3, dtype=torch.int64), timing=None)
    assert report.targets.weights == report.parameters.weights == 120
    assert report.macs is not None and report.macs.dense == 3 * 120
    assert report.bytes.dense < 120 * 4 + 200


def test_recurrent_and_attention_layers_by_hand() -> None:
    lstm = nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True)
    one = 4 * 7 * (5 + 7) + 4 * 7 * (14 + 7)
    report = sc.measure(lstm, torch.zeros(3, 11, 5), timing=None)
    assert report.macs is not None and report.macs.dense == 11 * 2 * one
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(2, 5, 8)
    report = sc.measure(attention, (x, x, x), timing=None)
    assert report.macs is not None and report.macs.dense == 5 * 4 * 64
    cross = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)
    report = sc.measure(cross, (x, torch.zeros(2, 3, 6), torch.zeros(2, 3, 4)), timing=None)
    assert report.macs is not None and report.macs.dense == 5 * 64 + 3 * 48 + 3 * 32 + 5 * 64
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    report = sc.measure(layer, torch.zeros(2, 5, 8), timing=None)
    assert report.macs is not None and report.macs.dense == 5 * (4 * 64 + 2 * 8 * 16)


def test_a_module_called_twice_works_twice() -> None:
    shared = nn.Linear(4, 4, bias=False)
    report = sc.measure(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(1, 4), timing=None)
    assert report.macs is not None and report.macs.dense == 32 and report.targets.weights == 16


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    net = nn.Sequential(nn.Linear(100, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 10, bias=False))
    data = torch.zeros(50, 100)
    weights = (100 * 1000 + 1000 * 10) * 4
    # While ReLU runs: the input, its own input and its output.
    assert peak_memory(net, (data[:2],)) == weights + 2 * (100 + 1000 + 1000) * 4
    inplace = nn.Sequential(net[0], nn.ReLU(inplace=True), net[2])
    assert peak_memory(inplace, (data[:2],)) == weights + 2 * (100 + 1000 + 10) * 4
    chain = nn.Sequential(*(nn.Tanh() for _ in range(20)))
    assert peak_memory(chain, (data,)) == 3 * data.nbytes


def test_everything_is_as_before_also_after_an_error() -> None:
    net = convnet()
    net[1].eval()
    modes, threads = [m.training for m in net.modules()], torch.get_num_threads()
    sc.measure(net, torch.randn(1, 4, 18, 18), timing=sc.Timing(1, 2, threads=2))
    with pytest.raises(RuntimeError):
        sc.measure(net, torch.randn(1, 3, 18, 18))
    assert [m.training for m in net.modules()] == modes and torch.get_num_threads() == threads
    assert all(not m._forward_hooks for m in net.modules())


def test_notes_say_what_a_reader_must_know() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    assert "nothing is sparse" in " ".join(sc.measure(net).notes)
    masks = sc.prune(net, 0.5, sc.Choice(scope=sc.PerTensor()))
    with torch.no_grad():
        net[0].weight[~masks["0.weight"]] = 1.0
        net[1].weight.zero_()
    notes = " ".join(sc.measure(net, masks=masks, target_sparsity=0.5).notes)
    assert "0.weight: 8 weights that the mask removes are not zero (a leak)" in notes
    assert "1.weight: 8 weights are zero although the mask keeps them" in notes
    assert "1.weight is all zeros" in notes
    with torch.no_grad():
        net[0].weight.zero_()
    empty = sc.measure(net, target_sparsity=0.5)
    assert empty.targets.compression is None and "asked for sparsity 0.5" in " ".join(empty.notes)


def test_the_table_names_every_layer_and_the_totals() -> None:
    net = convnet()
    text = str(sc.measure(net, torch.randn(1, 4, 18, 18), timing=QUICK))
    assert all(name in text for name in [*sc.prunable(net), "all targets", "all parameters", "gzipped", "latency"])


def test_nets_without_targets_and_unknown_masks() -> None:
    assert sc.measure(nn.LayerNorm(3), torch.zeros(1, 3), timing=None).targets.weights == 0
    with pytest.raises(BadTargetError, match="nothing"):
        sc.measure(nn.Linear(2, 2), masks={"nothing": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(SelectionError, match="repeats"):
        sc.Timing(repeats=0)


def test_half_precision_and_wrapped_models() -> None:
    net = nn.Sequential(nn.Linear(4, 4)).to(torch.bfloat16)
    assert sc.measure(net, torch.zeros(1, 4, dtype=torch.bfloat16), timing=None).bytes.dense < 200
    wrapped = torch.compile(nn.Sequential(nn.Linear(4, 4)), backend="eager")
    assert sc.measure(wrapped, torch.zeros(1, 4), timing=QUICK).layers[0].name == "0.weight"  # type: ignore[arg-type]
