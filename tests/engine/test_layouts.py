"""Layouts: values go from each into each and come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.grids import Edges
from secateur.engine.layouts import (
    Layout,
    Mapped,
    Plain,
    Target,
    elements,
    natural,
    positions,
    slots,
    table,
)

targets = st.builds(Target, st.sampled_from([4, 8, 16]), st.booleans())
shapes = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], Target, Layout, Layout]:
    """A shape, a target and two layouts of it."""
    shape, target = draw(shapes), draw(targets)

    def one() -> Layout:
        if len(shape) < 2 or draw(st.booleans()):
            return Plain(math.prod(shape))
        last = draw(st.booleans())
        grid = target.grid(positions(shape, last)).with_edges(Edges(*(draw(st.integers(0, 2)) for _ in range(4))))
        return Mapped(shape[-1] if last else shape[0], grid, last)

    return shape, target, one(), one()


@given(pairs())
def test_every_element_has_a_slot_of_its_own(drawn: tuple[tuple[int, ...], Target, Layout, Layout]) -> None:
    shape, target, layout, _ = drawn
    found = elements(layout)
    assert len(found) == math.prod(shape) == len(np.unique(found))
    assert np.array_equal(slots(layout)[found], np.arange(len(found)))
    width = target.lanes if target.batched else 1
    assert len(slots(layout)) * width <= layout.floats(target) < len(slots(layout)) * width + target.lanes


@given(pairs())
def test_tables_turn_one_layout_into_the_other(drawn: tuple[tuple[int, ...], Target, Layout, Layout]) -> None:
    shape, target, source, wanted = drawn
    width = target.lanes if target.batched else 1
    values = np.arange(math.prod(shape) * width).reshape(-1, width)

    def laid_out(layout: Layout) -> np.ndarray:
        found = np.where(slots(layout)[:, None] >= 0, values[slots(layout)], -1)
        return found.reshape(-1)

    given = laid_out(source)
    channels, step, made, places = table(source, wanted, target)
    parts = []
    for channel in range(channels):
        part = given[channel * step :]
        parts.append(np.where(places >= 0, part[np.maximum(places, 0)], -1))
        assert channels == 1 or len(parts[-1]) == made
    assert np.array_equal(np.concatenate(parts), laid_out(wanted))


def test_natural_layouts_are_maps_of_what_has_positions() -> None:
    target = Target(16, False)
    assert natural((10,), target) == Plain(10)
    assert natural((10, 1, 1), target) == Plain(10)
    image = natural((3, 8, 9), target)
    assert isinstance(image, Mapped) and (image.channels, image.grid.size, image.last) == (3, (8, 9), False)
    words = natural((17, 64), target, last=True)
    assert isinstance(words, Mapped) and (words.channels, words.grid.size, words.last) == (64, (1, 17), True)


@pytest.mark.parametrize("batched", [False, True])
def test_a_wider_halo_serves_a_narrower_one(batched: bool) -> None:
    target = Target(8, batched)
    bare = natural((3, 8, 8), target)
    assert isinstance(bare, Mapped)
    narrow = Mapped(3, bare.grid.with_edges(Edges(1, 1, 1, 1)))
    wide = Mapped(3, bare.grid.with_edges(Edges(1, 2, 1, 1)))
    other = Mapped(3, wide.grid, outside=-1.0)
    assert wide.serves(narrow) and wide.serves(bare) and not narrow.serves(wide)
    assert other.serves(bare) and not other.serves(narrow)
    assert not wide.serves(Plain(192)) and not wide.serves(natural((3, 8, 4), target))
    assert wide.bare() == bare and wide.same_blocks(narrow)
