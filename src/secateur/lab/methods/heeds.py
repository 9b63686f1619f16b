"""Which of the settings that only some methods know each method heeds; what it passes over is said, not hidden."""

from __future__ import annotations

from collections.abc import Iterator

from secateur.lab.settings import Settings

__all__ = ["FROM_SCRATCH", "HEEDS", "unheeded"]

_SHAPE = ("scope", "layers")
_RAMP = ("schedule", "initial_sparsity", "rise")
_RETRAINING = ("retrain_rate", "retrain_l1", "retrain_l2", "distill", "temperature")

# When what is left is trained: for as long as the dense net, not at all, anew from the start; else by --prune-epochs.
_AS_LONG = ("lottery-ticket", "learning-rate-rewinding")
_NEVER = ("threshold", "threshold-layerwise")
FROM_SCRATCH = ("snip", "small-dense")
"""Methods that train what is left from untrained weights, as the dense net is trained."""

HEEDS: dict[str, tuple[str, ...]] = {
    "threshold": (),
    "threshold-layerwise": ("layers",),
    "freeze": ("freeze_above",),
    "masked-retraining": ("freeze_above",),
    "one-shot": _SHAPE,
    "one-shot-layerwise": ("layers",),
    "one-shot-erk": (),
    "one-shot-lamp": (),
    "sensitivity": (),
    "three-step": (*_SHAPE, "rounds", "quality", "survivors", "fixed"),
    "iterative": (*_SHAPE, "rounds"),
    "gradual": (*_SHAPE, *_RAMP, "regrow"),
    "surgery": (*_SHAPE, *_RAMP),
    "lottery-ticket": (*_SHAPE, "rounds", "rewind"),
    "learning-rate-rewinding": (*_SHAPE, "rounds"),
    "snip": (),
    "neurons": ("rounds", "neuron_score"),
    "random": (),
    "small-dense": (),
}
"""By method, the settings among those of all other methods that it makes something of."""


def unheeded(method: str, settings: Settings) -> list[str]:
    """Return a warning for each setting that is not at its default and that the method makes nothing of.

    Example:
        >>> unheeded("random", Settings(rise=0.5))
        ['random makes nothing of --rise: it was passed over']
        >>> unheeded("gradual", Settings(rise=0.5))
        []
    """
    heeded = HEEDS[method]
    others = {name for names in HEEDS.values() for name in names} - set(heeded)
    default = Settings()
    useless = sorted({*others, *_without_effect(method, settings)})
    passed = [name for name in useless if getattr(settings, name) != getattr(default, name)]
    flags = [f"--{name.replace('_', '-')}" for name in passed]
    return [f"{method} makes nothing of {flag}: it was passed over" for flag in flags]


def _without_effect(method: str, settings: Settings) -> Iterator[str]:
    """Yield the settings that the method knows and that the other settings leave nothing to do."""
    if method in _AS_LONG:
        retrained = settings.epochs > 0
    else:
        retrained = settings.prune_epochs > 0 and method not in (*FROM_SCRATCH, *_NEVER)
    if not retrained:
        # A control retrains at the full rate, that of a method from scratch as the method trains.
        yield from _RETRAINING if settings.control == "none" or method in FROM_SCRATCH else _RETRAINING[:1]
    if not settings.distill:
        yield "temperature"
    if retrained or method in FROM_SCRATCH or settings.control != "none":
        yield "recalibrate"
    if "quality" in HEEDS[method] and settings.quality:
        yield from ("sparsity", *_SHAPE)
    if settings.max_drop:
        yield "sparsity"
    yield from _without_time(method, settings)


def _without_time(method: str, settings: Settings) -> Iterator[str]:
    """Yield the settings of steps that are not taken at all."""
    if not settings.prune_epochs:
        yield from (*_RAMP, "regrow")
    elif "schedule" in HEEDS[method] and settings.schedule == "constant":
        yield "initial_sparsity"
    if not settings.epochs:
        yield "rewind"
    if not settings.bits:
        yield "share_epochs"
    if method in _NEVER and settings.control == "none" and not (settings.l1 or settings.l2):
        yield "biases"  # which those prune whatever it says
