"""Importance of whole neurons and filters, by their weights or by what passes through them.

Every function scores the units of each chain's writer and spreads a unit's score over its row, so that
``Row(reduce="max")`` ranks units. Scores of a layer are divided by the mean of those above 0, which makes layers
comparable in one ranking, as ``UnitChoice`` does. Molchanov et al. 2017 (arXiv 1611.06440, section 2.2) divide by the
L2 norm: there a unit of a layer of n scores about 1 / sqrt(n), and wide layers lose nearly all before narrow ones lose
any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from secateur.choose.chains import Chain, columns_by_unit
from secateur.choose.ranking import over_mean
from secateur.choose.stats import Units
from secateur.vocabulary import NamedTensors, Scores

__all__ = ["activity", "incoming", "outgoing", "product", "taylor"]


@torch.no_grad()
def incoming(weights: Mapping[str, Tensor], chains: Sequence[Chain]) -> Scores:
    """Score units by the L2 norm of their incoming weights.

    Source: He et al. 2014, "Reshaping Deep Neural Network for Fast Decoding by Node-Pruning"; with the L1 norm for
    filters Li et al. 2017 (arXiv 1608.08710).

    Example:
        >>> chain = Chain("a", "b", 1)
        >>> incoming({"a": torch.tensor([[3.0], [4.0]]), "b": torch.ones(1, 2)}, [chain])["a"]
        tensor([[0.8571],
                [1.1429]])
    """
    return _scores(weights, chains, lambda pair: _incoming(weights, pair))


@torch.no_grad()
def outgoing(weights: Mapping[str, Tensor], chains: Sequence[Chain]) -> Scores:
    """Score units by the L2 norm of their outgoing weights, those of the one layer that reads them.

    Source: He et al. 2014, "Reshaping Deep Neural Network for Fast Decoding by Node-Pruning" (onorm).

    Example:
        >>> chain = Chain("a", "b", 1)
        >>> outgoing({"a": torch.ones(2, 1), "b": torch.tensor([[3.0, 4.0]])}, [chain])["a"]
        tensor([[0.8571],
                [1.1429]])
    """
    return _scores(weights, chains, lambda pair: _outgoing(weights, pair))


@torch.no_grad()
def product(weights: Mapping[str, Tensor], chains: Sequence[Chain]) -> Scores:
    """Score units by the product of the norms of their incoming and outgoing weights.

    Invariant under scaling a ReLU unit's inputs up and its outputs down, which changes nothing it does.

    Example:
        >>> chain = Chain("a", "b", 1)
        >>> product({"a": torch.tensor([[2.0], [4.0]]), "b": torch.tensor([[2.0, 1.0]])}, [chain])["a"]
        tensor([[1.],
                [1.]])
    """
    return _scores(weights, chains, lambda pair: _incoming(weights, pair) * _outgoing(weights, pair))


@torch.no_grad()
def activity(weights: Mapping[str, Tensor], chains: Sequence[Chain], stats: Units) -> Scores:
    """Score units by the share of their activations that is not zero (1 - APoZ).

    Source: Hu et al. 2016, "Network Trimming" (arXiv 1607.03250), eq. 1.

    Example:
        >>> chain, stats = Chain("a", "b", 1), Units(active={"a": torch.tensor([0.3, 0.4])}, taylor={}, batches=1)
        >>> activity({"a": torch.ones(2, 1), "b": torch.ones(1, 2)}, [chain], stats)["a"]
        tensor([[0.8571],
                [1.1429]])
    """
    return _scores(weights, chains, lambda pair: stats.active[pair.writer])


@torch.no_grad()
def taylor(weights: Mapping[str, Tensor], chains: Sequence[Chain], stats: Units) -> Scores:
    """Score units by the first-order estimate of what their removal does to the loss.

    Source: Molchanov et al. 2017 (arXiv 1611.06440), eq. 6 and 7: ``|mean over positions of activation * gradient|``,
    averaged over examples.

    Example:
        >>> chain, stats = Chain("a", "b", 1), Units(active={}, taylor={"a": torch.tensor([3.0, 4.0])}, batches=1)
        >>> taylor({"a": torch.ones(2, 1), "b": torch.ones(1, 2)}, [chain], stats)["a"]
        tensor([[0.8571],
                [1.1429]])
    """
    return _scores(weights, chains, lambda pair: stats.taylor[pair.writer])


def _incoming(weights: Mapping[str, Tensor], pair: Chain) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(weights[pair.writer].detach().flatten(1), dim=1)
    return norms


def _outgoing(weights: Mapping[str, Tensor], pair: Chain) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(columns_by_unit(weights[pair.reader].detach(), pair).flatten(1), dim=1)
    return norms


def _scores(weights: Mapping[str, Tensor], chains: Sequence[Chain], score: Callable[[Chain], Tensor]) -> Scores:
    units = {pair.writer: over_mean(score(pair)) for pair in chains}
    named = NamedTensors({name: weights[name] for name in units}, getattr(weights, "targets", {}))

    def spread(name: str, weight: Tensor) -> Tensor:
        return units[name].reshape(-1, *[1] * (weight.ndim - 1)).expand(weight.shape).clone()

    return named.map_named(spread)
