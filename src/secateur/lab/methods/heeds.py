"""Which of the settings that only some methods know each method heeds; what it passes over is said, not hidden."""

from __future__ import annotations

from secateur.lab.settings import Settings

__all__ = ["HEEDS", "unheeded"]

_SHAPE = ("scope", "layers")
_RAMP = ("schedule", "initial_sparsity", "rise")

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
    others = sorted({name for names in HEEDS.values() for name in names} - set(heeded))
    default = Settings()
    passed = [name for name in others if getattr(settings, name) != getattr(default, name)]
    if "quality" in heeded and settings.quality and settings.sparsity != default.sparsity:
        passed.append("sparsity")
    flags = [f"--{name.replace('_', '-')}" for name in passed]
    return [f"{method} makes nothing of {flag}: it was passed over" for flag in flags]
