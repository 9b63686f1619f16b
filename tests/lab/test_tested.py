"""Networks that many runs share are tested once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.lab.data import Split
from secateur.lab.tested import accuracy_on


class Counted(nn.Linear):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x.flatten(1))


@pytest.fixture
def test() -> Split:
    return Split(torch.randn(20, 1, 2, 2), torch.arange(20) % 3)


def test_a_network_is_tested_once_and_another_anew(test: Split, tmp_path: Path) -> None:
    notes, net = tmp_path / "tested.json", Counted(4, 3)
    first = accuracy_on(net, test, notes)
    assert accuracy_on(net, test, notes) == first == accuracy_on(net, test) and net.calls == 2
    with torch.no_grad():
        net.weight[0, 0] += 100
    accuracy_on(net, test, notes)
    assert net.calls == 3
    accuracy_on(net, Split(test.images, test.labels.flip(0)), notes)
    assert net.calls == 4
    accuracy_on(net, test, notes, "bfloat16")
    assert net.calls == 5


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_notes_that_are_damaged_are_written_anew(text: str, test: Split, tmp_path: Path) -> None:
    notes, net = tmp_path / "tested.json", Counted(4, 3)
    notes.write_text(text)
    assert accuracy_on(net, test, notes) == accuracy_on(net, test, notes) and net.calls == 1


def test_tensors_of_every_kind_are_told_apart(test: Split, tmp_path: Path) -> None:
    net = Counted(4, 3)
    for dtype in (torch.bfloat16, torch.int64, torch.bool):
        net.register_buffer(f"extra_{dtype}".replace(".", "_"), torch.ones((), dtype=dtype))
        before = net.calls
        accuracy_on(net, test, tmp_path / "tested.json")
        assert net.calls == before + 1
