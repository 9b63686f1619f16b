"""Trained weight sharing: a few values for each tensor, found by k-means, fine-tuned by the gradients of all members.

Source: Deep Compression, Han, Mao and Dally 2016 (arXiv 1510.00149), section 3.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from secateur.modules import innermost, refuse_valueless
from secateur.train.stepping import when_gradients_are_there, wrappers_with_hooks
from secateur.vocabulary import BadTargetError, CorruptFileError, SelectionError

__all__ = ["Codebooks", "Sharing", "codebooks", "share", "shared"]

_ROUNDS = 300


def kmeans(values_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return at most ``count`` centroids of scalars, ascending (float64), and which of them each belongs to (int64).

    Lloyd's algorithm from centroids at equal distances between the least and the greatest value, which kept large
    weights best (section 3.2); where a centroid loses all its values, as in the gap that pruning leaves around zero or
    because of a single far value, the cluster of the largest error is split in its stead. Values of which no more than
    ``count`` differ stay as they are. The same values always give the same result.

    Example:
        >>> centroids, labels = kmeans(torch.tensor([0.0, 1.0, 0.2, 1.2]), 2)
        >>> centroids.tolist(), labels.tolist()
        ([0.1..., 1.1...], [0, 1, 0, 1])
    """
    values = values_N.detach().cpu().double().numpy()
    ordered = np.sort(values)
    different = np.unique(ordered)
    centroids = different if len(different) <= count else _lloyd(ordered, count)
    labels = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
    return torch.from_numpy(centroids), torch.from_numpy(labels)


def _lloyd(ordered: Any, count: int) -> Any:
    """Sorted values make each cluster a range, and its mean a difference of two running sums."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(x)]) for x in (ordered, ordered**2))
    centroids = np.linspace(ordered[0], ordered[-1], count)
    before = None
    for _ in range(_ROUNDS):
        limits = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2, side="right")
        edges = np.unique(np.concatenate([[0], limits, [len(ordered)]]))
        members = np.diff(edges)
        centroids = np.diff(sums[edges]) / members
        if len(centroids) < count:
            errors = np.maximum(np.diff(squares[edges]) - members * centroids**2, 0)
            centroids = _split(centroids, errors, np.sqrt(errors / members), count - len(centroids))
        elif before is not None and np.array_equal(edges, before):
            break
        before = edges
    return centroids


def _split(centroids: Any, errors: Any, spreads: Any, times: int) -> Any:
    """Return centroids with those of the largest squared errors replaced by two each, a standard deviation off."""
    worst = np.argsort(-errors, kind="stable")[:times]
    below, above = centroids[worst] - spreads[worst], centroids[worst] + spreads[worst]
    return np.sort(np.concatenate([np.delete(centroids, worst), below, above]))


@dataclass
class _Book:
    """One tensor: centroids as trained, where the kept weights are, which centroid each has, and its parameter."""

    centroids: Tensor
    places: Tensor
    labels: Tensor
    parameter: weakref.ref[Tensor]

    def rounded(self, dtype: torch.dtype) -> Tensor:
        """Return the centroids as weights hold them.

        Sixteen bits are plenty for 2**8 values and take half the room in a file; in training the unrounded ones
        collect steps too small to show. Where one of them has no such neighbour, for it is too large or too near to
        zero, all stay as they are.
        """
        narrow = self.centroids.bfloat16() if dtype.itemsize > 2 else self.centroids
        if not torch.equal(narrow.isfinite() & (narrow != 0), self.centroids.isfinite() & (self.centroids != 0)):
            narrow = self.centroids
        return narrow.to(dtype)

    def filled(self, like: Tensor) -> Tensor:
        """Return a tensor like another, every kept weight at its centroid and every other one zero."""
        flat_N = torch.zeros(like.numel(), dtype=like.dtype, device=like.device)
        flat_N[self.places] = self.rounded(like.dtype)[self.labels]
        return flat_N.view(like.shape)


class Codebooks(Mapping[str, Tensor]):
    """The values that weights share, by name of their tensor; made by :func:`codebooks`, trained by :func:`share`.

    Centroids are rounded to bfloat16 wherever they are seen, unless the weights are of a 16-bit type themselves.
    """

    def __init__(self, books: Mapping[str, _Book]) -> None:
        self._books = dict(books)

    def __getitem__(self, name: str) -> Tensor:
        book = self._books[name]
        return book.rounded(_live(name, book).dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._books)

    def __len__(self) -> int:
        return len(self._books)

    def __repr__(self) -> str:
        values, weights = (sum(len(x) for x in xs) for xs in self._parts())
        return f"Codebooks({len(self)} tensors, {weights} weights share {values} values)"

    def _parts(self) -> tuple[list[Tensor], list[Tensor]]:
        return [each.centroids for each in self._books.values()], [each.labels for each in self._books.values()]

    @torch.no_grad()
    def apply(self) -> None:
        """Set every kept weight to its centroid and every other one to zero."""
        for name, book in self._books.items():
            weight = _live(name, book)
            weight.copy_(book.filled(weight))

    def state_dict(self) -> dict[str, Tensor]:
        """Return tensors from which :meth:`load_state_dict` goes on."""
        return {
            f"{name}/{key}": getattr(book, key).clone()
            for name, book in self._books.items()
            for key in ("centroids", "places", "labels")
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over centroids and members, and set the weights to them.

        Raises:
            CorruptFileError: the state is not one of codebooks for the same tensors.
        """
        for name, book in self._books.items():
            try:
                centroids, places, labels = (state[f"{name}/{key}"] for key in ("centroids", "places", "labels"))
            except KeyError as error:
                raise CorruptFileError(f"the state of the codebooks lacks {error}; make them anew") from error
            size = _live(name, book).numel()
            if places.shape != labels.shape or _outside(places, size) or _outside(labels, len(centroids)):
                raise CorruptFileError(f"the state of the codebook of {name!r} does not fit it; make it anew")
            device = book.centroids.device
            book.centroids, book.places = centroids.to(device, torch.float64), places.to(device)
            book.labels = labels.to(device)
        self.apply()


