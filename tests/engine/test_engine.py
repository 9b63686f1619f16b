"""The engine: called as the model was, by many at once, with any number of samples and threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import plans
import pytest
import reference
import torch
from running import SETS, agrees, given
from torch import nn

import secateur as sc
from secateur import native
from secateur.engine import InputError, TooLargeError
from secateur.engine.engine import Engine
from secateur.engine.plan.calling import ArgumentsError

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")


class Named(nn.Module):
    """Takes and gives more than arrays in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor) -> dict[str, Any]:
        y = self.layer(x)
        return {"sum": y + shift, "parts": [y, (x, shift)]}


def test_structures_come_back_as_the_model_gives_them() -> None:
    model = Named().eval()
    x, shift = torch.randn(5, 4), torch.randn(5, 3)
    engine = sc.compile(model, {"x": x, "shift": shift}, tune=False)
    wanted, found = model(x, shift=shift), engine(x=x, shift=shift)
    assert torch.allclose(wanted["sum"], found["sum"], atol=1e-6)
    assert torch.allclose(wanted["parts"][0], found["parts"][0], atol=1e-6)
    assert isinstance(found["parts"][1], tuple) and torch.equal(found["parts"][1][0], x)
    arrays = engine(x=x.numpy(), shift=shift.numpy())
    assert isinstance(arrays["sum"], np.ndarray) and np.array_equal(arrays["sum"], found["sum"].numpy())


def test_calls_that_do_not_fit_are_refused() -> None:
    engine = sc.compile(Named().eval(), {"x": torch.zeros(2, 4), "shift": torch.zeros(2, 3)}, tune=False)
    x, shift = np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32)
    with pytest.raises(ArgumentsError, match="shift"):
        engine(x=x)
    with pytest.raises(ArgumentsError, match="more"):
        engine(x=x, shift=shift, more=x)
    with pytest.raises(InputError, match=r"x is \[1, 2, 4\], not \[samples, 4\]"):
        engine(x=[x], shift=shift)
    with pytest.raises(InputError, match=r"inputs have \[2, 3\] samples"):
        engine(x=x, shift=np.zeros((3, 3), np.float32))


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_numbers_of_threads(threads: int) -> None:
    engine = Engine(plans.whole())
    with pytest.raises(InputError, match="1 to 1024"):
        engine.threads = threads
    with pytest.raises(InputError, match="1 to 1024"):
        Engine(plans.whole(), threads=threads)


def test_a_network_without_inputs_is_refused() -> None:
    plan = plans.plan({}, [("k", "constant", "", {}, {"value": "c"})], ["k"], {"c": plans.numbers(3)})
    with pytest.raises(InputError, match="takes no arrays"):
        Engine(plan)


def test_a_network_beyond_all_memory_is_refused() -> None:
    ops = [(f"v{n}", "upsample_nearest", "x" if n == 0 else f"v{n - 1}", {"factors": (64, 64)}) for n in range(3)]
    with pytest.raises(TooLargeError, match=r"place\.v2"):
        Engine(plans.plan({"x": (1, 1, 1)}, ops, ["v2"]))


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_number_of_samples(instructions: str, threads: int) -> None:
    plan = plans.whole()
    engine = Engine(plan, instructions=instructions, threads=threads)
    nothing = engine.run(given(plan, 0))
    assert [array.shape for array in nothing.values()] == [(0, *plan.values[name].shape) for name in plan.outputs]
    for samples in (1, 2, 3, 7, 8, 9, 15, 16, 17, 33):
        agrees(plan, engine, samples)


@pytest.mark.parametrize("batched_from", [2, 5, 1 << 40])
def test_samples_in_lanes_or_one_by_one(batched_from: int) -> None:
    plan = plans.whole()
    engine = Engine(plan)
    engine.batched_from = batched_from
    for samples in (1, 3, 16, 20, 37):
        agrees(plan, engine, samples)


def test_runs_repeat_to_the_last_bit() -> None:
    plan = plans.whole()
    inputs = given(plan, 21)
    for threads in (1, 2, 3):
        first, again = (Engine(plan, threads=threads).run(inputs) for _ in range(2))
        assert all(np.array_equal(first[name], again[name]) for name in plan.outputs)


