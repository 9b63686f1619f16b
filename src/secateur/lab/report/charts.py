"""The charts of a report as Vega-Lite specifications; every number in them stands in a table too."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from secateur.vocabulary import MissingExtraError

__all__ = ["altair", "color_by", "cost_chart", "curves_chart", "finish", "layers_chart", "sweep_chart"]

# Okabe and Ito's palette, which stays apart for colour-blind readers; readable on white and on near-black.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C"]
Spec = dict[str, Any]


def altair() -> Any:
    """Return the module of that name.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("altair")
    except ImportError as error:
        raise MissingExtraError("reports need altair: pip install 'secateur[lab]'") from error


def color_by(field: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the encodings that tell many lines apart: colours, and dashes and shapes once colours repeat."""
    alt = altair()
    around = range(len(names))
    dashes = [[1, 0], [6, 3], [2, 2]]
    shapes = ["circle", "square", "triangle-up"]

    def scale(values: Sequence[Any]) -> Any:
        turns = [values[n // len(PALETTE) % len(values)] for n in around]
        return alt.Scale(domain=list(names), range=turns)

    colors = alt.Scale(domain=list(names), range=[PALETTE[n % len(PALETTE)] for n in around])
    legend = alt.Legend(symbolOpacity=1, symbolStrokeWidth=0)  # the dashed outline would fray the shapes
    found = {"color": alt.Color(f"{field}:N", title=None, scale=colors, legend=legend)}
    if len(names) > len(PALETTE):
        found["strokeDash"] = alt.StrokeDash(f"{field}:N", title=None, scale=scale(dashes), legend=legend)
        found["shape"] = alt.Shape(f"{field}:N", title=None, scale=scale(shapes), legend=legend)
    return found


def finish(chart: Any) -> Spec:
    """Return the specification of a chart as wide as its place on the page."""
    spec: Spec = chart.properties(width="container").to_dict()
    return spec


def curves_chart(
    metrics: Sequence[dict[str, Any]], best_epoch: int | None = None, searched: float | None = None
) -> Spec:
    """Return validation accuracy over epochs with loss and sparsity beneath it, phases one after another.

    Args:
        metrics: one row for each epoch.
        best_epoch: of the last phase that prunes, the one whose state was kept; marked if given.
        searched: the sparsity that a search ended at; of its tries only this one is shown.

    Returns:
        The specifications as ``parts``, and as ``best`` the epoch that is marked, None without a mark.
    """
    alt = altair()
    rows = _in_order(metrics, searched)
    colors = {"dense": 6, "dense, trained further": 0, "pruned": 1, "sharing few values": 2}
    shown = [name for name in colors if any(row["phase"] == name for row in rows)]
    color = alt.Color("phase:N", title=None, scale=alt.Scale(domain=shown, range=[PALETTE[colors[n]] for n in shown]))
    tips = ["phase:N", "epoch:Q", alt.Tooltip("accuracy:Q", format=".4f"), alt.Tooltip("sparsity:Q", format=".4f")]
    wholes = alt.Axis(tickMinStep=1, format="d")
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(zero=False, nice=False, padding=10), axis=wholes)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=color)
    zoomed = alt.Scale(zero=False, domain=_window([row["accuracy"] for row in rows]), nice=False)
    margin = alt.Axis(minExtent=42, maxExtent=42, tickCount=5)  # so that the three parts stand under each other
    few = alt.Axis(minExtent=42, maxExtent=42, tickCount=2)
    accuracy = base.mark_line(strokeWidth=2, clip=True).encode(
        y=alt.Y("accuracy:Q", title="validation accuracy", scale=zoomed, axis=margin), tooltip=tips
    )
    loss = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("loss:Q", title="training loss", scale=alt.Scale(type="symlog", constant=0.01), axis=few),
        tooltip=[*tips, "loss:Q"],
    )
    sparsity = base.mark_line(strokeWidth=2, interpolate="step-after").encode(
        y=alt.Y("sparsity:Q", title="sparsity", scale=alt.Scale(domain=[0, 1]), axis=margin), tooltip=tips
    )
    best = _best(rows, best_epoch)
    if best:
        mark = alt.Chart(alt.Data(values=best)).mark_point(size=160, strokeWidth=2, color=PALETTE[6], clip=True)
        text = alt.Tooltip("own:Q", title="best epoch on validation data")
        accuracy += mark.encode(x=x, y=alt.Y("accuracy:Q", scale=zoomed), tooltip=[text, *tips[2:]])
    parts = [(accuracy, 200), (loss, 110), (sparsity, 90)]
    # Each part is finished apart: a concatenation cannot follow the width of its container.
    specs = [finish(part.properties(height=height)) for part, height in parts]
    for spec in specs[1:]:
        spec["encoding"]["color"]["legend"] = None
    return {"parts": specs, "best": best_epoch if best else None}


def _best(rows: Sequence[dict[str, Any]], epoch: int | None) -> list[dict[str, Any]]:
    """Return the row of that epoch of the last phase that prunes."""
    last = next((row["stage"] for row in reversed(rows) if row["phase"] == "pruned"), None)
    return [row for row in rows if epoch and row["stage"] == last and row["own"] == epoch]


def _in_order(metrics: Sequence[dict[str, Any]], searched: float | None = None) -> list[dict[str, Any]]:
    """Return the rows of a chart, phases that prune one after another.

    The reference trains beside the pruned net, from the same dense one: both begin where that ends. A search names its
    phases by the sparsity tried; it goes on after the one that is kept in the end, so its last rows are others'.
    """
    kept = "" if searched is None else f"{searched:.4f}/"
    shown = [row for row in metrics if "/" not in row["phase"] or row["phase"].startswith(kept)]
    # A ticket's early weights are the dense ones of that epoch, drawn already.
    shown = [row for row in shown if row["phase"].rpartition("/")[2] != "early"]
    dense = sum(row["phase"] == "dense" for row in shown)
    stages = [row["phase"] for row in shown if row["phase"] not in ("dense", "dense-longer")]
    offset, ends = {"dense": 0, "dense-longer": dense}, dense
    for stage in dict.fromkeys(stages):
        # Rewound phases do not begin at their first epoch.
        offset[stage] = ends + 1 - min(row["epoch"] for row in shown if row["phase"] == stage)
        ends += stages.count(stage)
    names = {"dense": "dense", "dense-longer": "dense, trained further", "share": "sharing few values"}
    return [
        {
            "epoch": row["epoch"] + offset[row["phase"]],
            "own": row["epoch"],
            "stage": row["phase"],
            "phase": names.get(row["phase"], "pruned"),
            "accuracy": row["validation_accuracy"],
            "sparsity": row["sparsity"],
            "loss": row["loss"],
        }
        for row in shown
    ]


def _window(values: Sequence[float | None]) -> list[float]:
    """Return the range in which most of the values lie: the first epochs of training would squash the rest."""
    ordered = sorted(value for value in values if value is not None) or [0.0, 1.0]
    low = ordered[len(ordered) // 10]
    pad = max(0.005, (ordered[-1] - low) * 0.15)
    return [max(0.0, low - pad), min(1.0, ordered[-1] + pad)]


def layers_chart(layers: Sequence[dict[str, Any]]) -> Spec:
    """Return a bar of sparsity for each target, in model order."""
    alt = altair()
    fields = ("name", "sparsity", "kept", "weights")
    rows = [{key: layer[key] for key in fields} for layer in layers]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(color=PALETTE[0], cornerRadiusEnd=2)
        .encode(
            y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=150)),
            x=alt.X("sparsity:Q", scale=alt.Scale(domain=[0, 1]), title="sparsity", axis=alt.Axis(tickCount=5)),
            tooltip=["name:N", alt.Tooltip("sparsity:Q", format=".4f"), alt.Tooltip("kept:Q", format=","), "weights:Q"],
        )
        .properties(height=max(60, 22 * len(rows)))
    )
    return finish(chart)


def cost_chart(costs: Sequence[tuple[str, float | None, float | None]], title: str = "pruned / dense") -> Spec:
    """Return bars of what the pruned net costs as a share of the dense one; 1 is no gain."""
    alt = altair()
    rows = [{"what": w, "share": after / before} for w, before, after in costs if before and after is not None]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=190))
    )
    bars = base.mark_bar(color=PALETTE[1], cornerRadiusEnd=2).encode(
        x=alt.X("share:Q", title=title, scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=5)),
        tooltip=["what:N", alt.Tooltip("share:Q", format=".3f")],
    )
    rule = alt.Chart(alt.Data(values=[{"share": 1}])).mark_rule(strokeDash=[4, 4], color=PALETTE[6]).encode(x="share:Q")
    return finish(alt.layer(bars, rule).properties(height=28 * max(1, len(rows))))


def sweep_chart(sweep: dict[str, Any], below: float | None = None) -> Spec:
    """Return test accuracy over sparsity: mean and spread of every method, the frontier, the dense reference.

    The x axis is the compression ratio on a log scale, so that 0.9, 0.95 and 0.99 stand apart.

    Args:
        sweep: the content of ``sweep.json``.
        below: how far under the dense reference the accuracy axis reaches, as a share; all of it if left out.
    """
    alt = altair()
    rows = [
        {**row, "low": row["mean"] - row["std"], "high": row["mean"] + row["std"]}
        for row in sweep["summary"]
        if row["compression"]
    ]
    looks = color_by("method", sorted({row["method"] for row in rows}))
    dashed, shaped = ({key: looks[key] for key in (name,) if key in looks} for name in ("strokeDash", "shape"))
    dense = sum(row["reference_mean"] for row in rows) / len(rows)
    low, high = min(row["low"] for row in rows), max(dense, *(row["high"] for row in rows))
    if below is not None:
        low = max(low, dense - below)
    pad = 0.05 * (high - low) + 0.001
    scale = alt.Scale(domain=[low - pad, min(1.0, high + pad)], zero=False, nice=False)
    y = alt.Y("mean:Q", title="test accuracy", scale=scale)
    labels = "datum.value == 1 ? '0' : format(1 - 1 / datum.value, '.3~f')"
    ratios = sorted({1 / (1 - row["sparsity"]) for row in rows if row["sparsity"] < 1})
    x = alt.X(
        "compression:Q",
        title="sparsity of the target weights",
        # Ticks stand at the sparsities asked for, which cells may fall short of.
        scale=alt.Scale(type="log", nice=False, padding=18, domain=_reach(ratios, rows)),
        axis=alt.Axis(labelExpr=labels, values=ratios, grid=False, labelOverlap=True),
    )
    tips = ["method:N", "sparsity:Q", *(alt.Tooltip(f"{k}:Q", format=".4f") for k in ("mean", "std")), "runs:Q"]
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=looks["color"])
    band = base.mark_rule(strokeWidth=1.5, opacity=0.7, clip=True).encode(
        y=alt.Y("low:Q", title="test accuracy", scale=scale), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, clip=True).encode(y=y, **dashed)
    points = base.mark_point(filled=True, size=50, opacity=1, clip=True).encode(y=y, tooltip=tips, **shaped)
    best = [row for row in sweep["frontier"] if row["compression"]]
    rule, rings = _landmarks(dense, best, x, y)
    return finish(alt.layer(rule, band, line, rings, points).properties(height=320))


def _reach(ratios: Sequence[float], rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the ends of an axis that holds all ticks and all points, in its middle where they are all but one."""
    values = [*ratios, *(row["compression"] for row in rows)]
    low, high = min(values), max(values)
    wider = 1.0 if high > 1.25 * low else 1.25
    return [max(1.0, low / wider), high * wider]


def _landmarks(dense: float, best: Sequence[dict[str, Any]], x: Any, y: Any) -> tuple[Any, Any]:
    """Return a line at the dense reference, and rings around the rows of the frontier."""
    alt = altair()
    rings = (
        alt.Chart(alt.Data(values=best))
        .mark_point(size=220, strokeWidth=1.5, color=PALETTE[6], clip=True)
        .encode(x=x, y=y, tooltip=["method:N", "sparsity:Q", alt.Tooltip("mean:Q", format=".4f")])
    )
    rule = (
        alt.Chart(alt.Data(values=[{"mean": dense}]))
        .mark_rule(strokeDash=[6, 4], color=PALETTE[6])
        .encode(y=y, tooltip=[alt.Tooltip("mean:Q", title="dense, trained further", format=".4f")])
    )
    return rule, rings
