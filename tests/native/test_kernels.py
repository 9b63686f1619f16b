"""The compiled kernels: the masks of torch bit for bit, on every instruction set, and safe to call as Python calls."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur import native
from secateur.bits import Bits
from secateur.choose import by_torch
from secateur.choose.ranking import keep_largest
from secateur.masks import Masks
from secateur.native.tensors import clear, takes
from secateur.vocabulary import SelectionError

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.why_not()))
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
VALUES = st.one_of(
    st.integers(-2, 2).map(float),
    st.floats(allow_nan=False, width=32),
    st.sampled_from([float("inf"), float("-inf"), -0.0, 1e-45, -1e-45, 6e-8, 65504.0]),
)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def kernels(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    module = native.load()
    if request.param not in module.sets():
        pytest.skip(f"this processor, or this build, has no {request.param}")
    before = module.in_use()
    module.use(request.param)
    yield module
    module.use(before)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    found = {}
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)):
        shape = draw(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(1, 3)))
        values = draw(st.lists(VALUES, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        tensor = torch.tensor(values, dtype=torch.float64).to(draw(st.sampled_from(DTYPES))).reshape(shape)
        found[name] = tensor.permute(*draw(st.permutations(range(3))))
    return found


def by_numpy(tensors: dict[str, torch.Tensor], remove: int, within: dict[str, torch.Tensor], absolute: bool) -> Masks:
    """One stable sort of everything that competes."""
    names = sorted(tensors)
    flat = np.concatenate([tensors[n].double().numpy().ravel() for n in names])
    open_ = np.concatenate([within[n].numpy().ravel() for n in names])
    order = np.lexsort((np.arange(len(flat)), np.abs(flat) if absolute else flat, ~open_))
    keep = open_.copy()
    keep[order[:remove]] = False
    ends = np.cumsum([tensors[n].numel() for n in names])[:-1]
    parts = zip(names, np.split(keep, ends), strict=True)
    return Masks({n: torch.from_numpy(part.reshape(tensors[n].shape)) for n, part in parts})


def by_torch_alone(*arguments: object, **options: object) -> Masks:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_found", lambda: (None, "switched off"))
        return keep_largest(*arguments, **options)  # type: ignore[arg-type]


@given(tensors(), st.booleans(), st.booleans(), st.data())
def test_masks_are_those_of_numpy_and_of_torch(
    tensors: dict[str, torch.Tensor], absolute: bool, whole: bool, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    within = {n: (torch.rand(t.shape, generator=generator) < 0.7) | whole for n, t in tensors.items()}
    remove = data.draw(st.integers(0, sum(int(mask.sum()) for mask in within.values())))
    inside = None if whole else within
    assert takes(tensors.values())
    masks = keep_largest(tensors, remove, inside, absolute=absolute)
    assert all(isinstance(mask, Bits) for mask in masks.stored.values())
    assert masks == by_numpy(tensors, remove, within, absolute)
    assert masks == by_torch_alone(tensors, remove, inside, absolute=absolute)
    assert masks.count().kept == sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("absolute", [False, True])
def test_large_rankings_on_every_set(kernels: ModuleType, dtype: torch.dtype, absolute: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = {"b": torch.randn(300, 301, generator=generator), "a": torch.randn(70_000, generator=generator)}
    scores["c"] = torch.zeros(200_000)  # as a pruned tensor
    scores = {name: score.to(dtype) for name, score in scores.items()}
    within = {name: torch.rand(score.shape, generator=generator) < 0.9 for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    for remove in (1, total // 10, total // 2, total * 85 // 100):
        for inside in (None, within):
            masks = keep_largest(scores, remove, inside, absolute=absolute)
            assert masks == by_torch_alone(scores, remove, inside, absolute=absolute)


def test_threads_do_not_show() -> None:
    scores = {name: torch.randn(150_000).round(decimals=1) for name in "ab"}
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(keep_largest(scores, 100_000))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_nan_is_refused_by_name_whatever_the_count() -> None:
    for dtype in DTYPES:
        scores = {"fine": torch.ones(9, dtype=dtype), "broken": torch.ones(9, 3, dtype=dtype)}
        scores["broken"][4, 1] = torch.nan
        for remove in (0, 5):
            with pytest.raises(SelectionError, match=r"'broken'.*NaN"):
                keep_largest(scores, remove)
            with pytest.raises(SelectionError, match=r"'broken'.*NaN"):
                by_torch_alone(scores, remove)


def test_flushed_denormals_are_still_ranked() -> None:
    scores = {"w": torch.tensor([3e-45, 1e-45, -2e-45, 0.0])}
    expected = keep_largest(scores, 2)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        assert keep_largest(scores, 2) == expected == by_torch_alone(scores, 2)
    finally:
        torch.set_flush_denormal(False)
    assert expected["w"].tolist() == [True, True, False, False]


def test_clearing_is_seen_by_autograd_and_touches_nothing_else() -> None:
    for dtype in DTYPES:
        weight = torch.randn(33, 5, dtype=dtype).t().requires_grad_()
        with torch.no_grad():
            weight[0, 0], weight[0, 1] = torch.nan, torch.inf
        mask = torch.rand(weight.shape) < 0.5
        mask[0] = False
        before, version = weight.detach().clone(), weight._version
        clear({"w": weight}, {"w": Bits.of(mask)})
        assert torch.equal(weight.detach(), torch.where(mask, before, 0.0))
        assert weight._version > version


def test_callers_may_come_from_several_threads_at_once() -> None:
    scores = {"w": torch.randn(200_000)}
    expected, wrong = keep_largest(scores, 150_000), []

    def work() -> None:
        wrong.extend(1 for _ in range(10) if keep_largest(scores, 150_000) != expected)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_too() -> None:
    code = """
