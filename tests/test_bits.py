"""Bits: a bool tensor packed, with the same algebra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.bits import Bits

SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)


@given(SHAPES, st.integers(0, 99))
def test_packing_loses_nothing(shape: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, two = (torch.rand(shape, generator=generator) < 0.5 for _ in range(2))
    a, b = Bits.of(one), Bits.of(two)
    assert torch.equal(a.unpack(), one) and a.unpack().shape == one.shape
    assert a.kept == int(one.sum()) and a.numel() == one.numel()
    assert torch.equal((~a).unpack(), ~one) and (~a).kept == int((~one).sum())
    assert torch.equal(a.combine(b, torch.bitwise_and).unpack(), one & two)
    assert torch.equal(a.combine(b, torch.bitwise_or).unpack(), one | two)
    assert torch.equal(Bits.ones(one.shape).unpack(), torch.ones_like(one)) and Bits.ones(one.shape).kept == one.numel()


def test_what_is_unpacked_may_be_changed_without_changing_the_bits() -> None:
    bits = Bits.ones(torch.Size([9]))
    bits.unpack()[0] = False
    assert bits.unpack().all()


@pytest.mark.parametrize(
    ("data", "shape"),
    [([0], (9,)), ([0, 0], (8,)), ([1], (7,)), ([0], (-1,)), ([], (3, 3))],
    ids=str,
)
def test_what_does_not_fit_is_refused(data: list[int], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"bits|bytes"):
        Bits(torch.tensor(data, dtype=torch.uint8), torch.Size(shape))
