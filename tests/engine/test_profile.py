"""Where time goes, as a table."""

from __future__ import annotations

import pytest

from secateur.engine.profile import Profile, Row

ROWS = (Row("input", "x", 1e-6, 0, 0), Row("conv", "layer.0", 3e-6, 30_000, 300_000))


def test_a_row_counts_what_was_left_out() -> None:
    assert ROWS[1].sparsity == 0.9
    assert ROWS[1].gflops == pytest.approx(20)
    assert ROWS[0].sparsity == 0 and Row("conv", "x", 0.0, 1, 1).gflops == 0


def test_the_table_has_times_shares_and_the_peak() -> None:
    profile = Profile(ROWS, peak=100.0, instructions="avx2", samples=1)
    assert profile.seconds == pytest.approx(4e-6)
    head, _, first, second, total = str(profile).splitlines()
    assert head.split() == ["operator", "where", "µs", "share", "sparsity", "GFLOP/s", "of", "peak"]
    assert first.split() == ["input", "x", "1.0", "25.0%"]
    assert second.split() == ["conv", "layer.0", "3.0", "75.0%", "0.900", "20.0", "20%"]
    assert total == "4.0 µs for 1 sample, one thread, avx2: 15.0 useful GFLOP/s of 100.0"


def test_a_table_without_times_is_printed_too() -> None:
    empty = Profile((Row("conv", "x", 0.0, 0, 8),), peak=0.0, instructions="baseline", samples=2)
    assert str(empty).endswith("0.0 µs for 2 samples, one thread, baseline: 0.0 useful GFLOP/s of 0.0")
