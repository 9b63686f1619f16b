import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.lab.data.splits import stratified

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(lambda values: np.array(values, np.uint8))


@settings(deadline=None)
@given(LABELS, st.floats(0, 0.99), st.integers(-5, 2**40))
def test_every_row_goes_to_one_side_and_the_count_is_exact(labels, share, seed):
    stay, taken = stratified(labels, share, seed)
    assert sorted([*stay, *taken]) == list(range(len(labels)))
    assert len(taken) == round(share * len(labels))
    assert list(stay) == sorted(stay)
    assert list(taken) == sorted(taken)


@settings(deadline=None)
@given(LABELS, st.floats(0, 0.99), st.integers(0, 100))
def test_each_class_gives_its_share_within_one(labels, share, seed):
    _, taken = stratified(labels, share, seed)
    for label in np.unique(labels):
        ideal = share * (labels == label).sum()
        assert abs((labels[taken] == label).sum() - ideal) < 1 + 1e-9


def test_the_seed_decides_and_repeats():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 50)
    first, again, other = (stratified(labels, 0.1, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_classes_without_members_are_no_trouble():
    stay, taken = stratified(np.array([7, 7, 2, 2], np.uint8), 0.5, 0)
    assert len(stay) == len(taken) == 2


@pytest.mark.parametrize("class_size", [7, 100])
def test_every_row_of_a_class_is_as_likely_to_be_taken(class_size):
    labels = np.repeat(np.arange(3, dtype=np.uint8), class_size)
    hits = np.zeros(len(labels))
    for seed in range(400):
        hits[stratified(labels, 0.5, seed)[1]] += 1
    assert hits.min() > 120  # expected 171 or 200, deviation 10
    assert hits.max() < 280