def test_threads_take_samples_each_where_lanes_of_them_would_not_pay() -> None:
    plan = plans.whole()
    engine = Engine(plan)
    engine.batched_from = 6
    inputs = given(plan, 10)
    alone = {
        name: np.concatenate([engine.run({n: a[i : i + 1] for n, a in inputs.items()})[name] for i in range(10)])
        for name in plan.outputs
    }
    for threads, apart in ((1, False), (2, True), (20, True)):
        engine.threads = threads
        found = engine.run(inputs)
        assert all(np.array_equal(found[name], alone[name]) for name in plan.outputs) == apart


def test_callers_at_once_get_what_each_would_alone() -> None:
    plan = plans.whole()
    engine = Engine(plan, threads=2)
    inputs = [given(plan, samples, seed=samples) for samples in (1, 2, 3, 16, 17, 1, 20, 5)]
    wanted = [engine.run(each) for each in inputs]
    wrong: list[int] = []

    def call(number: int) -> None:
        for _ in range(10):
            found = engine.run(inputs[number])
            if not all(np.array_equal(found[name], wanted[number][name]) for name in plan.outputs):
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_an_index_without_a_row_is_refused() -> None:
    plan = plans.plan({"i": (2,)}, [("e", "embedding", "i", {}, {"weight": "t"})], ["e"], {"t": plans.numbers(3, 4)})
    engine = Engine(plan)
    for samples in (1, 20):
        with pytest.raises(InputError, match="index"):
            engine.run({"i": np.full((samples, 2), 3)})
    agrees(plan, engine, 20)


def test_profiles_name_every_operator() -> None:
    plan = plans.whole()
    engine = Engine(plan)
    for samples in (1, 20):
        inputs = given(plan, samples)
        profile = engine.profile(inputs["x"], inputs["i"], runs=2)
        assert profile.samples == samples and profile.peak > 0
        assert {op.where for op in plan.ops if op.kind in ("conv", "linear")} <= {row.where for row in profile.rows}
        assert sum(row.dense for row in profile.rows) > 0 and all(row.seconds >= 0 for row in profile.rows)


def test_infinities_and_nan_go_where_torch_takes_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    ).eval()
    engine = sc.compile(model, torch.zeros(1, 2, 4, 4), tune=False)
    for value in (float("nan"), float("inf"), -float("inf")):
        x = torch.randn(3, 2, 4, 4)
        x[1, 0, 3, 3] = value
        with torch.no_grad():
            wanted = model(x).numpy()
        found = engine(x.numpy())
        assert np.array_equal(np.isnan(found), np.isnan(wanted))
        assert np.allclose(found, wanted, atol=1e-5, equal_nan=True)


def test_it_prints_what_it_holds() -> None:
    model = nn.Linear(4, 2)
    sc.prune(model, sparsity=0.5)
    engine = sc.compile(model, torch.zeros(1, 4), tune=False)
    assert repr(engine).startswith("Engine(1 operators, 6 of 10 numbers, ")
    assert "linear" in str(engine.plan)


def test_the_reference_is_independent() -> None:
    """The interpreter that engines are compared with agrees with torch on a layer."""
    layer, x = nn.Conv2d(3, 4, 3, padding=1).double(), torch.randn(2, 3, 6, 8, dtype=torch.float64)
    weight, bias = (each.detach().numpy() for each in (layer.weight, layer.bias))
    attributes = {**plans.WINDOW, "padding": (1, 1, 1, 1), **plans.NONE}
    plan = plans.plan(
        {"x": (3, 6, 8)},
        [("y", "conv", "x", attributes, {"weight": "w", "bias": "b"})],
        ["y"],
        {"w": weight, "b": bias},
    )
    found = reference.run(plan, {"x": x.numpy()})["y"]
    assert np.allclose(found, layer(x).detach().numpy(), atol=1e-12)


def test_what_cannot_be_timed_or_counted_is_named() -> None:
    plan = plans.whole()
    engine, two, three = Engine(plan), given(plan, 2), given(plan, 3)
    with pytest.raises(InputError, match="0 runs"):
        engine.profile(runs=0)
    with pytest.raises(InputError, match="batches of 2, 3 samples"):
        engine.profile(two["x"], three["i"])
    with pytest.raises(InputError, match=r"1\.5 threads"):
        engine.threads = 1.5  # type: ignore[assignment]
