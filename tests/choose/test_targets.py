"""Targets: every kind of layer, names, globs, types, ties, wrappers."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.vocabulary import BadTargetError, Layout, NothingPrunedWarning, SecateurWarning


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.cross = nn.MultiheadAttention(8, 2, kdim=6, vdim=4)
        self.lstm = nn.LSTM(8, 4, num_layers=2, proj_size=3)
        self.cell = nn.GRUCell(3, 5)
        self.one, self.two, self.three = nn.Conv1d(8, 8, 3), nn.Conv2d(4, 4, 3), nn.Conv3d(2, 2, 3)
        self.up = nn.ConvTranspose2d(4, 6, 2)
        self.head = nn.Linear(8, 10)
        self.head.weight = self.embed.weight
        self.own = nn.Parameter(torch.zeros(3, 3))


def test_all_kinds_of_layers_are_found() -> None:
    names = list(sc.prunable(Everything()))
    lstm = [f"lstm.weight_{kind}_l{i}" for i in (0, 1) for kind in ("ih", "hh", "hr")]
    cross = [f"cross.{part}_proj_weight" for part in "qkv"] + ["cross.out_proj.weight"]
    attention = ["attention.in_proj_weight", "attention.out_proj.weight"]
    cell = ["cell.weight_ih", "cell.weight_hh"]
    rest = ["one.weight", "two.weight", "three.weight", "up.weight", "head.weight"]
    assert sorted(names) == sorted(lstm + cross + attention + cell + rest)


def test_what_is_included_and_ignored() -> None:
    net = Everything()
    assert list(sc.prunable(net, include=["lstm*_l1"])) == [f"lstm.weight_{kind}_l1" for kind in ("ih", "hh", "hr")]
    assert list(sc.prunable(net, include=[nn.Embedding])) == ["embed.weight"]
    assert list(sc.prunable(net, include=["own"])) == ["own"]
    assert list(sc.prunable(net, include=["norm.weight"])) == ["norm.weight"]
    assert "up.weight" not in sc.prunable(net, ignore=[nn.ConvTranspose2d])
    assert list(sc.prunable(net, include=["two"], biases=True)) == ["two.weight", "two.bias"]
    assert "attention.in_proj_bias" in sc.prunable(net, biases=True)


def test_a_tied_tensor_is_one_target_and_ignored_under_any_name() -> None:
    net = Everything()
    assert list(sc.prunable(net, include=["embed", "head"])) == ["embed.weight"]
    assert not {"embed.weight", "head.weight"} & sc.prunable(net, ignore=["embed"]).keys()
    shared = nn.Linear(3, 3)
    assert list(sc.prunable(nn.Sequential(shared, nn.ReLU(), shared))) == ["0.weight"]


def test_nothing_matched_lists_what_there_was() -> None:
    with pytest.raises(BadTargetError, match=r"weight.*LayerNorm"):
        sc.prunable(nn.LayerNorm(3))
    with pytest.raises(BadTargetError, match="did you mean 'fc1"):
        sc.prunable(nn.ModuleDict({"fc1": nn.Linear(2, 2)}), include=["fcl.weight"])
    with pytest.warns(NothingPrunedWarning, match="haed"):
        sc.prunable(Everything(), ignore=["haed"])


def test_wrappers_do_not_change_names() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    wrapped = torch.compile(nn.DataParallel(net), backend="eager")
    assert list(sc.prunable(wrapped)) == ["0.weight"]  # type: ignore[arg-type]
    assert sc.prunable(wrapped)["0.weight"] is net[0].weight  # type: ignore[arg-type]


def test_layouts_follow_the_modules() -> None:
    net = nn.ModuleList([nn.Linear(4, 4), nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose1d(4, 4, 3, groups=4)])
    layouts = [target.layout for target in sc.prunable(net).targets.values()]
    assert layouts == [Layout(), Layout(groups=2), Layout(out_axis=1, in_axis=0, groups=4)]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.RNN(2, 3, bidirectional=True), [f"weight_{k}_l0{r}" for r in ("", "_reverse") for k in ("ih", "hh")]),
        (nn.GRU(2, 3), ["weight_ih_l0", "weight_hh_l0"]),
        (nn.LSTMCell(2, 3), ["weight_ih", "weight_hh"]),
        (nn.ConvTranspose1d(2, 2, 2), ["weight"]),
        (nn.ConvTranspose3d(2, 2, 2), ["weight"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_single_modules(module: nn.Module, names: list[str]) -> None:
    weights = sc.prunable(module)
    assert list(weights) == names
    assert all(weights[name] is module.get_parameter(name) for name in names), "parameters, not copies"


def test_a_lazy_layer_has_to_see_a_batch_first() -> None:
    net = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(BadTargetError, match=r"'0\.weight' has no shape yet"):
        sc.prunable(net)
    net(torch.ones(2, 5))
    assert sc.prunable(net)["0.weight"].shape == (3, 5)


def test_names_are_those_of_the_state_dict() -> None:
    net = Everything()
    assert sc.prunable(net, biases=True).keys() <= net.state_dict().keys()
    inner = nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager"))  # type: ignore[arg-type]
    assert sc.prunable(inner).keys() <= inner.state_dict().keys()


def test_ignoring_everything_is_refused() -> None:
    with pytest.raises(BadTargetError, match="no prunable tensor in Sequential"):
        sc.prunable(nn.Sequential(nn.Linear(2, 2)), ignore=["*"])
    with pytest.raises(BadTargetError, match="LSTM"):
        sc.prunable(nn.Linear(2, 2), include=[nn.LSTM])


def test_registered_kinds_are_targets_with_their_layout_and_multiply_adds() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(3, 2))
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.matrix * self.scale

    net = nn.Sequential(nn.Linear(4, 3), Turned())
    assert list(sc.prunable(net)) == ["0.weight"]
    sc.register(Turned, {"matrix": sc.vocabulary.Layout(out_axis=1, in_axis=0)})
    targets = sc.prunable(net)
    assert list(targets) == ["0.weight", "1.matrix"] and targets.layout("1.matrix").out_axis == 1
    masks = sc.Choice(granularity=sc.Row(), scope=sc.PerTensor())(targets, 0.5)
    assert masks["1.matrix"].any(0).sum() == 1 and masks["1.matrix"].all(0).sum() == 1
    assert sc.measure(net, torch.zeros(5, 4), timing=None).layers[1].macs == 6


def test_layers_whose_weights_are_computed_are_named() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8, bias=False))
    net = nn.Sequential(normed, nn.ReLU(), nn.Linear(8, 4))
    with pytest.warns(SecateurWarning, match=r"\['0'\] are computed.*remove_parametrizations"):
        assert list(sc.prunable(net)) == ["2.weight"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecateurWarning)
        assert list(sc.prunable(net, ignore=["0"])) == ["2.weight"]
    nn.utils.parametrize.remove_parametrizations(normed, "weight")
    assert list(sc.prunable(net)) == ["0.weight", "2.weight"]


@pytest.mark.parametrize("name", ["include", "ignore"])
@pytest.mark.parametrize("patterns", ["0.weight", nn.Linear])
def test_one_pattern_is_no_list_of_them(name: str, patterns: object) -> None:
    with pytest.raises(BadTargetError, match=rf"{name}= is a list of patterns, as in \[('0.weight'|Linear)\]"):
        sc.prunable(nn.Sequential(nn.Linear(2, 2)), **{name: patterns})  # type: ignore[arg-type]
