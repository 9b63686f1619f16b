"""A sweep's verdict in words: how far each method can go, which is best, and what stayed open."""

from __future__ import annotations

import math
from typing import Any

from secateur.lab.report import words
from secateur.lab.report.reading import dig
from secateur.lab.report.verdict import MISS, Verdict, control_sentence, images

__all__ = ["row_noise", "row_reference", "sweep_verdict"]


def row_reference(row: dict[str, Any]) -> float | None:
    """Return the mean test accuracy of a summary row's dense reference, if there is one."""
    mean = row.get("reference_mean")
    return None if mean is None else float(mean)


def row_noise(sweep: dict[str, Any], row: dict[str, Any]) -> float:
    """Return the difference in mean test accuracy that chance alone may explain in a summary row.

    The larger of one standard error of the difference between the means over seeds, and one standard error
    of the test set, sqrt(p (1 - p) / n): the seeds share one test set, so more of them do not shrink that.

    Example:
        >>> row_noise({"data": {"test": 100}}, {"mean": 0.9, "std": 0.01, "reference_std": None, "runs": 3})
        0.03
    """
    number, mean = dig(sweep, "data", "test"), row.get("mean")
    images_error = math.sqrt(max(0.0, mean * (1 - mean)) / number) if number and mean is not None else 0.0
    spread = math.hypot(row.get("std") or 0.0, row.get("reference_std") or 0.0)
    return float(max(round(images_error, 12), spread / math.sqrt(max(1, row.get("runs") or 1))))


def _drop(row: dict[str, Any]) -> float | None:
    """Return the test accuracy a summary row lost against its reference; negative is a gain."""
    reference = row_reference(row)
    return None if reference is None or row.get("mean") is None else reference - row["mean"]


def sweep_verdict(sweep: dict[str, Any]) -> Verdict:
    """Judge a sweep; methods closer to each other than chance explains are not ranked."""
    verdict = Verdict()
    rows = [row for row in sweep["summary"] if row.get("mean") is not None]
    _problems(sweep, verdict)
    if control := control_sentence(sweep.get("settings") or {}):
        verdict.first.append(control)
    free = _free(sweep, rows, verdict)
    if _own_ends(sweep):
        verdict.remarks.append(
            "Each net ended at a sparsity of its own, which the tables show; no methods are ranked at one."
        )
    else:
        _scores(sweep, verdict)
        _contest(sweep, rows, verdict)
        _tiny(sweep, rows, verdict)
        _price(sweep, rows, verdict)
    _lengths(sweep, verdict)
    _bytes_and_time(sweep, verdict)
    verdict.headline = _headline(sweep, free)
    verdict.warnings += [str(warning) for warning in sweep.get("warnings") or ()]
    verdict.remarks += [str(note) for note in dig(sweep, "data", "notes") or ()]
    if any((row.get("runs") or 0) < 2 for row in rows):
        verdict.remarks.append("Where there is only one seed there is no spread, and a ranking may be chance.")
    return verdict


def _own_ends(sweep: dict[str, Any]) -> bool:
    """Tell whether a search or thresholds set the sparsities, and not the sweep."""
    return bool(dig(sweep, "settings", "max_drop") or dig(sweep, "settings", "quality"))


def _lengths(sweep: dict[str, Any], verdict: Verdict) -> None:
    """Name the methods whose nets were trained for longer or shorter than their dense references."""
    other: dict[str, str] = {}
    for cell in sweep["cells"]:
        own, reference = cell.get("epochs"), cell.get("reference_epochs")
        if own is not None and reference is not None and abs(own - reference) > 0.5:
            other[cell["method"]] = f"{cell['method']} {words.count(own)}, dense {words.count(reference)}"
    if other:
        verdict.remarks.append(f"Not all nets were trained for as many epochs as dense: {'; '.join(other.values())}.")


def _problems(sweep: dict[str, Any], verdict: Verdict) -> None:
    """Say first what went wrong: failed cells, and targets that were missed."""
    failed = sweep.get("failed") or []
    cells = sweep["cells"]
    if failed:
        every = words.plural(len(cells) + len(failed), "cell")
        verdict.first.append(f"{len(failed)} of {every} failed and are missing from everything below.")
    missed = [
        f"{cell['method']} at {cell['sparsity']:.4g} (seed {cell.get('seed')}: {cell['achieved']:.4f})"
        for cell in cells
        if (asked := cell.get("asked", cell["sparsity"])) is not None and cell.get("achieved") is not None
        if abs(cell["achieved"] - asked) > MISS
    ]
    if missed:
        shown = words.join(missed) if len(missed) <= 6 else ", ".join(missed[:5]) + f" and {len(missed) - 5} more"
        verb = "misses its" if len(missed) == 1 else "miss their"
        verdict.first.append(f"{words.plural(len(missed), 'cell')} {verb} target sparsity: {shown}.")
    if not cells:
        verdict.first.append("No cell of the sweep finished, so there is nothing to compare.")


