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
    tables: list[dict[str, Any]] = []
    if "search" in facts:
        rows = [
            [words.fraction(each["sparsity"]), str(n), words.fraction(each["validation"]), _yes(each["within"])]
            for n, each in sorted(enumerate(facts["search"]["tries"], start=1), key=lambda pair: pair[1]["sparsity"])
        ]
        head = ["sparsity tried", "try", "validation accuracy", "within the budget"]
        tables.append({"title": "Sparsities tried", "head": head, "rows": rows})
    if "sensitivity" in facts:
        tables.append(_sensitivity_table(facts["sensitivity"]))
    rows = [[name, f"{kept:,} of {whole:,} units kept"] for name, (kept, whole) in facts.get("units", {}).items()]
    rows += [[name, "frozen while the others were retrained"] for name in facts.get("frozen", ())]
    if "width" in facts:
        rows.append(["width", f"{facts['width']:.4f} times that of the dense net"])
    if rows:
        tables.append({"title": "What the method did", "head": [], "rows": rows, "prose": True})
    return tables


def sentences(facts: Facts) -> list[tuple[str, str]]:
    """Return what belongs into the verdict: each sentence with the section it goes to."""
    found = []
    if "search" in facts:
        found.append(_search_sentence(facts["search"], "share of units" if facts.get("units") else "sparsity"))
    if facts.get("dead"):
        found.append(("remarks", _dead_sentence(facts["dead"])))
    if facts.get("frozen") == []:
        found.append(("remarks", "No layer was frozen, so all of them were retrained."))
    return found


def _search_sentence(search: Facts, what: str) -> tuple[str, str]:
    points = f"{search['max_drop']:g} point{'' if search['max_drop'] == 1 else 's'}"
    budget = f"within {points} of the dense net, before any longer training, on validation data"
    tries = len(search["tries"])
    if not any(each["within"] for each in search["tries"]):
        lowest = min((each["sparsity"] for each in search["tries"]), default=1.0)
        return "not_gained", f"None of the {tries} sparsities tried, down to {lowest:.4g}, keeps {budget}."
    text = f"Highest {what} {budget}: {search['sparsity']:.4g}, found by bisection in {tries} tries"
    beyond = [each["sparsity"] for each in search["tries"] if not each["within"]]
    ending = f"; the next higher one tried, {min(beyond):.4g}, fell below." if beyond else "; none of them fell below."
    return "gained", text + ending


def _dead_sentence(dead: Facts) -> str:
    neurons, connections = dead["neurons"], dead["connections"]
    if not neurons:
        return "No neuron was found without inputs or without outputs."
    text = f"{words.plural(neurons, 'neuron')} {'has' if neurons == 1 else 'have'} no inputs or no outputs left"
    if not connections:
        return f"{text}; in the last round no connection remained there to be dropped with them{_earlier(dead)}."
    verb = "was" if connections == 1 else "were"
    return (
        f"{text}; in the last round {words.plural(connections, 'connection')} that remained there {verb} dropped with "
        f"them, on top of the sparsity of {dead['asked']:.4f} that the threshold gave{_earlier(dead)}."
    )


def _earlier(dead: Facts) -> str:
    before = dead.get("all_connections", dead["connections"]) - dead["connections"]
    return f"; the rounds before had dropped {before}" if before else ""


def _yes(within: float) -> str:
    return "yes" if within else "no"


def _sensitivity(facts: Facts) -> Spec:
    alt = altair()
    rows = [
        {"layer": name, "sparsity": sparsity, "accuracy": score}
        for name, curve in facts["curves"].items()
        for sparsity, score in [[0.0, facts["whole"]], *curve]
    ]
    looks = color_by("layer", list(facts["curves"]))
    x = alt.X("sparsity:Q", title="sparsity of that layer", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(zero=False))
    tips = ["layer:N", alt.Tooltip("sparsity:Q", format=".4~f"), alt.Tooltip("accuracy:Q", format=".4f")]
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y, color=looks.pop("color"))
    shape = {key: looks.pop(key) for key in ("shape",) if key in looks}
    lines = base.mark_line(strokeWidth=2).encode(**looks)
    points = base.mark_point(filled=True, size=35, opacity=1).encode(tooltip=tips, **shape)
    chosen = [
        {"layer": name, "sparsity": share, "accuracy": _height(facts, name, share)}
        for name, share in facts["allocation"].items()
    ]
    marks = alt.Chart(alt.Data(values=chosen)).mark_point(size=180, strokeWidth=2, color=PALETTE[6])
    chose = ["layer:N", alt.Tooltip("sparsity:Q", title="sparsity chosen", format=".4f")]
    rule = alt.Chart(alt.Data(values=[{"accuracy": facts["whole"]}])).mark_rule(strokeDash=[6, 4], color=PALETTE[6])
    layers = alt.layer(rule.encode(y=y), lines, points, marks.encode(x=x, y=y, tooltip=chose))
    return finish(layers.properties(height=280))


def _height(facts: Facts, name: str, share: float) -> float | None:
    """Return the accuracy of a layer's curve at a sparsity, straight between the measured ones."""
    before, low = 0.0, facts["whole"]
    for sparsity, score in facts["curves"].get(name, ()):
        if score is None or low is None:
            return None
        if share <= sparsity:
            return float(low + (score - low) * (share - before) / (sparsity - before))
        before, low = sparsity, score
    return None if low is None else float(low)


def _sensitivity_table(facts: Facts) -> dict[str, Any]:
    levels = [sparsity for sparsity, _ in next(iter(facts["curves"].values()), ())]
    rows = [
        [name, words.fraction(facts["allocation"].get(name)), *(words.fraction(score) for _, score in curve)]
        for name, curve in facts["curves"].items()
    ]
    head = ["layer", "sparsity chosen", *(f"{level:g}" for level in levels)]
    note = (
        "The columns on the right are sparsities of that layer alone, with the validation accuracy of the net then; "
        f"with nothing pruned it is {words.fraction(facts['whole'])}."
    )
    return {"title": "Accuracy with one layer pruned at a time", "head": head, "rows": rows, "note": note}


def _search(facts: Facts) -> Spec:
    alt = altair()
    rows = [
        {
            "sparsity": each["sparsity"],
            "accuracy": each["validation"],
            "budget": "within the budget" if each["within"] else "beyond it",
            "try": number,
        }
        for number, each in enumerate(facts["tries"], start=1)
    ]
    x = alt.X("sparsity:Q", title="sparsity tried", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    y = alt.Y("accuracy:Q", title="validation accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    color = alt.Color(
        "budget:N", title=None, scale=alt.Scale(domain=["within the budget", "beyond it"], range=PALETTE[:2])
    )
    points = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=90, opacity=1)
    tips = ["try:Q", alt.Tooltip("sparsity:Q", format=".4f"), alt.Tooltip("accuracy:Q", format=".4f"), "budget:N"]
    rule = alt.Chart(alt.Data(values=[{"accuracy": facts["floor"]}])).mark_rule(strokeDash=[6, 4], color=PALETTE[6])
    layers = alt.layer(rule.encode(y=y), points.encode(x=x, y=y, color=color, tooltip=tips))
    return finish(layers.properties(height=240))
