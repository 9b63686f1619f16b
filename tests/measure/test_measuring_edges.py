"""Measuring models as people write them: tied names, odd calls, kinds without a rule, and nothing left behind."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.measure.cost import peak_memory
from secateur.vocabulary import BadTargetError, CorruptFileError, SelectionError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Embedding(20, 6), nn.Embedding(20, 6)
        self.second.weight = self.first.weight
        self.head, self.out = nn.Linear(6, 20, bias=False), nn.Linear(6, 20, bias=False)
        self.out.weight = self.head.weight


class Calls(nn.Module):
    """Calls its layer by keyword."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> object:
        return self.layer(input=x)


class Own(nn.Module):
    """Multiplies by a matrix of its own, and keeps a table it made on its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(4, 4))
        self.layer = nn.Linear(4, 4, bias=False)
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(4.0)
        out: Tensor = self.layer(x @ self.matrix) * self.table
        return out


def test_a_mask_may_use_any_name_of_a_tied_tensor() -> None:
    report = sc.measure(Tied(), masks={"out.weight": torch.zeros(20, 6, dtype=torch.bool)})
    assert [(x.name, x.mask_sparsity) for x in report.layers] == [("head.weight", 1.0)]
    assert "head.weight: 120 weights that the mask removes are not zero (a leak)" in report.notes
    both = dict.fromkeys(("first.weight", "second.weight"), torch.ones(20, 6, dtype=torch.bool))
    assert sc.measure(Tied(), masks=both).targets.weights == 2 * 120


def test_the_sparsity_asked_for_is_that_of_the_masked_targets() -> None:
    net = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    masks = sc.select(sc.criteria.magnitude(sc.prunable(net, ignore=["1"])), 0.5)
    sc.apply(net, masks)
    report = sc.measure(net, masks=masks, target_sparsity=0.5)
    assert report.notes == ("without a mask: 1.weight",)
    assert (report.reached.sparsity, report.targets.sparsity) == (0.5, 0.25)
    assert "asked for 0.5, reached 0.500000" in str(report)


@pytest.mark.parametrize("mask", [torch.ones(1, 4, dtype=torch.bool), torch.ones(4, 4)])
def test_a_mask_that_does_not_fit_is_refused(mask: Tensor) -> None:
    with pytest.raises(BadTargetError, match="weight"):
        sc.measure(nn.Linear(4, 4), masks={"weight": mask})


def test_a_pruned_bias_costs_no_multiply_adds_and_no_note() -> None:
    net = nn.Linear(4, 4)
    masks = sc.select(sc.criteria.magnitude(sc.prunable(net, biases=True)), 0.5)
    report = sc.measure(net, torch.zeros(1, 4), masks=sc.apply(net, masks), timing=None)
    assert [x.macs for x in report.layers] == [16, 0]
    assert not report.notes


@pytest.mark.parametrize(
    ("layer", "x", "macs"),
    [
        (nn.LSTM(3, 3, batch_first=True), torch.zeros(2, 5, 3), 5 * 4 * 3 * 6),
        (nn.GRUCell(3, 3), torch.zeros(2, 3), 3 * 3 * 6),
        (nn.ConvTranspose1d(3, 3, 2), torch.zeros(2, 3, 5), 5 * 18),
    ],
)
def test_layers_called_by_keyword_are_counted(layer: nn.Module, x: Tensor, macs: int) -> None:
    report = sc.measure(Calls(layer), x, timing=None)
    assert report.macs is not None and report.macs.dense == macs


def test_a_time_first_layer_is_counted_per_example() -> None:
    for x in (torch.zeros(11, 3, 5), torch.zeros(11, 5)):
        report = sc.measure(nn.LSTM(5, 7), x, timing=None)
        assert report.macs is not None and report.macs.dense == 11 * 4 * 7 * 12


def test_work_that_no_rule_counts_is_named() -> None:
    masks = {"matrix": torch.ones(4, 4, dtype=torch.bool)}
    report = sc.measure(Own(), torch.zeros(1, 4), masks=masks, timing=None)
    assert {x.name: x.macs for x in report.layers} == {"layer.weight": 16, "matrix": None}
    assert "kinds not counted in the MACs: matrix (Own)" in report.notes
    assert "there is no target" in sc.measure(nn.LayerNorm(3)).notes[0]
    attention, x = nn.MultiheadAttention(8, 2), torch.zeros(1, 3, 8)
    assert any("products" in note for note in sc.measure(attention, (x, x, x), timing=None).notes)


def test_a_measured_model_still_trains_and_nothing_stays_on_its_tensors() -> None:
    net, x = Own(), torch.zeros(1, 4)
    sc.measure(net, x, timing=sc.Timing(1, 1))
    net(x).sum().backward()
    # The registry of the standard library is the only witness of finalizers that were left behind.
    before = len(weakref.finalize._registry)  # type: ignore[attr-defined]
    peak_memory(net, (x,))
    assert len(weakref.finalize._registry) == before  # type: ignore[attr-defined]


def test_only_what_is_timed_may_take_the_fused_path() -> None:
    seen: list[bool] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.backends.mha.get_fastpath_enabled())
            return super().forward(x)

    sc.measure(Watched(2, 2), torch.zeros(1, 2), timing=sc.Timing(warmup=0, repeats=1))
    assert seen == [False, False, True]


def test_extra_state_and_models_without_values() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 1}

    assert sc.measure(Extra(2, 2)).bytes.dense > 24
    for net in (nn.Linear(2, 2, device="meta"), nn.LazyLinear(2)):
        with pytest.raises(BadTargetError, match="no values"):
            sc.measure(net)
    with pytest.raises(SelectionError, match="between 0 and 1"):
        sc.measure(nn.Linear(2, 2), target_sparsity=90)
    with pytest.raises(CorruptFileError, match="layers"):
        sc.Report.from_json({"targets": {}})


def test_a_last_weight_is_not_rounded_away() -> None:
    net = nn.Linear(1000, 300, bias=False)
    with torch.no_grad():
        net.weight.zero_()[0, 0] = 1
    assert "0.999997" in str(sc.measure(net)).splitlines()[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_on_cuda_leaves_out_what_else_is_there() -> None:
    other = torch.zeros(10_000_000, device="cuda")
    net, x = nn.Linear(1000, 1000, bias=False).cuda(), torch.zeros(2, 1000, device="cuda")
    peak_memory(net, (x,))  # the first call allocates the workspace of cuBLAS
    assert 4_000_000 < peak_memory(net, (x,)) < 5_000_000 < other.nbytes
