"""The axes of a sweep's chart: where its points stand."""

import pytest

from secateur.lab.report.charts import sweep_chart


def axis(*sparsities):
    """Return the ends of the axis, and the place of every point on it."""
    point = {"method": "gradual", "mean": 0.9, "std": 0.01, "runs": 3, "reference_mean": 0.92}
    rows = [point | {"sparsity": each, "compression": 1 / (1 - each - 2e-7)} for each in sparsities]
    spec = sweep_chart({"summary": rows, "frontier": rows})
    return spec["layer"][1]["encoding"]["x"]["scale"]["domain"], [row["compression"] for row in rows]


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.95, 0.99])
def test_a_single_sparsity_stands_away_from_both_ends(sparsity):
    (low, high), (place,) = axis(sparsity)
    assert 1.0 <= low < 0.9 * place and high > 1.2 * place


def test_several_sparsities_fill_the_axis():
    (low, high), places = axis(0.5, 0.9, 0.95)
    assert low == pytest.approx(2.0) and high == max(places)