def _free(sweep: dict[str, Any], rows: list[dict[str, Any]], verdict: Verdict) -> dict[str, Any] | None:
    """Say how far each method goes at no measurable loss; return the row that goes furthest."""
    known = [row for row in rows if _drop(row) is not None]
    if rows and not known:
        verdict.first.append("There is no dense reference, so what pruning cost is not known.")
        return None
    furthest: dict[str, dict[str, Any]] = {}
    ended: set[str] = set()
    for row in sorted(known, key=lambda row: float(row["sparsity"])):
        # A method's free stretch ends at its first loss: a lucky row beyond it is not a recommendation.
        if (_drop(row) or 0.0) > row_noise(sweep, row):
            ended.add(row["method"])
        elif row["method"] not in ended:
            furthest[row["method"]] = row
    for row in sorted(furthest.values(), key=lambda row: -float(row["sparsity"])):
        fewer = f", {words.ratio(row['compression'])} times fewer" if row.get("compression") else ""
        verdict.gained.append(
            f"{row['method']} removes {words.percent(_removed(row))} of the target weights{fewer}, at no "
            f"measurable loss of test accuracy ({words.percent(row_reference(row))} → {words.percent(row['mean'])})."
        )
    hopeless = [method for method in dict.fromkeys(row["method"] for row in known) if method not in furthest]
    if hopeless:
        where = "" if _own_ends(sweep) else " at the lowest sparsity tried already"
        verdict.lost.append(f"{words.join(hopeless)} lost test accuracy measurably{where}.")
    return max(furthest.values(), key=lambda row: (float(row["sparsity"]), row["mean"]), default=None)


def _contest(sweep: dict[str, Any], rows: list[dict[str, Any]], verdict: Verdict) -> None:
    """Say which method is best at each sparsity, or that chance decides."""
    for sparsity in sorted({float(row["sparsity"]) for row in rows}):
        here = sorted((row for row in rows if row["sparsity"] == sparsity), key=lambda row: -row["mean"])
        if len(here) < 2:
            continue
        best = here[0]
        # Of two rows the noisier one decides how close is too close to call.
        tied = [row for row in here if best["mean"] - row["mean"] <= max(row_noise(sweep, best), row_noise(sweep, row))]
        at = f"At a sparsity of {sparsity:.4g}"
        if len(tied) == len(here):
            verdict.remarks.append(f"{at} no method differs measurably from the best.")
        elif len(tied) == 1:
            second = here[1]
            verdict.remarks.append(
                f"{at} {best['method']} is best with {words.percent(best['mean'])} of {images(sweep)} right, "
                f"{words.points(best['mean'] - second['mean'])} before {second['method']}."
            )
        else:
            names = words.join([row["method"] for row in tied])
            verdict.remarks.append(f"{at} {names} lead and do not differ measurably from each other.")


def _scores(sweep: dict[str, Any], verdict: Verdict) -> None:
    """Name the method with the highest score, and whether it is ahead of the second by more than the spread."""
    scores = sweep.get("scores") or []
    if len(scores) < 2:
        return
    first, second = scores[:2]
    ahead = first["mean"] - second["mean"]
    spread = math.hypot(*(row["std"] / math.sqrt(max(1, row["runs"])) for row in (first, second)))
    text = f"By the score {first['method']} is first with {first['mean']:.4f}, "
    text += f"{ahead:.4f} ahead of {second['method']}: " if ahead else f"level with {second['method']}: "
    if min(first["runs"], second["runs"]) < 2:
        text += "with one seed it is not known whether that is chance."
    elif ahead > spread:
        text += f"more than the spread over seeds (one standard error of the difference is {spread:.4f})."
    else:
        text += f"no more than the spread over seeds (one standard error of the difference is {spread:.4f})."
    verdict.remarks.insert(0, text)


def _tiny(sweep: dict[str, Any], rows: list[dict[str, Any]], verdict: Verdict) -> None:
    """Say what one sparsity for every tensor does to the smallest, beside one ranking for all of them."""
    pair = ("threshold-layerwise", "threshold")
    means = {(row["method"], row["sparsity"]): row["mean"] for row in rows}
    levels = sorted(s for method, s in means if method == pair[0] and (pair[1], s) in means)
    if len(levels) > 4:
        widest = max(levels, key=lambda level: means[pair[1], level] - means[pair[0], level])
        levels = sorted({levels[0], widest, levels[-1]})
    left = {(method, level): _smallest(sweep, method, level) for level in levels for method in pair}
    one_target = len({(each["name"], each["weights"]) for seeds in left.values() for each in seeds}) == 1
    if not one_target or not all(left.values()):
        return
    smallest = left[pair[0], levels[0]][0]
    alone, together = ([_taken(left[method, level]) for level in levels] for method in pair)
    accuracy = [words.join([words.percent(means[method, level]) for level in levels]) for method in pair]
    at = words.join([f"{_range(taken)} at {level:.4g}" for taken, level in zip(alone, levels, strict=True)])
    spared = list(dict.fromkeys(_range(taken) for taken in together))
    spared = spared if len(spared) == 1 else [_range(taken) for taken in together]
    text = (
        "Layer-wise thresholding prunes every tensor to the same sparsity, however small: of the "
        f"{smallest['weights']} elements of {smallest['name']} it takes {at}; one ranking over the whole model takes "
        f"{words.join(spared)}. Test accuracy is {accuracy[0]} layer-wise, and "
        f"{accuracy[1]} in one ranking."
    )
    if any(max(ours) >= min(theirs) for ours, theirs in zip(together, alone, strict=True)):
        text += " Where both take as many, this tensor does not explain the difference."
    verdict.remarks.append(text)


