"""A run's verdict in words: what was gained, what was lost, and what was not gained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from secateur.lab.report import words
from secateur.lab.report.costs import judge_costs, latency_judgement
from secateur.lab.report.findings import sentences
from secateur.lab.report.reading import dig
from secateur.lab.report.speed import engine_gain, judge_speed

__all__ = [
    "MISS",
    "AccuracyChange",
    "Verdict",
    "accuracy_change",
    "control_sentence",
    "images",
    "run_verdict",
    "target_change",
]

# An asked and a reached sparsity further apart than this are said to differ: a rounding of whole
# weights stays below it in any net worth pruning.
MISS = 0.001


@dataclass
class Verdict:
    """Sentences by what they say; ``first`` holds what must be read before anything else."""

    headline: str = ""
    first: list[str] = field(default_factory=list)
    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    not_gained: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AccuracyChange:
    """Accuracy of the pruned net against its reference, both shares in [0, 1] of the same split.

    ``noise`` is one standard error of an accuracy measured on that split, sqrt(p (1 - p) / n) with p the
    mean of both; None when the size of the split is unknown. ``judgement`` is "gain", "loss", "noise" or
    "same".
    """

    reference: float
    pruned: float
    split: str
    noise: float | None

    @property
    def difference(self) -> float:
        """Pruned minus reference: negative is a loss."""
        return self.pruned - self.reference

    @property
    def judgement(self) -> str:
        """What the difference amounts to."""
        if abs(self.difference) < 1e-9:
            return "same"
        if self.noise is not None and abs(self.difference) < self.noise:
            return "noise"
        return "gain" if self.difference > 0 else "loss"


def accuracy_change(result: dict[str, Any]) -> AccuracyChange | None:
    """Compare the pruned net with its fair reference on the test split, or on validation without one.

    The reference is the net trained further without pruning, or else the dense net that was pruned.

    Example:
        >>> accuracy = {"dense": {"test": 0.9}, "pruned": {"test": 0.8}}
        >>> accuracy_change({"accuracy": accuracy, "data": {"test": 100}}).judgement
        'loss'
    """
    accuracy = result["accuracy"]
    for split in ("test", "validation"):
        pruned = dig(accuracy, "pruned", split)
        for name in ("dense_longer", "dense"):
            reference = dig(accuracy, name, split)
            if pruned is not None and reference is not None:
                number = dig(result, "data", split)
                middle = min(1.0, max(0.0, (pruned + reference) / 2))
                noise = math.sqrt(middle * (1 - middle) / number) if number else None
                return AccuracyChange(reference, pruned, split, noise)
    return None


def target_change(result: dict[str, Any]) -> tuple[int, int, float | None]:
    """Return the target weights of the dense net, those the pruned net keeps, and the sparsity reached.

    A shrunk net holds fewer weights, so its own sparsity says little: it is counted against the dense net.
    """
    before, after = (result["measure"][name].get("targets") or {} for name in ("dense", "pruned"))
    weights = max(before.get("weights") or 0, after.get("weights") or 0)
    kept = after.get("kept") or 0
    return weights, kept, 1 - kept / weights if weights else None


def run_verdict(result: dict[str, Any]) -> Verdict:
    """Judge one run; a difference that could be chance is not called a gain or a loss."""
    verdict = Verdict()
    if control := control_sentence(result.get("settings") or {}):
        verdict.first.append(control)
    _targets(result, verdict)
    _accuracy(result, verdict)
    for section, sentence in [*judge_costs(result), *judge_speed(result)]:
        getattr(verdict, section).append(sentence)
    verdict.headline = _headline(result)
    for section, sentence in sentences(result.get("facts") or {}):
        getattr(verdict, section).append(sentence)
    if not verdict.gained:
        verdict.gained.append("Nothing that was measured got better.")
    if not verdict.lost:
        verdict.lost.append("Nothing that was measured got worse.")
    verdict.remarks.append("This is one run with one seed; a sweep over seeds shows how far results spread.")
    verdict.warnings += [str(warning) for warning in result.get("warnings") or ()]
    verdict.remarks += _notes(result)
    return verdict


def control_sentence(settings: dict[str, Any]) -> str | None:
    """Say that the weights shown are not the method's own, if they are a control's.

    Example:
        >>> control_sentence({"method": "gradual", "control": "scratch"})
        'A control: new weights trained from scratch under the mask that the method drew (--control scratch).'
    """
    kinds = {"scratch": "the mask that the method drew", "shuffle": "that mask with each layer's places drawn by lot"}
    control = settings.get("control")
    if control not in kinds:
        return None
    return f"A control: new weights trained from scratch under {kinds[control]} (--control {control})."


def _targets(result: dict[str, Any], verdict: Verdict) -> None:
    """Say how many weights are gone, and first of all if that is not what was asked."""
    asked = dig(result, "measure", "pruned", "target_sparsity")
    if asked is None and "facts" not in result:  # as older results have it; since then None means nothing was asked
        asked = dig(result, "settings", "sparsity")
    weights, kept, reached = target_change(result)
    if reached is None:
        verdict.first.append("The report of the run counts no target weights: nothing could be pruned.")
        return
    if asked is not None and abs(reached - asked) > MISS:
        more = "less" if reached < asked else "more"
        verdict.first.append(
            f"The target was missed: a sparsity of {asked:.4g} was asked for and {reached:.4f} was reached; "
            f"{more} was removed than asked."
        )
    if kept == weights:
        verdict.not_gained.append(f"Nothing was pruned: all {words.count(weights)} target weights are kept.")
        return
    if kept == 0:
        verdict.first.append(f"All {words.count(weights)} target weights are gone: no signal is left.")
        return
    text = (
        f"{words.percent(reached)} of the target weights are gone, {words.ratio(weights / kept)} times "
        f"fewer: {words.count(kept)} of {words.count(weights)} are kept"
    )
    everything = _ratio(result, "parameters", "weights", "kept")
    if everything is not None:
        text += f" ({words.ratio(everything)} times fewer over all parameters)"
    verdict.gained.append(text + ".")


def _ratio(result: dict[str, Any], part: str, whole: str, left: str) -> float | None:
    """Return dense ``whole`` over pruned ``left`` of one part of the two reports."""
    before, after = (
        dig(result, "measure", "dense", part, whole),
        dig(result, "measure", "pruned", part, left),
    )
    return before / after if before and after else None


def images(result: dict[str, Any], split: str = "test") -> str:
    """Return the size of a split in words, as "360 test images"."""
    number = dig(result, "data", split)
    thing = "images" if len(dig(result, "data", "shape") or ()) == 3 else "samples"
    return f"{number:,} {split} {thing}" if number else f"the {split} {thing}"


def _reference(result: dict[str, Any], split: str) -> str:
    """Name what the pruned net's accuracy is compared with."""
    if dig(result, "accuracy", "dense_longer", split) is None:
        return "the dense net it was made from"
    epochs, own = (dig(result, "accuracy", name, "epochs") for name in ("dense_longer", "pruned"))
    if not epochs:
        return "the same net trained further without pruning"
    if own is None or abs(own - epochs) <= 0.5:
        return f"the same net trained as long without pruning ({words.count(epochs)} epochs)"
    return f"the same net trained without pruning for {words.count(epochs)} epochs (the pruned one: {words.count(own)})"


