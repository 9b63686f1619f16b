"""What a method learned on the way (``facts`` in ``result.json``), as charts, tables and sentences of a run's page."""

from __future__ import annotations

from typing import Any

from secateur.lab.report import words
from secateur.lab.report.charts import PALETTE, Spec, altair, color_by, finish

__all__ = ["charts_of", "sentences", "tables_of"]

Facts = dict[str, Any]


def charts_of(facts: Facts) -> list[tuple[str, Spec, str]]:
    """Return title, specification and note of every chart that the facts call for."""
    found = []
    if "search" in facts:
        note = "Every point is one run of the method; the dashed line is the lowest accuracy allowed."
        found.append(("The search for the highest sparsity", _search(facts["search"]), note))
    if "sensitivity" in facts:
        note = "Circles mark the sparsity chosen for each layer; the dashed line is the dense net."
        found.append(("Accuracy with one layer pruned at a time", _sensitivity(facts["sensitivity"]), note))
    return found


def tables_of(facts: Facts) -> list[dict[str, Any]]:
    """Return the tables behind the charts, and what else the method did."""
    tables = []
    if "search" in facts:
        rows = [
            [words.fraction(each["sparsity"]), words.fraction(each["validation"]), "yes" if each["within"] else "no"]
            for each in sorted(facts["search"]["tries"], key=lambda each: float(each["sparsity"]))
        ]
        head = ["sparsity tried", "validation accuracy", "within the budget"]
        tables.append({"title": "Sparsities tried", "head": head, "rows": rows})
    if "sensitivity" in facts:
        tables.append(_sensitivity_table(facts["sensitivity"]))
    rows = [[name, f"{kept:,} of {whole:,} units kept"] for name, (kept, whole) in facts.get("units", {}).items()]
    rows += [[name, "frozen while the others were retrained"] for name in facts.get("frozen", ())]
    if "width" in facts:
        rows.append(["width", f"{facts['width']:.4f} times that of the dense net"])
    if rows:
        tables.append({"title": "What the method did", "head": [], "rows": rows})
    return tables


def sentences(facts: Facts) -> list[str]:
    """Return what belongs into the verdict."""
    found = []
    if "search" in facts:
        search = facts["search"]
        found.append(
            f"Sparsity {search['sparsity']:.4g} is the highest that bisection found within "
            f"{search['max_drop']:g} points of the dense net on validation data."
        )
    dead = facts.get("dead") or {}
    if dead.get("neurons"):
        found.append(
            f"{words.plural(dead['neurons'], 'neuron')} had no input or no output left; "
            f"{words.plural(dead['connections'], 'connection')} that remained at such neurons went too, beyond the "
            f"sparsity of {dead['asked']:.4f} that the threshold gave."
        )
    if facts.get("frozen") == []:
        found.append("No layer was frozen: all of them lost more than the limit, and nothing would have trained.")
    return found


def _sensitivity(facts: Facts) -> Spec:
    alt = altair()
    rows = [
        {"layer": name, "sparsity": sparsity, "accuracy": score}
        for name, curve in facts["curves"].items()
        for sparsity, score in [[0.0, facts["whole"]], *curve]
    ]
    color = color_by("layer", list(facts["curves"]))
    x = alt.X("sparsity:Q", title="sparsity of that layer", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(zero=False))
    tips = ["layer:N", "sparsity:Q", alt.Tooltip("accuracy:Q", format=".4f")]
    lines = (
        alt.Chart(alt.Data(values=rows)).mark_line(point=True, strokeWidth=2).encode(x=x, y=y, tooltip=tips, **color)
    )
    chosen = [
        {"layer": name, "sparsity": share, "accuracy": _height(facts, name, share)}
        for name, share in facts["allocation"].items()
    ]
    marks = alt.Chart(alt.Data(values=chosen)).mark_point(size=180, strokeWidth=2, color=PALETTE[6])
    rule = alt.Chart(alt.Data(values=[{"accuracy": facts["whole"]}])).mark_rule(strokeDash=[6, 4], color=PALETTE[6])
    layers = alt.layer(rule.encode(y=y), lines, marks.encode(x=x, y=y, tooltip=tips))
    return finish(layers.properties(height=280))


def _height(facts: Facts, name: str, share: float) -> float:
    """Return the accuracy of a layer's curve at a sparsity, straight between the measured ones."""
    before, low = 0.0, float(facts["whole"])
    for sparsity, score in facts["curves"][name]:
        if share <= sparsity:
            return float(low + (score - low) * (share - before) / (sparsity - before))
        before, low = sparsity, score
    return low


def _sensitivity_table(facts: Facts) -> dict[str, Any]:
    levels = [sparsity for sparsity, _ in next(iter(facts["curves"].values()))]
    rows = [
        [name, *(words.fraction(score) for _, score in curve), words.fraction(facts["allocation"][name])]
        for name, curve in facts["curves"].items()
    ]
    head = ["validation accuracy with pruned", *(f"{level:g}" for level in levels), "sparsity chosen"]
    note = f"The whole net has {words.fraction(facts['whole'])}."
    return {"title": "Accuracy with one layer pruned at a time", "head": head, "rows": rows, "note": note}


def _search(facts: Facts) -> Spec:
    alt = altair()
    rows = [
        {
            "sparsity": each["sparsity"],
            "accuracy": each["validation"],
            "budget": "within" if each["within"] else "beyond",
            "try": number,
        }
        for number, each in enumerate(facts["tries"], start=1)
    ]
    x = alt.X("sparsity:Q", title="sparsity tried", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(zero=False))
    color = alt.Color("budget:N", title=None, scale=alt.Scale(domain=["within", "beyond"], range=PALETTE[:2]))
    points = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=90, opacity=1)
    tips = ["try:Q", "sparsity:Q", alt.Tooltip("accuracy:Q", format=".4f"), "budget:N"]
    rule = alt.Chart(alt.Data(values=[{"accuracy": facts["floor"]}])).mark_rule(strokeDash=[6, 4], color=PALETTE[6])
    layers = alt.layer(rule.encode(y=y), points.encode(x=x, y=y, color=color, tooltip=tips))
    return finish(layers.properties(height=240))
