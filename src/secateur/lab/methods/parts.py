"""What several methods share: the choice and the schedule that the settings ask for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

import secateur as sc
from secateur.lab.bench import Bench
from secateur.lab.data.lookup import LabError
from secateur.lab.settings import words
from secateur.vocabulary import near_matches

__all__ = ["choice", "lamp", "levels", "ramp", "rounds", "shares"]

UPDATES = 100  # redraws of the masks while sparsity rises


def choice(bench: Bench, scope: str = "", biases: bool = False) -> sc.Choice:
    """Return magnitude pruning in the scope given, or else in that of the settings.

    Args:
        bench: with the targets.
        scope: "global", "layerwise", "erk" or "lamp".
        biases: whether the method prunes biases whatever the settings say.

    Raises:
        LabError: ``--layers`` cannot be heeded.
    """
    settings = bench.settings
    own = shares(bench, biases)
    if own and (scope or settings.scope) != "layerwise":
        heeder = "threshold-layerwise" if settings.method == "threshold" else "one-shot-layerwise"
        which, way_out = (
            (settings.method, f"take --method {heeder}")
            if scope
            else (f"--scope {settings.scope}", "add --scope layerwise")
        )
        raise LabError(f"--layers gives layers sparsities of their own, which {which} would not heed: {way_out}")
    if own:
        bench.asked = None  # it is a mixture of what was asked for the layers
        return sc.Choice(scope=sc.PerTensor(), allocation=sc.scaled(own, at=settings.sparsity))
    return {
        "global": sc.Choice(),
        "layerwise": sc.Choice(scope=sc.PerTensor()),
        "erk": sc.Choice(scope=sc.PerTensor(), allocation=sc.erk),
        "lamp": sc.Choice(criterion=lamp),
    }[scope or settings.scope]


def lamp(weights: Mapping[str, Tensor]) -> sc.Scores:
    """Score by layer-adaptive magnitude."""
    return sc.lamp(sc.criteria.magnitude(weights))


def shares(bench: Bench, biases: bool = False) -> dict[str, float]:
    """Return the sparsities that ``--layers`` gives, by target name.

    Raises:
        LabError: it is not ``name=share`` by commas, or names no target, or one twice.
    """
    found: dict[str, float] = {}
    targets = bench.targets(biases)
    for part in words(bench.settings.layers):
        name, _, share = part.partition("=")
        target = next((each for each in (name, f"{name}.weight") if each in targets), None)
        if target is None:
            raise LabError(f"--layers names {name!r}, which is no target; {near_matches(name, targets)}")
        if target in found:
            raise LabError(f"--layers names {target!r} twice; give it one sparsity")
        try:
            found[target] = float(share)
        except ValueError:
            found[target] = -1.0
        if not 0 <= found[target] <= 1:
            raise LabError(f"--layers takes name=share by commas, shares between 0 and 1; got {part!r}")
    if found and not bench.settings.sparsity:
        raise LabError("--layers needs a --sparsity above 0 for the layers it does not name")
    if len(found) == len(targets):
        bench.note(["--layers names every target: --sparsity was passed over"])
    return found


def rounds(bench: Bench) -> Iterator[tuple[str, int]]:
    """Yield the name of each round's phase and its share of the pruning epochs."""
    settings = bench.settings
    ends = [settings.prune_epochs * n // settings.rounds for n in range(settings.rounds + 1)]
    for n, (begin, end) in enumerate(itertools.pairwise(ends), start=1):
        yield f"round{n}", end - begin


def levels(bench: Bench) -> list[float]:
    """Return the sparsity of each round, each removing the same share of what is left.

    Raises:
        LabError: that way the sparsity asked for is never reached.
    """
    if bench.settings.sparsity == 1:
        raise LabError("each round takes a share of what is left, so sparsity 1 is never reached; use less")
    return sc.geometric_rounds(bench.settings.sparsity, bench.settings.rounds)


def ramp(bench: Bench, share: float | None = None) -> sc.Schedule:
    """Return the schedule of gradual pruning that the settings ask for, over ``share`` of the pruning epochs."""
    settings = bench.settings
    final, first = settings.sparsity, min(settings.initial_sparsity, settings.sparsity)
    if settings.initial_sparsity > final and not settings.max_drop:
        bench.note([f"--initial-sparsity {settings.initial_sparsity:g} is above the sparsity asked for: not heeded"])
    end = round((settings.rise if share is None else share) * bench.steps(settings.prune_epochs))
    every = max(1, end // UPDATES)
    if settings.schedule == "constant":
        redrawn = settings.regrow or share is not None
        # Without regrowth the first masks are the last, and every epoch may be the best.
        return sc.ConstantSchedule(final, 0, end, every) if redrawn else sc.OneShotSchedule(final)
    if settings.schedule == "exponential" and final == 1:
        raise LabError("an exponential schedule never reaches sparsity 1; use another --schedule or less")
    kinds: dict[str, Callable[..., sc.Schedule]] = {
        "polynomial": sc.PolynomialSchedule,
        "linear": sc.LinearSchedule,
        "cosine": sc.CosineSchedule,
        "exponential": sc.ExponentialSchedule,
    }
    return kinds[settings.schedule](first, final, begin_step=0, end_step=end, frequency=every)
