"""Selection: exact counts, ties by position, against an independent NumPy reference."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur as sc
from secateur import native
from secateur.choose import by_torch, ranking
from secateur.vocabulary import CollapseWarning, Layout, NamedTensors, NothingPrunedWarning, SelectionError, Target

VALUES = st.one_of(
    st.integers(-2, 2).map(float),
    st.floats(-1e4, 1e4, width=16),
    st.sampled_from([float("inf"), float("-inf"), -0.0, 0.0]),
)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@st.composite
def scores(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True))
    found = {}
    for name in names:
        shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        values = draw(st.lists(VALUES, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
        found[name] = torch.tensor(values).reshape(shape).to(draw(st.sampled_from(DTYPES)))
    return found


def reference(
    scores: dict[str, torch.Tensor], remove: int, within: dict[str, torch.Tensor] | None = None
) -> np.ndarray:
    """Keep flags over all elements in order of name, by one stable sort of everything."""
    names = sorted(scores)
    flat = np.concatenate([scores[n].double().numpy().ravel() for n in names])
    open_ = np.concatenate([within[n].numpy().ravel() for n in names]) if within else np.ones(len(flat), bool)
    order = np.lexsort((np.arange(len(flat)), flat, open_))  # what is gone already comes first
    keep = np.ones(len(flat), bool)
    keep[order[: max(remove, int((~open_).sum()))]] = False
    return keep


def flat(masks: sc.Masks) -> np.ndarray:
    return np.concatenate([masks[n].numpy().ravel() for n in sorted(masks)])


def quiet(scores_: object, *args: object, **options: object) -> sc.Masks:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sc.select(scores_, *args, **options)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(scores(), st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)))
def test_global_selection_equals_a_stable_sort(scores: dict[str, torch.Tensor], sparsity: float) -> None:
    n = sum(s.numel() for s in scores.values())
    masks = quiet(scores, sparsity)
    assert masks.count().removed == round(sparsity * n)
    assert (flat(masks) == reference(scores, round(sparsity * n))).all()


@settings(max_examples=100, deadline=None)
@given(scores(), st.floats(0, 1), st.integers(1, 9))
def test_chunks_do_not_show(scores: dict[str, torch.Tensor], sparsity: float, chunk: int) -> None:
    whole = quiet(scores, sparsity)
    rows = quiet(scores, sparsity, scope=sc.PerRow())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_CHUNK", chunk)
        patch.setattr(by_torch, "CHUNK", chunk)
        patch.setattr(native, "_found", lambda: (None, "switched off"))
        assert quiet(scores, sparsity) == whole
        assert quiet(scores, sparsity, scope=sc.PerRow()) == rows


@settings(max_examples=100, deadline=None)
@given(scores(), st.floats(0, 1), st.randoms())
def test_the_order_of_the_dict_does_not_matter(
    scores: dict[str, torch.Tensor], sparsity: float, random: object
) -> None:
    names = list(scores)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert quiet({name: scores[name] for name in names}, sparsity) == quiet(scores, sparsity)


@settings(max_examples=150, deadline=None)
@given(scores(), st.floats(0, 1), st.floats(0, 1), st.sampled_from([sc.Global(), sc.PerTensor(), sc.PerRow()]))
def test_masks_nest_and_count_from_the_original(
    scores: dict[str, torch.Tensor], first: float, second: float, scope: object
) -> None:
    low, high = sorted((first, second))
    outer = quiet(scores, low, scope=scope)
    inner = quiet(scores, high, scope=scope, within=outer)
    assert (inner & outer) == inner
    assert inner.count() == quiet(scores, high, scope=scope).count()
    assert quiet(scores, low, scope=scope, within=outer) == outer


def test_within_prefers_nothing_that_is_gone() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0, 2.0, 3.0]])}
    within = {"a": torch.tensor([[False, True, True, True]])}
    for scope in (sc.Global(), sc.PerTensor(), sc.PerRow()):
        assert sc.select(scores, 0.5, scope=scope, within=within)["a"].tolist() == [[False, False, True, True]]


@settings(max_examples=100, deadline=None)
@given(scores(), st.floats(0, 1))
def test_layer_wise_is_global_on_each_tensor(scores: dict[str, torch.Tensor], sparsity: float) -> None:
    masks = quiet(scores, sparsity, scope=sc.PerTensor())
    for name, score in scores.items():
        assert torch.equal(masks[name], quiet({name: score}, sparsity)[name])


@settings(max_examples=100, deadline=None)
@given(scores(), st.floats(0, 1))
def test_row_wise_removes_the_same_number_in_every_row(scores: dict[str, torch.Tensor], sparsity: float) -> None:
    masks = quiet(scores, sparsity, scope=sc.PerRow())
    for name, score in scores.items():
        for row, mask in zip(score, masks[name], strict=True):
            expected = reference({"r": row.reshape(1, -1)}, round(sparsity * len(row)))
            assert (mask.numpy() == expected).all()


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 11), st.integers(1, 5).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m)))
)
def test_windows_keep_at_most_n_of_m(outs: int, ins: int, pattern: tuple[int, int]) -> None:
    keep, of = pattern
    score = torch.rand(outs, ins)
    mask = quiet({"w": score}, scope=sc.Window(keep, of))["w"]
    for row in range(outs):
        for start in range(0, ins, of):
            window, values = mask[row, start : start + of], score[row, start : start + of]
            assert int(window.sum()) == min(keep, len(window))
            if 0 < int(window.sum()) < len(window):
                assert values[window].min() >= values[~window].max()


def test_windows_of_a_convolution_run_along_its_input_channels() -> None:
    mask = sc.select({"w": torch.rand(6, 8, 3, 3)}, scope=sc.Window(2, 4))["w"]
    assert (mask.reshape(6, 2, 4, 3, 3).sum(2) == 2).all()


def unit_norms(weight: torch.Tensor, layout: Layout, rows: bool) -> list[float]:
    """L2 norm of every output (rows) or input unit, by explicit loops over the elements."""
    groups, ins_first = layout.groups, layout.out_axis == 1
    found: dict[int, float] = {}
    for index in itertools.product(*map(range, weight.shape)):
        a, b = index[0], index[1]
        if ins_first:
            inside, outside = a, a // (weight.shape[0] // groups) * weight.shape[1] + b
        else:
            outside, inside = a, a // (weight.shape[0] // groups) * weight.shape[1] + b
        unit = outside if rows else inside
        found[unit] = found.get(unit, 0.0) + float(weight[index]) ** 2
    return [found[unit] ** 0.5 for unit in sorted(found)]


@pytest.mark.parametrize("layout", [Layout(), Layout(groups=2), Layout(1, 0), Layout(1, 0, 2)], ids=repr)
@pytest.mark.parametrize("rows", [True, False], ids=["rows", "columns"])
def test_rows_and_columns_go_whole_by_their_norm(layout: Layout, rows: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(4, 6, 2, 2, generator=generator)
    named = NamedTensors({"w": weight}, {"w": Target(layout)})
    masks = sc.select(named, 0.5, granularity=sc.Row() if rows else sc.Column())
    norms = unit_norms(weight, layout, rows)
    left = unit_norms(weight * masks["w"], layout, rows)
    smallest = set(np.argsort(norms, kind="stable")[: round(0.5 * len(norms))])
    assert [unit for unit, norm in enumerate(left) if norm == 0] == sorted(smallest)
    assert all(left[u] == pytest.approx(norms[u]) for u in range(len(norms)) if u not in smallest)


def test_a_row_takes_its_bias_along() -> None:
    scores = {"fc.weight": torch.tensor([[1.0, 1.0], [1.1, 0.0]]), "fc.bias": torch.tensor([0.0, 2.0])}
    masks = sc.select(scores, 0.5, granularity=sc.Row())
    assert masks["fc.weight"].tolist() == [[False, False], [True, True]]
    assert masks["fc.bias"].tolist() == [False, True]


def test_blocks_go_whole_and_edges_count() -> None:
    score = torch.arange(1.0, 16).reshape(3, 5)
    masks = sc.select({"w": score}, 1 / 6, granularity=sc.Block(2, 2, reduce="max"))
    assert masks["w"].logical_not().nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


CHOICES = list(
    itertools.product(
        [sc.Element(), sc.Block(2, 2), sc.Block(1, 3), sc.Row(), sc.Column(), sc.Row("sum"), sc.Column("mean")],
        [sc.Global(), sc.PerTensor(), sc.PerRow(), sc.Window(1, 2)],
        [None, sc.uniform, sc.erk, {"conv.weight": 0.25}],
    )
)


@pytest.mark.parametrize(
    ("granularity", "scope", "allocation"), CHOICES, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_every_combination_is_exact_or_says_why(granularity: object, scope: object, allocation: object) -> None:
    net = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(4, 8, 3, groups=2), "fc": torch.nn.Linear(8, 6)})
    weights = sc.prunable(net)
    sparsity = None if isinstance(scope, sc.Window) else 0.5
    parts = {"granularity": granularity, "scope": scope, "allocation": allocation}
    try:
        masks = quiet(sc.criteria.magnitude(weights), sparsity, **parts)
    except SelectionError as error:
        senseless = isinstance(scope, sc.PerRow | sc.Window) and isinstance(granularity, sc.Row | sc.Column)
        needless = allocation is not None and isinstance(scope, sc.Global | sc.Window)
        assert senseless or needless, error
        return
    assert masks == quiet(sc.criteria.magnitude(weights), sparsity, **parts)
    if isinstance(granularity, sc.Element) and not isinstance(scope, sc.PerRow) and allocation in (None, sc.erk):
        assert masks.count().removed == round(0.5 * masks.count().total)
    assert 0.1 < masks.sparsity < 0.9


def test_what_cannot_be_selected_is_refused_by_name() -> None:
    bad = {"fine": torch.ones(2), "broken.weight": torch.tensor([1.0, float("nan")])}
    with pytest.raises(SelectionError, match=r"broken\.weight.*NaN"):
        sc.select(bad, 0.5)
    for sparsity in (-0.1, 1.1, float("nan")):
        with pytest.raises(SelectionError, match="between 0 and 1"):
            sc.select({"w": torch.ones(2)}, sparsity)
    with pytest.raises(SelectionError, match="sparsity is needed"):
        sc.select({"w": torch.ones(2)})
    with pytest.raises(SelectionError, match="did you mean 'weight'"):
        sc.select({"weight": torch.ones(2)}, 0.5, scope=sc.PerTensor(), allocation={"wieght": 0.5})
    with pytest.raises(SelectionError, match="leaves out"):
        sc.select({"a": torch.ones(2), "b": torch.ones(2)}, scope=sc.PerTensor(), allocation={"a": 0.5})
    with pytest.raises(SelectionError, match="float"):
        sc.select({"w": torch.ones(2, dtype=torch.int64)}, 0.5)
    with pytest.raises(SelectionError, match="signed"):
        sc.select({"w": -torch.ones(2, 2)}, 0.5, granularity=sc.Row())


def test_nothing_is_silent() -> None:
    with pytest.warns(NothingPrunedWarning, match="nothing was removed"):
        sc.select({"w": torch.ones(2, 2)}, 0.1)
    with pytest.warns(CollapseWarning, match="small"):
        sc.select({"small": torch.zeros(2, 2), "large": torch.ones(10, 10)}, 0.2)


def test_memory_beyond_scores_and_masks_does_not_grow_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    scores = {"a": torch.rand(8_000_000), "b": torch.rand(1000)}
    known = {score.untyped_storage().data_ptr() for score in scores.values()}
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dtype != torch.bool:
                storage = result.untyped_storage()
                largest = max(largest, 0 if storage.data_ptr() in known else storage.nbytes())
            return result

    # Without the kernels, whose memory tests/native looks at.
    monkeypatch.setattr(native, "_found", lambda: (None, "switched off"))
    with Watch():
        masks = sc.select(scores, 0.9)
    assert masks.count().removed == round(0.9 * 8_001_000)
    assert largest <= 16 * 2**20, "a temporary is as large as the scores"


@settings(max_examples=100, deadline=None)
@given(scores(), st.floats(0, 1), st.data())
def test_within_equals_the_reference_for_arbitrary_masks(
    scores: dict[str, torch.Tensor], sparsity: float, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    within = {name: torch.rand(s.shape, generator=generator) < 0.6 for name, s in scores.items()}
    n = sum(s.numel() for s in scores.values())
    masks = quiet(scores, sparsity, within=within)
    assert (flat(masks) == reference(scores, round(sparsity * n), within)).all()


@settings(max_examples=100, deadline=None)
@given(
    scores(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([sc.Row("sum"), sc.Column("max"), sc.Block(2, 2, "mean")]),
    st.sampled_from([sc.Global(), sc.PerTensor()]),
)
def test_masks_of_units_nest_and_count(
    scores: dict[str, torch.Tensor], first: float, second: float, granularity: object, scope: object
) -> None:
    scores = {name: s.nan_to_num(posinf=3.0, neginf=-3.0) for name, s in scores.items()}
    low, high = sorted((first, second))
    outer = quiet(scores, low, granularity=granularity, scope=scope)
    inner = quiet(scores, high, granularity=granularity, scope=scope, within=outer)
    assert (inner & outer) == inner
    assert quiet(scores, low, granularity=granularity, scope=scope, within=outer) == outer
    ones = NamedTensors({name: torch.ones_like(s) for name, s in scores.items()})

    def removed(masks: sc.Masks) -> int:
        """Units removed: those of which no weight is left."""
        units = {n: granularity.split(masks[n], ones.layout(n)).any(-1) for n in masks}  # type: ignore[attr-defined]
        return sum(int((~unit).sum()) for unit in units.values())

    sizes = [granularity.split(one, Layout()).shape[:-1].numel() for one in ones.values()]  # type: ignore[attr-defined]
    for share, masks in ((low, outer), (high, inner)):
        expected = round(share * sum(sizes)) if scope == sc.Global() else sum(round(share * size) for size in sizes)
        assert removed(masks) == expected


@pytest.mark.parametrize("scope", [sc.Global(), sc.PerTensor(), sc.PerRow()], ids=str)
def test_what_goes_is_never_above_what_stays(scope: object) -> None:
    weights = {name: torch.randn(8, 9) for name in "ab"}
    masks = sc.select(sc.criteria.magnitude(weights), 0.6, scope=scope)  # type: ignore[arg-type]
    pairs = [(weights[n].abs(), masks[n]) for n in weights]
    if scope == sc.Global():
        pairs = [(torch.cat([w for w, _ in pairs]), torch.cat([m for _, m in pairs]))]
    if scope == sc.PerRow():
        pairs = [(w[i], m[i]) for w, m in pairs for i in range(8)]
    for weight, mask in pairs:
        assert weight[~mask].max() <= weight[mask].min()


@pytest.mark.parametrize(
    "granularity", [sc.Row(), sc.Column(), sc.Block(2, 2), sc.Row("max"), sc.Column("mean")], ids=str
)
def test_tensors_without_elements_do_no_harm(granularity: object) -> None:
    scores = {"empty": torch.rand(0, 3), "none": torch.rand(3, 0, 2), "full": torch.arange(1.0, 9).reshape(4, 2)}
    masks = quiet(scores, 0.5, granularity=granularity, scope=sc.PerTensor())
    assert masks.count("full") == (4, 8)
    assert {name: masks[name].shape for name in masks} == {name: s.shape for name, s in scores.items()}
    for scope in (sc.PerRow(), sc.Global(), sc.Window(1, 2)):
        assert quiet(scores, 0.5, scope=scope)["empty"].shape == (0, 3)


def test_a_layer_that_empties_beside_one_that_should_is_still_named() -> None:
    scores = {"wanted": torch.rand(2, 2), "tiny": torch.rand(1, 2)}
    with pytest.warns(CollapseWarning, match="weights of tiny were"):
        sc.select(scores, scope=sc.PerTensor(), allocation={"wanted": 1.0, "tiny": 0.9})


def test_window_reference_on_transposed_and_grouped_layers() -> None:
    for layer in (torch.nn.ConvTranspose2d(8, 6, 2, groups=2), torch.nn.Conv2d(8, 4, 3, groups=2)):
        weights = sc.prunable(layer)
        mask = sc.select(sc.criteria.magnitude(weights), scope=sc.Window(1, 2))["weight"]
        score = layer.weight.detach().abs()
        inputs = 0 if isinstance(layer, torch.nn.ConvTranspose2d) else 1
        size = 4 if inputs == 0 else layer.weight.shape[1]  # inputs of one group
        for part, kept in zip(score.split(size, inputs), mask.split(size, inputs), strict=True):
            pairs, keeps = part.unflatten(inputs, (-1, 2)), kept.unflatten(inputs, (-1, 2))
            assert torch.equal(keeps.int().argmax(inputs + 1), pairs.argmax(inputs + 1))
            assert (keeps.sum(inputs + 1) == 1).all()


def test_choices_print_as_code_and_compare() -> None:
    assert sc.Choice(scope=sc.PerRow()) == sc.Choice(scope=sc.PerRow()) != sc.Choice()
    assert "criterion=magnitude" in repr(sc.Choice())
