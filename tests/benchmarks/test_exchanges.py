from __future__ import annotations

import torch
from exchanges import ALL, NOTHING, Exchange, exchanged, table
from torch import nn

import secateur as sc
from secateur.lab.data import Split


def test_the_tensor_that_matters_brings_the_accuracy_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    dense = {"1.weight": torch.eye(2), "2.weight": torch.eye(2), "2.bias": torch.zeros(2)}
    model.load_state_dict(dense)
    labels = torch.tensor([0, 1, 1])
    split = Split(torch.eye(2)[labels].reshape(3, 1, 2, 1), labels)
    whole = sc.Masks({name: torch.ones_like(each, dtype=torch.bool) for name, each in dense.items()})
    hurt = sc.Masks({**whole, "1.weight": torch.zeros(2, 2, dtype=torch.bool)})
    found = exchanged(model, hurt, whole, split)
    assert list(found) == [NOTHING, "1.weight", "2.weight", "2.bias", ALL]
    assert found["1.weight"] == Exchange(4, 0.0, 100.0) and found[ALL] == Exchange(10, 0.0, 100.0)
    assert found[NOTHING].elements == 0
    assert found[NOTHING].accuracy == found["2.weight"].accuracy == found["2.bias"].accuracy < 50
    assert torch.equal(model.state_dict()["1.weight"], torch.eye(2)), "the dense model stays as it is"


def test_the_table_names_the_tensor_that_matters_most_and_the_smallest() -> None:
    def seed(gain: float) -> dict[str, Exchange]:
        return {
            NOTHING: Exchange(0, 0.0, 50.0),
            "conv.weight": Exchange(500, 14.0, 50 + gain),
            "fc.bias": Exchange(10, 70.0, 51.0),
            ALL: Exchange(510, 60.0, 90.0),
        }

    text = " ".join(table({0.6: [seed(30), seed(32)]}).split())
    assert "at 0.6 `conv.weight`, 500 of 510 elements, brings 50.0 % to 81.0" in text
    assert "one ranking for all has 90.0 (the smallest, `fc.bias`: 51.0)" in text
    assert (
        "| `conv.weight` | 500 | 14 | 81.00 ± 1.41 |" in text and "| nothing: layer-wise | | | 50.00 ± 0.00 |" in text
    )
