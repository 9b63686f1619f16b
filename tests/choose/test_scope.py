"""Allocations: ERK's totals and order; windows and their limits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.vocabulary import SelectionError

SHAPES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)


@given(SHAPES, st.floats(0, 1))
def test_erk_spends_the_budget_to_the_last_weight(shapes: list[tuple[int, int]], sparsity: float) -> None:
    weights = {f"layer{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    shares = sc.erk(weights, sparsity)
    assert all(0 <= share <= 1 for share in shares.values())
    removed = sum(round(shares[name] * w.numel()) for name, w in weights.items())
    assert removed == round(sparsity * sum(w.numel() for w in weights.values()))


def test_erk_makes_larger_layers_sparser_in_the_published_proportion() -> None:
    weights = {"a": torch.zeros(100, 200), "b": torch.zeros(300, 400, 3, 3)}
    shares = sc.erk(weights, 0.95)
    density = {name: 1 - share for name, share in shares.items()}
    expected = ((100 + 200) / (100 * 200)) / ((300 + 400 + 3 + 3) / (300 * 400 * 9))
    assert density["a"] / density["b"] == pytest.approx(expected, rel=1e-3)


def test_erk_keeps_vectors_whole_or_says_it_cannot() -> None:
    weights = {"w": torch.zeros(10, 10), "bias": torch.zeros(10)}
    assert sc.erk(weights, 0.5)["bias"] == 0
    with pytest.raises(SelectionError, match="leave biases out"):
        sc.erk(weights, 0.99)


@pytest.mark.parametrize(("keep", "of"), [(5, 4), (-1, 4), (0, 0)])
def test_windows_that_make_no_sense_are_refused(keep: int, of: int) -> None:
    with pytest.raises(SelectionError, match="keep"):
        sc.Window(keep, of)


def test_a_window_fixes_the_sparsity() -> None:
    with pytest.raises(SelectionError, match="leave sparsity out"):
        sc.select({"w": torch.ones(2, 4)}, 0.9, scope=sc.Window(2, 4))
