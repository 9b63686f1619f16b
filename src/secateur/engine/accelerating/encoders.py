"""Torch's transformer encoders, which in eval mode compute whole layers at once, past the modules inside."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

__all__ = ["at_once", "inside", "layer_by_layer"]

# What each kind asks itself before it computes at once; nothing else depends on it.
_ASKS: dict[type[nn.Module], tuple[str, int | bool]] = {
    nn.TransformerEncoderLayer: ("activation_relu_or_gelu", 0),
    nn.TransformerEncoder: ("use_nested_tensor", False),
}
_KEY = "_secateur_at_once"


def inside(model: nn.Module, layers: Collection[nn.Module]) -> list[nn.Module]:
    """Return those of some layers that torch goes around."""
    held = {each for encoder, _ in _encoders(model) for each in encoder.modules()}
    return [layer for layer in layers if layer in held]


def layer_by_layer(model: nn.Module, layers: Collection[nn.Module]) -> None:
    """Make the encoders of a model that hold any of some layers call the modules inside of them."""
    for encoder, (attribute, never) in _encoders(model):
        if not set(layers).isdisjoint(encoder.modules()):
            vars(encoder).setdefault(_KEY, vars(encoder)[attribute])
            setattr(encoder, attribute, never)


def at_once(model: nn.Module) -> None:
    """Let the encoders of a model compute at once again."""
    for encoder, (attribute, _) in _encoders(model):
        if _KEY in vars(encoder):
            setattr(encoder, attribute, vars(encoder).pop(_KEY))


def _encoders(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, int | bool]]]:
    for module in model.modules():
        for kind, asked in _ASKS.items():
            if isinstance(module, kind) and asked[0] in vars(module):
                yield module, asked
