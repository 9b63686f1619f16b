"""Put surviving weights back to an earlier step, or to where they began."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from secateur.masks import Masks, apply
from secateur.modules import unwrap
from secateur.vocabulary import BadTargetError

__all__ = ["rewind"]


def rewind(model: nn.Module, state: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> Masks:
    """Load an earlier state of the whole model, in place, and set what the masks remove to zero again.

    Buffers such as BatchNorm statistics go back too. The optimizer keeps its state: make a new one, or clear it.

    Source: Frankle and Carbin 2019, "The Lottery Ticket Hypothesis" (arXiv 1803.03635), with the state at
    initialization; Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis"
    (arXiv 1912.05671), with that of an early step.

    Args:
        model: the network; wrappers of ``torch.compile`` and DDP are looked through.
        state: a copy of its ``state_dict`` taken earlier.
        masks: the masks to stay under; none if left out.

    Returns:
        The masks, tied to the model.

    Raises:
        BadTargetError: the state lacks an entry of the model, has another, or shapes differ.

    Example:
        >>> import secateur as sc
        >>> net = nn.Linear(4, 1)
        >>> start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        >>> _ = net.weight.data.add_(1)
        >>> masks = sc.rewind(net, start, sc.prune(net, sparsity=0.5))
        >>> bool((net.weight == start["weight"])[masks["weight"]].all())
        True
    """
    network = unwrap(model)
    own = network.state_dict()
    wrapped = model.state_dict()
    if network is not model and state.keys() == wrapped.keys():  # under the wrapper's names, in the same order
        state = {name: state[other] for name, other in zip(own, wrapped, strict=True)}
    # Looked at before any of it is loaded, so that a state that is refused changes nothing.
    odd = sorted(own.keys() ^ state.keys()) or [n for n, t in own.items() if _shape(t) != _shape(state[n])]
    if odd:
        raise BadTargetError(f"the state to rewind to is of another model: the two differ in {odd}")
    network.load_state_dict(dict(state))
    return apply(model, masks or {})


def _shape(entry: object) -> object:
    return getattr(entry, "shape", None)