import os, torch
from secateur.choose.ranking import keep_largest
scores = {"w": torch.arange(300_000.0)}
torch.set_num_threads(3)
keep_largest(scores, 7)
child = os.fork()
if child == 0:
    os._exit(0 if keep_largest(scores, 100_000).count().kept == 200_000 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_the_kernels_do_not_take_goes_to_torch() -> None:
    class Own(torch.Tensor):
        pass

    plain = torch.rand(3)
    assert takes([plain, torch.nn.Parameter(plain)])
    refused = [plain.as_subclass(Own), plain.to("meta"), plain.int(), torch.rand(1).expand(4), torch.rand((1,) * 9)]
    assert not any(takes([tensor]) for tensor in refused)
    assert keep_largest({"w": torch.rand(1).expand(4)}, 3)["w"].tolist() == [False, False, False, True]


def test_arguments_that_do_not_fit_are_refused() -> None:
    module, array, bits = native.load(), torch.rand(9), np.full(2, 255, np.uint8)
    counts = np.zeros(4, np.uint64)
    module.count([array], [bits], 32, True, 0, 30, counts, 1)
    with pytest.raises(ValueError, match="one bit for each"):
        module.count([array], [bits[:1]], 32, True, 0, 30, counts, 1)
    with pytest.raises(ValueError, match="no such digits"):
        module.count([array], [None], 32, True, 1, 30, counts, 1)
    with pytest.raises(ValueError, match="no such digits"):
        module.count([array], [None], 32, True, 0, 32, counts, 1)
    with pytest.raises(ValueError, match="so few bits"):
        module.count([array], [None], 16, True, 0, 0, counts, 1)
    with pytest.raises(ValueError, match="so few bits"):
        module.count([array.half(), array.bfloat16()], [None, None], 16, True, 0, 0, counts, 1)
    with pytest.raises(ValueError, match="as many masks"):
        module.count([array], [], 32, True, 0, 30, counts, 1)
    with pytest.raises(ValueError, match="no such key"):
        module.cut([array], [bits], 32, True, 2**32 - 1, 0, 0, 1)
    with pytest.raises(TypeError, match="float16, bfloat16"):
        module.count([array.long()], [None], 64, True, 0, 0, counts, 1)
    with pytest.raises(ValueError, match="instruction set"):
        module.use("abacus")


def test_chunks_of_the_torch_path_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"b": torch.randint(0, 4, (50,)).float(), "a": torch.randint(0, 4, (7, 3)).double()}
    expected = keep_largest(scores, 30)
    monkeypatch.setattr(by_torch, "CHUNK", 7)
    assert by_torch_alone(scores, 30) == expected


def test_pruning_in_place_needs_less_than_a_sixteenth_of_the_weights() -> None:
    code = """
import resource, torch
import secateur as sc
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
torch.set_num_threads(2)
sc.prune(torch.nn.Linear(64, 64), 0.5)  # what is loaded once
layers = [torch.nn.Linear(4096, 4096, bias=False) for _ in range(3)]
net = torch.nn.Sequential(*layers)
size, before = 4 * 3 * 4096**2, peak()
masks = sc.prune(net, 0.9)
extra = peak() - before
assert masks.count().removed == round(0.9 * 3 * 4096**2) == sum(int((m.weight == 0).sum()) for m in layers)
assert extra <= size / 16, f"{extra} bytes beyond {size}"
"""
    pytest.importorskip("resource")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