def _outside(indices: Tensor, size: int) -> bool:
    return bool(len(indices)) and not (int(indices.min()) >= 0 and int(indices.max()) < size)


def _live(name: str, book: _Book) -> Tensor:
    weight = book.parameter()
    if weight is None:
        raise BadTargetError(f"the model that the codebook of {name!r} was made for is gone")
    return weight


def codebooks(weights: Mapping[str, Tensor], bits: int | Mapping[str, int] = 5) -> Codebooks:
    """Find the values that the kept weights (those not zero) of each tensor are to share; nothing is changed yet.

    Args:
        weights: parameters of a live model, from :func:`secateur.prunable` (its biases too, if these shall share).
        bits: 1 to 8; a tensor gets at most ``2**bits`` values. A mapping says it by name.

    Raises:
        SelectionError: ``bits`` is out of range.
        BadTargetError: a tensor has no bits named, or holds NaN or infinities.

    Example:
        >>> import secateur as sc
        >>> net = torch.nn.Linear(8, 4, bias=False)
        >>> books = sc.codebooks(sc.prunable(net), bits=2)
        >>> len(books["weight"]), len(net.weight.unique())
        (4, 32)
        >>> books.apply()
        >>> len(net.weight.unique())
        4
    """
    refuse_valueless(weights, "codebooks")
    books = {}
    for name, weight in weights.items():
        wanted = bits.get(name) if isinstance(bits, Mapping) else bits
        if wanted is None:
            raise BadTargetError(f"bits does not name {name!r}; leave it out of the weights or say how many it gets")
        places, centroids, labels = _clustered(name, weight, wanted)
        books[name] = _Book(centroids, places, labels, weakref.ref(weight))
    return Codebooks(books)


