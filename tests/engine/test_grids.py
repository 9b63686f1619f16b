"""Grids of blocks: every pixel is computed once, and a halo holds what lies around a block."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.grids import Edges, Grid, natural_grid

sides = st.integers(1, 20)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids of blocks that need not fill the image, with halos that may be wider than a block."""
    size, across = (draw(sides), draw(sides)), (2 ** draw(st.integers(0, 3)), 2 ** draw(st.integers(0, 2)))
    pitch = (-(-size[0] // across[0]) + draw(st.integers(0, 1)), -(-size[1] // across[1]) + draw(st.integers(0, 2)))
    return Grid(size, across, pitch, Edges(*(draw(st.integers(0, 5)) for _ in range(4))))


def laid_out(grid: Grid, image: np.ndarray) -> np.ndarray:
    """Return an image as it should lie: every block cut out of the image with zeros around it, by itself."""
    edges, (height, width) = grid.edges, grid.pitch
    reach = grid.across[0] * height + edges.bottom, grid.across[1] * width + edges.right
    around = np.zeros((edges.top + reach[0], edges.left + reach[1]))
    around[edges.top : edges.top + grid.size[0], edges.left : edges.left + grid.size[1]] = image
    blocks = [
        around[down * height : down * height + grid.rows, right * width : right * width + grid.cols]
        for down in range(grid.across[0])
        for right in range(grid.across[1])
    ]
    return np.stack(blocks, -1)


@given(grids())
def test_pixels_lie_where_their_block_is_with_what_surrounds_it(grid: Grid) -> None:
    image = np.arange(1, grid.size[0] * grid.size[1] + 1).reshape(grid.size)
    pixels = grid.pixels
    assert pixels.shape == (grid.rows, grid.cols, grid.blocks)
    assert np.array_equal(np.where(pixels >= 0, image.reshape(-1)[pixels], 0), laid_out(grid, image))


@given(grids())
def test_every_pixel_has_one_home_inside_a_block(grid: Grid) -> None:
    homes = grid.homes
    assert np.array_equal(grid.pixels.reshape(-1)[homes], np.arange(len(homes)))
    vectors = homes // grid.blocks
    rows, cols = vectors // grid.cols - grid.edges.top, vectors % grid.cols - grid.edges.left
    assert rows.min() >= 0 and rows.max() < grid.pitch[0] and cols.min() >= 0 and cols.max() < grid.pitch[1]


@given(grids())
def test_the_halo_is_made_of_the_blocks_alone(grid: Grid) -> None:
    image = np.arange(1, grid.size[0] * grid.size[1] + 1).reshape(grid.size)
    wanted = laid_out(grid, image).reshape(grid.vectors, grid.blocks)
    # What convolutions write: blocks; anything where those reach beyond the image; and nothing yet around them.
    found = np.full_like(wanted, -7)
    found.reshape(-1)[grid.homes] = image.reshape(-1)
    fills, permutations = grid.halo()
    before = found.copy()
    for to, source, number in fills.tolist():
        lanes = permutations[number]
        found[to] = np.where(lanes >= 0, before[source][lanes], 0)
    assert np.array_equal(found, wanted)
    assert len(np.unique(permutations, axis=0)) == len(permutations)


@given(st.tuples(sides, sides), st.sampled_from([1, 4, 8, 16]))
def test_natural_grids_waste_the_fewest_lanes(size: tuple[int, int], lanes: int) -> None:
    grid = natural_grid(size, lanes)
    assert grid.blocks == lanes
    powers = [1 << power for power in range(lanes.bit_length())]
    least = min(-(-size[0] // down) * -(-size[1] // (lanes // down)) for down in powers)
    assert grid.vectors == least
    assert grid.exact == (grid.vectors * lanes == size[0] * size[1])


def test_edges_for_both_are_the_wider_ones() -> None:
    assert Edges(1, 0, 3, 0).with_(Edges(0, 2, 1, 0)) == Edges(1, 2, 3, 0)
