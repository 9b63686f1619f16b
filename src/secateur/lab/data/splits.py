"""Dividing labelled images in two, with every class in proportion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secateur.lab.data.dataset import Bytes

__all__ = ["stratified"]

Rows = npt.NDArray[np.intp]


def stratified(labels: Bytes, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows that stay and the rows that are taken, each in ascending order.

    ``round(share * N)`` rows are taken in all; each class gives its share rounded down, and the classes
    with the largest remainders give one more. Which rows of a class go is drawn from
    ``numpy.random.RandomState``, whose stream numpy keeps the same in every version, so a seed means
    the same split everywhere.

    Args:
        labels: shape (N,), from 0.
        share: the share to take, in [0, 1).
        seed: any integer; taken modulo 2**32.

    Example:
        >>> stay, taken = stratified(np.array([0, 0, 0, 0, 1, 1], np.uint8), 0.5, seed=0)
        >>> len(stay), len(taken), int((taken >= 4).sum())
        (3, 3, 1)
    """
    counts = np.bincount(labels)
    ideal = counts * share
    quota = np.floor(ideal).astype(np.intp)
    more = round(share * len(labels)) - int(quota.sum())
    quota[np.argsort(quota - ideal, kind="stable")[:more]] += 1
    order = np.random.RandomState(seed % 2**32).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    position = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    take = position < np.repeat(quota, counts)
    return np.sort(by_class[~take]), np.sort(by_class[take])