def _clustered(name: str, weight: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    if type(bits) is not int or not 1 <= bits <= 8:
        raise SelectionError(f"a codebook has 1 to 8 bits, got {bits!r} for {name!r}")
    flat_N = weight.detach().reshape(-1)
    places = flat_N.nonzero().squeeze(1)
    kept = flat_N[places]
    if not bool(kept.isfinite().all()):
        raise BadTargetError(f"{name!r} holds NaN or infinities, which no codebook can stand for")
    centroids, labels = kmeans(kept, 2**bits)
    return places, centroids.to(weight.device), labels.to(weight.device)


def shared(name: str, weight: Tensor, bits: int) -> Tensor:
    """Return a copy of a tensor whose kept weights share at most ``2**bits`` values.

    Raises:
        SelectionError: ``bits`` is out of range.
        BadTargetError: the tensor holds NaN or infinities; ``name`` is said.

    Example:
        >>> shared("w", torch.tensor([0.0, 1.0, 1.5, 3.0]), bits=1)
        tensor([0.0000, 1.2500, 1.2500, 3.0000])
    """
    places, centroids, labels = _clustered(name, weight, bits)
    return _Book(centroids, places, labels, weakref.ref(weight)).filled(weight)


def share(optimizer: Optimizer, books: Codebooks) -> Sharing:
    """Let weights share values from now on, and train these, until the returned :class:`Sharing` is released.

    Before each step of the optimizer the gradient of every weight becomes the sum over all that share its value, which
    is the gradient of the centroid (section 3.3); after it they are set to one value again. Removed weights stay zero.

    Args:
        optimizer: the optimizer that trains the weights. It moves a centroid as it moves a weight: sums over many
            members are large, so plain SGD wants a smaller rate than before, Adam much the same.
        books: from :func:`codebooks`; they follow the training.

    Raises:
        TypeError: the optimizer is not a ``torch.optim.Optimizer``.

    Example:
        >>> import secateur as sc
        >>> net = torch.nn.Linear(8, 1)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        >>> with sc.share(optimizer, sc.codebooks(sc.prunable(net), bits=1)):
        ...     net(torch.randn(4, 8)).sum().backward()
        ...     optimizer.step()
        >>> len(net.weight.unique())
        2
    """
    return Sharing(optimizer, books)


class Sharing:
    """Codebooks in training; a context manager that is active from its creation.

    The weights keep sharing their values after it is released: pack them, or go on later with the same codebooks.
    """

    def __init__(self, optimizer: Optimizer, books: Codebooks) -> None:
        self.codebooks = books
        books.apply()
        inner = innermost(optimizer)
        self._handles = [when_gradients_are_there(inner, self._sum_gradients)]
        for each in (inner, *wrappers_with_hooks(optimizer)):
            self._handles.append(each.register_step_post_hook(self._follow))

    def release(self) -> None:
        """Take all hooks away; the weights stay as they are."""
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> Sharing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @torch.no_grad()
    def _sum_gradients(self) -> None:
        for name, book in self.codebooks._books.items():
            gradient = _live(name, book).grad
            if gradient is None:
                continue
            summed_N = torch.zeros_like(gradient).reshape(-1)
            summed_N[book.places] = _sums(book, gradient.reshape(-1)[book.places])[book.labels].to(gradient.dtype)
            gradient.copy_(summed_N.view(gradient.shape))

    @torch.no_grad()
    def _follow(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Move every centroid by the mean of its members' steps; the same step for all unless their states differed."""
        for name, book in self.codebooks._books.items():
            weight = _live(name, book)
            stood_K = book.rounded(weight.dtype).double()
            steps_N = weight.reshape(-1)[book.places].double() - stood_K[book.labels]
            members_K = torch.bincount(book.labels, minlength=len(book.centroids)).clamp(min=1)
            book.centroids += _sums(book, steps_N) / members_K
        self.codebooks.apply()


def _sums(book: _Book, values_N: Tensor) -> Tensor:
    """Return the sum of the values of each centroid's members, in float64."""
    return torch.zeros_like(book.centroids).index_add_(0, book.labels, values_N.double())