def _accuracy(result: dict[str, Any], verdict: Verdict) -> None:
    """Say what became of the accuracy, in the light of the noise of the split it was measured on."""
    change = accuracy_change(result)
    if change is None:
        verdict.first.append("The accuracy was not measured, so what pruning cost is not known.")
        return
    against = f"against {_reference(result, change.split)}"
    what = f"{change.split} accuracy"
    size = words.points(change.difference)
    numbers = (
        f"{words.percent(change.reference)} → {words.percent(change.pruned)} "
        f"of {images(result, change.split)} classified right"
    )
    noise = f"one standard error is {words.points(change.noise)}" if change.noise else ""
    if change.judgement == "same":
        verdict.lost.append(f"No {what} was lost {against}: {numbers}.")
    elif change.judgement == "noise":
        sign = "up" if change.difference > 0 else "down"
        verdict.lost.append(
            f"No measurable loss: {what} is {sign} {size} {against} ({numbers}), which is within the noise "
            f"of {images(result, change.split)} ({noise})."
        )
    else:
        weak = change.noise and abs(change.difference) < 2 * change.noise
        doubt = f" {noise[0].upper()}{noise[1:]}" if noise else ""
        doubt += ", so this is weak evidence." if weak else "." if noise else ""
        where, verb = (verdict.gained, "gained") if change.difference > 0 else (verdict.lost, "lost")
        where.append(f"{size} of {what} {_were(size)} {verb} {against}: {numbers}.{doubt}")
    if dig(result, "accuracy", "dense_longer", change.split) is None:
        verdict.remarks.append(
            "No net was trained further without pruning, so a part of the change in accuracy may come from "
            "the longer training and not from pruning."
        )
    if change.split != "test":
        verdict.remarks.append("There is no test accuracy; the validation split also chose the best epoch.")


def _were(size: str) -> str:
    return "was" if size.endswith("point") else "were"


def _headline(result: dict[str, Any]) -> str:
    """Sum the run up in one sentence: removed, cost, speed."""
    _, _, reached = target_change(result)
    change = accuracy_change(result)
    gone = f"{words.percent(reached)} of the target weights are gone" if reached else "No target weight is gone"
    cost = ", at an unknown cost in accuracy"
    if change is not None:
        what = f"{words.points(change.difference)} of {change.split} accuracy"
        cost = {
            "gain": f", with {what} gained",
            "loss": f", for {what}",
            "noise": f", at no measurable loss of {change.split} accuracy",
            "same": f", at no loss of {change.split} accuracy",
        }[change.judgement]
    before, after = (dig(result, "measure", name, "latency") for name in ("dense", "pruned"))
    speed = {
        "unknown": "; inference time is not known",
        "different": "; inference times cannot be compared",
        "same": "; inference is not faster",
        "faster": "; inference is faster",
        "slower": "; inference is slower",
    }[latency_judgement(before, after)]
    if times := engine_gain(result):
        speed = f"; inference in the sparse engine is {words.ratio(times)} times faster"
    of = "A control, not the method itself: " if control_sentence(result.get("settings") or {}) else ""
    return of + gone + cost + speed + "."


def _notes(result: dict[str, Any]) -> list[str]:
    """Collect what the run itself, its data and the measurement had to say."""
    notes = [str(note) for note in dig(result, "data", "notes") or ()]
    notes += [f"Measuring the pruned net: {note}." for note in result["measure"]["pruned"].get("notes") or ()]
    return notes
