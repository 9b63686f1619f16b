"""Coupling: who writes and reads units, which hang together, which must stay and why; printed as a table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.graph import TraceError


def groups(model: nn.Module, example: Any) -> dict[str, tuple[int, str]]:
    """Return the number of units and why they must stay, by all the weights that write them."""
    found = {}
    for group in sc.couple(model, example).groups:
        written = " ".join(axis.name for axis in group.axes if axis.role == "writes")
        found[written] = len(group.units), group.whole
    return found


def test_a_flattened_channel_is_read_by_a_column_for_each_pixel() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 9, 2))
    coupling = sc.couple(model, torch.zeros(1, 1, 8, 8))
    columns = coupling.axis("4.weight", 1)
    rows = coupling.axis("0.weight", 0)
    assert columns is not None
    assert rows is not None
    assert torch.equal(columns, rows.repeat_interleave(9))


def test_batchnorm_follows() -> None:
    coupling = sc.couple(nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.Conv1d(4, 2, 1)), torch.zeros(1, 2, 5))
    names = {axis.name for axis in coupling.groups[0].axes}
    assert names == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight"}


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) + self.b(x))


def test_what_meets_in_a_sum_is_coupled() -> None:
    assert groups(Sum(), torch.zeros(1, 3)) == {
        "a.weight b.weight": (4, ""),
        "c.weight": (2, "an output of the model"),
    }


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(x + self.a(x)).cumsum(-1).sort(-1).values)


def test_what_meets_the_input_or_an_unknown_operation_stays_and_says_why() -> None:
    found = groups(Skip(), torch.zeros(1, 3))
    assert found["a.weight"] == (3, "add with what belongs to no unit at the model itself")
    assert found["b.weight"] == (4, "cumsum over units at the model itself")
    assert sc.couple(Skip(), torch.zeros(1, 3)).unknown == ("sort at the model itself",)


def test_groups_of_a_convolution_keep_equal_numbers() -> None:
    model = nn.Sequential(nn.Conv1d(2, 6, 1), nn.Conv1d(6, 9, 1, groups=3), nn.ReLU(), nn.Conv1d(9, 2, 1))
    assert groups(model, torch.zeros(1, 2, 4)) == {
        "0.weight": (2, ""),
        "1.weight": (3, ""),
        "3.weight": (2, "an output of the model"),
    }


def test_groupnorm_couples_the_channels_of_a_group() -> None:
    model = nn.Sequential(nn.Conv1d(2, 12, 1), nn.GroupNorm(4, 12), nn.Conv1d(12, 2, 1))
    assert groups(model, torch.zeros(1, 2, 4))["0.weight"] == (4, "")
    model[1] = nn.GroupNorm(1, 12)
    assert "one group of GroupNorm" in groups(model, torch.zeros(1, 2, 4))["0.weight"][1]


def test_layernorm_keeps_what_it_normalizes() -> None:
    model = nn.Sequential(nn.Linear(2, 12), nn.LayerNorm(12), nn.Linear(12, 2))
    assert groups(model, torch.zeros(1, 2))["0.weight"] == (12, "normalized over units at 1")


def test_it_prints_as_a_table() -> None:
    assert str(sc.couple(Sum(), torch.zeros(1, 3))).splitlines() == [
        "units  written by          read by   left whole because",
        "-----  ------------------  --------  ----------------------",
        "4      a.weight, b.weight  c.weight",
        "2      c.weight            -         an output of the model",
    ]


def test_inputs_may_be_a_tuple_or_named() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.b(self.a(x) * scale)

    x, scale = torch.zeros(2, 3), torch.ones(2, 1)
    assert groups(Two(), (x, scale)) == groups(Two(), {"scale": scale, "x": x})
    assert groups(Two(), (x, scale))["a.weight"] == (4, "")
    assert groups(Two(), (x, torch.rand(2, 4)))["a.weight"][1].startswith("mul with what belongs to no unit")


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sc.couple(model, torch.randn(5, 3))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_traced_says_where() -> None:
    class Loop(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            while x.sum() > 1:
                x = x / 2
            return x

    with pytest.raises(TraceError, match="cannot trace Loop"):
        sc.couple(Loop(), torch.ones(3))
