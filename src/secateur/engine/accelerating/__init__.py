"""Sparse layers of a torch model on the engine's kernels, the rest of the model as it is.

``programs`` computes single layers on arrays; ``known`` keeps them beside the weights they are made of; ``operators``
makes them operators of torch, ``layers`` modules; ``accelerating`` decides which layers of a model become such modules,
by their sparsity and by ``timing``.
"""

from secateur.engine.accelerating.accelerating import (
    Acceleration,
    LayerChoice,
    NothingAcceleratedWarning,
    accelerate,
    acceleration,
)

__all__ = ["Acceleration", "LayerChoice", "NothingAcceleratedWarning", "accelerate", "acceleration"]
