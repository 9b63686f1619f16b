"""What an engine may be called with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from secateur.engine.arguments import InputError, as_array
from secateur.engine.plan import Value

ROW, WORDS = Value((2, 3)), Value((4,), "I64")


@pytest.mark.parametrize(
    "given",
    [
        np.ones((5, 2, 3), np.float64),
        np.ones((5, 2, 3), np.float16),
        np.ones((5, 2, 3), np.uint8),
        np.ones((5, 2, 3), bool),
        np.ones((5, 3, 2), np.float32).transpose(0, 2, 1),
        np.ones((10, 2, 3), np.float32)[::2],
        np.ones((5, 2, 3), ">f4"),
        torch.ones(5, 2, 3, dtype=torch.bfloat16),
        torch.ones(5, 2, 3, requires_grad=True),
        [[[1.0] * 3] * 2] * 5,
    ],
)
def test_numbers_of_any_kind_become_floats(given: object) -> None:
    array = as_array("x", ROW, given)
    assert array.shape == (5, 2, 3) and array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned
    assert np.array_equal(array, np.ones((5, 2, 3)))


def test_arrays_that_fit_are_not_copied() -> None:
    given = np.ones((5, 2, 3), np.float32)
    assert np.shares_memory(as_array("x", ROW, given), given)


def test_an_array_that_is_not_aligned_is_copied() -> None:
    raw = np.zeros(4 * 6 + 1, np.uint8)
    given = np.frombuffer(raw.data, np.float32, 6, offset=1).reshape(1, 2, 3)
    assert as_array("x", ROW, given).flags.aligned


@pytest.mark.parametrize(
    ("value", "given", "told"),
    [
        (ROW, np.ones((5, 2)), r"x is \[5, 2\], not \[samples, 2, 3\]"),
        (ROW, np.ones((2, 3)), "not"),
        (ROW, np.float32(1), r"x is \[\], not"),
        (ROW, np.ones((5, 2, 3), complex), "complex128, not real"),
        (ROW, np.full((5, 2, 3), "one"), "not real"),
        (WORDS, np.ones((1, 4), np.float32), "float32, not whole"),
        (WORDS, np.full((1, 4), 1 << 24), "below 2\\^24"),
        (WORDS, np.full((1, 4), -(1 << 24)), "below 2\\^24"),
        (WORDS, np.full((1, 4), np.iinfo(np.int64).min), "below 2\\^24"),
    ],
)
def test_what_does_not_fit_is_named(value: Value, given: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        as_array("x", value, given)


def test_whole_numbers_keep_their_value() -> None:
    given = np.array([[0, 1, (1 << 24) - 1, -5]])
    assert as_array("i", WORDS, given).tolist() == given.tolist()
