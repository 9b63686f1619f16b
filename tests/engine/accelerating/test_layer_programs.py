"""Programs of single layers agree with sums written out in NumPy, whatever the shapes, and are kept only so long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secateur import native
from secateur.engine.accelerating import programs
from secateur.engine.accelerating.programs import ConvPrograms, LinearPrograms, Window

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.why_not()))
Floats = NDArray[np.float32]


def sparse(*shape: int, sparsity: float = 0.8, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=shape)
    numbers[rng.random(shape) < sparsity] = 0
    return numbers.astype(np.float32)


def close(found: Floats, wanted: NDArray[Any]) -> bool:
    return found.shape == wanted.shape and bool(
        np.abs(found - wanted).max(initial=0) < 1e-5 * (1 + np.abs(wanted).max(initial=0))
    )


def convolved(x: Floats, weight: Floats, window: Window) -> NDArray[np.float64]:
    """Tap by tap, in float64."""
    top, bottom, left, right = window.padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = window.result((x.shape[2], x.shape[3]))
    each, outputs = weight.shape[1], len(weight) // window.groups
    y = np.zeros((len(x), len(weight), height, width))
    for group in range(window.groups):
        rows, channels = slice(group * outputs, (group + 1) * outputs), slice(group * each, (group + 1) * each)
        for down in range(weight.shape[2]):
            for across in range(weight.shape[3]):
                first = down * window.dilation[0], across * window.dilation[1]
                seen = padded[:, channels, first[0] :: window.stride[0], first[1] :: window.stride[1]]
                y[:, rows] += np.einsum("bchw,oc->bohw", seen[:, :, :height, :width], weight[rows, :, down, across])
    return y


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(0, 150),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 5),
    threads=st.integers(1, 3),
)
def test_rows_are_multiplied(rows: int, sizes: tuple[int, int], sparsity: float, seed: int, threads: int) -> None:
    constants = {"weight": sparse(*sizes, sparsity=sparsity, seed=seed), "bias": sparse(sizes[0], sparsity=0)}
    x = np.random.default_rng(seed).normal(size=(rows, sizes[1])).astype(np.float32)
    found = LinearPrograms(constants)(x, lambda: constants, threads)
    assert close(found, x.astype(np.float64) @ constants["weight"].T + constants["bias"])


def test_large_weights_meet_many_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_NEAR", 0)
    monkeypatch.setattr(programs, "_FAR", 0)
    constants = {"weight": sparse(30, 20)}
    made, lanes = LinearPrograms(constants), programs.lanes()
    for rows in (1, 2, lanes - 1, lanes, 4 * lanes, 9 * lanes + 5):
        x = np.random.default_rng(rows).normal(size=(rows, 20)).astype(np.float32)
        assert close(made(x, lambda: constants, 1), x.astype(np.float64) @ constants["weight"].T)
    assert len(made) == 3  # one row, a vector of them, four vectors: no more whatever comes


@settings(deadline=None, max_examples=40)
@given(data=st.data(), batch=st.integers(1, 35), sparsity=st.sampled_from([0.0, 0.7, 1.0]), threads=st.integers(1, 2))
def test_images_are_convolved(data: st.DataObject, batch: int, sparsity: float, threads: int) -> None:
    pair = lambda low, high: data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))  # noqa: E731
    groups, (inputs, outputs) = data.draw(st.integers(1, 3)), pair(1, 3)
    kernel, gaps, before, after = pair(1, 4), pair(1, 2), pair(0, 3), pair(0, 3)
    window = Window(kernel, pair(1, 3), (before[0], after[0], before[1], after[1]), gaps, groups)
    least = [max(1, gap * (k - 1) + 1 - b - a) for k, gap, b, a in zip(kernel, gaps, before, after, strict=True)]
    size = [data.draw(st.integers(low, low + 12)) for low in least]
    constants = {"weight": sparse(groups * outputs, inputs, *kernel, sparsity=sparsity)}
    x = np.random.default_rng(0).normal(size=(batch, groups * inputs, *size)).astype(np.float32)
    found = ConvPrograms(constants, window)(x, lambda: constants, threads)
    assert close(found, convolved(x, constants["weight"], window))


def test_tuned_programs_give_the_same() -> None:
    constants, window = {"weight": sparse(8, 6, 3, 3)}, Window((3, 3), padding=(1, 1, 1, 1))
    x = np.random.default_rng(0).normal(size=(3, 6, 9, 11)).astype(np.float32)
    found = ConvPrograms(constants, window, tuned=True)(x, lambda: constants, 1)
    assert close(found, convolved(x, constants["weight"], window))


def test_programs_for_the_last_few_sizes_are_kept() -> None:
    constants, asked = {"weight": sparse(4, 3, 3, 3)}, []
    made = ConvPrograms(constants, Window((3, 3)))

    def given() -> dict[str, Floats]:
        asked.append(1)
        return constants

    for size in [*range(3, 20), 19, 12]:
        made(np.ones((1, 3, size, size), np.float32), given, 1)
    assert len(made) == programs._KEPT and len(asked) == 17
    made(np.ones((1, 3, 3, 3), np.float32), given, 1)
    assert len(made) == programs._KEPT and len(asked) == 18


def test_threads_that_need_the_same_program_wait_for_one() -> None:
    constants, asked = {"weight": sparse(16, 8, 3, 3)}, []
    made, window = ConvPrograms(constants, Window((3, 3))), Window((3, 3))

    def given() -> dict[str, Floats]:
        asked.append(1)
        return constants

    def once(number: int) -> bool:
        x = np.random.default_rng(number).normal(size=(2, 8, 10 + number % 3, 12)).astype(np.float32)
        return close(made(x, given, 1 + number % 2), convolved(x, constants["weight"], window))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(48)))
    assert len(asked) == 3