def _smallest(sweep: dict[str, Any], method: str, sparsity: float) -> list[dict[str, Any]]:
    """Return what each seed left of the smallest target; nothing for sweeps from before that was recorded."""
    cells = [cell for cell in sweep["cells"] if (cell["method"], cell["sparsity"]) == (method, sparsity)]
    return [cell["smallest"] for cell in cells if cell.get("smallest")]


def _taken(seeds: list[dict[str, Any]]) -> list[int]:
    """Return how many elements are gone with each seed."""
    return [int(each["weights"]) - int(each["kept"]) for each in seeds]


def _range(counts: list[int]) -> str:
    """Write counts as one, or from the least to the most."""
    low, high = min(counts), max(counts)
    return f"{low} to {high}" if low < high else f"{low}" if low else "none"


def _price(sweep: dict[str, Any], rows: list[dict[str, Any]], verdict: Verdict) -> None:
    """Say what the highest sparsity cost: the best method and the worst."""
    if not rows:
        return
    top = max(float(row["sparsity"]) for row in rows)
    drops = [(drop, row) for row in rows if row["sparsity"] == top and (drop := _drop(row)) is not None]
    if not drops:
        return
    drops = [(drop, row) for drop, row in drops if drop > row_noise(sweep, row)]
    if not drops:
        verdict.lost.append(f"No test accuracy was lost measurably at the highest sparsity tried, {top:.4g}.")
        return
    drops.sort(key=lambda pair: pair[0])
    text = f"At a sparsity of {top:.4g}, {drops[0][1]['method']} costs {words.points(drops[0][0])} of test accuracy"
    if len(drops) > 1:
        text += f" and {drops[-1][1]['method']} {words.points(drops[-1][0])}"
    verdict.lost.append(text + " against the dense net trained further without pruning.")


def _bytes_and_time(sweep: dict[str, Any], verdict: Verdict) -> None:
    """Say what the cells measured of size and speed, and that this alone shows no speed-up."""
    cells = sweep["cells"]
    sized = [cell for cell in cells if cell.get("bytes_gzipped")]
    if sized:
        low, high = (pick(sized, key=lambda cell: float(cell["sparsity"])) for pick in (min, max))
        if low["sparsity"] != high["sparsity"]:
            if high["bytes_gzipped"] < low["bytes_gzipped"]:
                verdict.gained.append(
                    f"The gzipped file shrinks from {words.size(low['bytes_gzipped'])} at a sparsity of "
                    f"{low['sparsity']:.4g} to {words.size(high['bytes_gzipped'])} at {high['sparsity']:.4g}."
                )
            else:
                verdict.not_gained.append("The gzipped file does not get smaller with more sparsity.")
    timed = [cell["latency_ms"] for cell in cells if cell.get("latency_ms")]
    if timed:
        verdict.not_gained.append(
            f"Speed: the median inference times of all cells lie between {words.milliseconds(min(timed))} and "
            f"{words.milliseconds(max(timed))}. A sweep records no dense time beside them, so nothing is "
            "claimed here; the report of each run compares the two."
        )
    elif cells:
        verdict.not_gained.append("Inference time was not measured, so nothing is said of speed.")


def _headline(sweep: dict[str, Any], free: dict[str, Any] | None) -> str:
    """Sum the sweep up in one sentence."""
    if not sweep["cells"]:
        return "No cell of this sweep finished."
    if all(row_reference(row) is None for row in sweep["summary"]):
        return "What pruning cost is not known: this sweep has no dense reference."
    if free is None:
        return "No method removed any weights without a measurable loss of test accuracy."
    compression = f" ({words.ratio(free['compression'])} times fewer)" if free.get("compression") else ""
    return (
        f"Up to {words.percent(_removed(free))} of the target weights{compression} can go at no measurable loss "
        f"of test accuracy, with {free['method']}."
    )


def _removed(row: dict[str, Any]) -> float:
    """Return the share of target weights that are gone, which is not always the sparsity asked for (neurons)."""
    return float(row.get("achieved", row["sparsity"]))
