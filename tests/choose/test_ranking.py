"""The radix ranking against one stable sort, at the awkward bit patterns and chunk borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur import native
from secateur.choose import by_torch, ranking
from secateur.choose.ranking import keep_largest, keep_largest_in_rows

INF = float("inf")
AWKWARD = [0.0, -0.0, INF, -INF, 1.0, -1.0, 5e-324, -5e-324, 1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 65504.0]


def sorted_out(values: np.ndarray, remove: int) -> np.ndarray:
    keep = np.ones(len(values), bool)
    keep[np.lexsort((np.arange(len(values)), values))[:remove]] = False
    return keep


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(st.sampled_from(AWKWARD), st.floats(allow_nan=False)), min_size=1, max_size=40))
def test_every_bit_pattern_is_ranked_in_its_order(dtype: torch.dtype, values: list[float]) -> None:
    score = torch.tensor(values, dtype=torch.float64).to(dtype)
    for remove in {0, 1, len(values) // 2, len(values)}:
        expected = sorted_out(score.double().numpy(), remove)
        assert (keep_largest({"w": score}, remove)["w"].numpy() == expected).all()
        line = keep_largest_in_rows(score[None], remove, torch.ones(1, len(values), dtype=torch.bool))
        assert (line[0].numpy() == expected).all()


def test_negative_zero_ties_with_zero() -> None:
    score = torch.tensor([0.0, -0.0, 0.0, -0.0])
    assert keep_largest({"w": score}, 2)["w"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("size", [6, 7, 8, 13, 14, 15, 50])
@pytest.mark.parametrize("ties", [True, False])
def test_chunks_of_seven(monkeypatch: pytest.MonkeyPatch, size: int, ties: bool) -> None:
    monkeypatch.setattr(by_torch, "CHUNK", 7)
    monkeypatch.setattr(native, "_found", lambda: (None, "switched off"))
    generator = torch.Generator().manual_seed(size)
    draw = torch.randint(0, 3, (2, size), generator=generator).float() if ties else torch.rand(2, size)
    both = torch.cat([draw[0], draw[1]]).numpy()
    for remove in range(2 * size + 1):
        masks = keep_largest({"b": draw[1], "a": draw[0]}, remove)
        assert (torch.cat([masks["a"], masks["b"]]).numpy() == sorted_out(both, remove)).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.randoms(use_true_random=False))
def test_memory_layout_does_not_matter(outs: int, ins: int, random: object) -> None:
    values = [float(random.randint(-2, 2)) for _ in range(outs * ins * 4)]  # type: ignore[attr-defined]
    plain = torch.tensor(values).reshape(outs, ins, 2, 2)
    strided = plain.to(memory_format=torch.channels_last)
    within = torch.tensor([random.random() < 0.7 for _ in values]).reshape(plain.shape)  # type: ignore[attr-defined]
    remove = int(within.sum()) // 2
    for inside in (within, within.to(memory_format=torch.channels_last)):
        one = keep_largest({"w": plain}, remove, {"w": inside})["w"]
        other = keep_largest({"w": strided}, remove, {"w": inside})["w"]
        assert torch.equal(one, other)
        assert int((within & ~one).sum()) == remove


def test_what_is_passed_in_is_not_changed() -> None:
    score, within = torch.rand(30), torch.rand(30) < 0.5
    before = score.clone(), within.clone()
    keep_largest({"w": score}, 5, {"w": within})
    keep_largest_in_rows(score[None], 20, within[None])
    assert torch.equal(score, before[0]) and torch.equal(within, before[1])


def test_row_ranking_needs_little_beyond_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    monkeypatch.setattr(ranking, "_CHUNK", 1000)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.int64:
                    largest = max(largest, tensor.numel())
            return result

    scores, within = torch.rand(400, 50), torch.ones(400, 50, dtype=torch.bool)
    with Watch():
        mask = keep_largest_in_rows(scores, 10, within)
    assert (mask.sum(1) == 40).all()
    assert 0 < largest <= 1000
