"""The k-th key from histograms: guesses, shards, and keys of every width, against a sort."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.bits import Bits
from secateur.choose.by_kernels import KernelKeys, takes
from secateur.choose.by_torch import TorchKeys
from secateur.choose.histogram import Cut, Digits, Histogram, kth

KEYS = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 2**64 - 2)), min_size=1, max_size=40)


def counting(keys: list[int]) -> tuple[object, list[Digits]]:
    asked: list[Digits] = []

    def count(digits: Digits) -> Histogram:
        asked.append(digits)
        found = [(key >> digits.shift) - digits.first for key in keys]
        counts = np.zeros(digits.bins, dtype=np.int64)
        for place in found:
            if 0 <= place < digits.bins:
                counts[place] += 1
        return Histogram(digits, sum(place < 0 for place in found), counts)

    return count, asked


@given(KEYS, st.sampled_from([16, 32, 64]), st.data())
def test_the_kth_key_is_that_of_a_sort(keys: list[int], bits: int, data: st.DataObject) -> None:
    keys = [key % (2**bits - 1) for key in keys]
    k = data.draw(st.integers(1, len(keys)))
    guess = data.draw(st.none() | st.tuples(st.integers(0, 2**bits - 1), st.integers(0, 2**bits - 1)))
    count, asked = counting(keys)
    cut = kth(k, bits, count, (min(guess), max(guess)) if guess else None)  # type: ignore[arg-type]
    kept = sorted(keys)
    assert cut.key == kept[k - 1]
    assert cut.ties == k - sum(key < cut.key for key in keys) and cut.tied == keys.count(cut.key)
    assert len(asked) <= bits // 16 + (2 if guess else 0)
    assert all(digits.bins <= 1 << 16 for digits in asked)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_digits_cover_their_range_and_are_the_finest(one: int, other: int) -> None:
    low, high = min(one, other), max(one, other)
    digits = Digits.of_range(low, high)
    assert digits.low <= low and high <= digits.high and digits.bins <= 1 << 16
    if digits.shift:
        assert (high >> (digits.shift - 1)) - (low >> (digits.shift - 1)) >= 1 << 16


def test_an_exact_guess_needs_one_histogram() -> None:
    count, asked = counting([5, 9, 9, 9, 12])
    assert kth(3, 32, count, (9, 9)) == Cut(key=9, ties=2, tied=3)  # type: ignore[arg-type]
    assert asked == [Digits(9, 0, 1)]


def test_histograms_of_different_digits_do_not_add_up() -> None:
    one, other = (Histogram(Digits(first, 0, 1), 0, np.array([1])) for first in (0, 1))
    with pytest.raises(ValueError, match="do not add up"):
        _ = one + other


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=30), min_size=1, max_size=4), st.booleans(), st.data()
)
def test_shards_agree_with_the_whole(shards: list[list[int]], absolute: bool, data: st.DataObject) -> None:
    """As on the ranks of a process group: each counts its own, histograms are summed, each cuts its own."""
    parts = [torch.tensor(shard, dtype=torch.float32) for shard in shards]
    whole = torch.cat(parts)
    k = data.draw(st.integers(1, len(whole)))
    kinds = [TorchKeys, KernelKeys] if takes([whole]) else [TorchKeys]
    for kind in kinds:
        everything = kind({"w": whole}, absolute, None)
        ranks = [kind({"w": part}, absolute, None) for part in parts]

        def summed(digits: Digits, ranks: list[TorchKeys | KernelKeys] = ranks) -> Histogram:
            return reduce(add, (rank.count(digits)[0] for rank in ranks))

        cut = kth(k, 32, summed)
        assert cut == kth(k, 32, lambda digits, all_=everything: all_.count(digits)[0])
        masks = []
        for rank in ranks:
            own = int(rank.count(Digits(cut.key, 0, 1))[0].counts[0])
            masks.append(rank.cut(Cut(cut.key, min(cut.ties, own), own))["w"])
            cut = cut.after(own)
        kept = [mask.unpack() if isinstance(mask, Bits) else mask for mask in masks]
        order = np.lexsort((np.arange(len(whole)), whole.abs() if absolute else whole))
        assert torch.cat(kept).logical_not().nonzero().flatten().tolist() == sorted(order[:k].tolist())
