"""What the engine cannot do is refused before anything is run: operations, samples that meet, odd examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from agreement import lowered
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from secateur.engine.lowering import ExampleError, UnsupportedError, lower
from secateur.graph import TraceError


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class Several(nn.Module):
    """Three operations without an operator, in three places, and one that is there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4), Inner())

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        x = torch.relu(x).sort(1).values
        return x + x.argmax(1, keepdim=True) + torch.tanh(x).sort(1).values


def test_all_operations_are_named_at_once_with_their_places() -> None:
    with pytest.raises(UnsupportedError) as error:
        lower(Several(), torch.randn(2, 4))
    text = str(error.value)
    assert "3 operations of Several" in text
    assert "aten.cumsum at layer.1 (forward of Inner)" in text
    assert "aten.sort at the model itself (forward of Several)" in text
    assert "aten.argmax at the model itself (forward of Several)" in text
    assert text.count("aten.") == 3


MIXES: dict[str, Callable[[Tensor], Any]] = {
    "sum over the batch": lambda x: x.sum(0, keepdim=True) + x,
    "mean over all": lambda x: x - x.mean(),
    "softmax over the batch": lambda x: x.softmax(0),
    "flipped batch": lambda x: x + x.flip(0),
    "rolled batch": lambda x: x + x.roll(1, 0),
    "first sample": lambda x: x - x[:1],
    "sample of a number": lambda x: x - x[0],
    "cut batch": lambda x: torch.cat([x[:1], x[1:]]),
    "doubled batch": lambda x: torch.cat([x, x]),
    "repeated batch": lambda x: x.repeat(2, 1, 1),
    "samples side by side": lambda x: x.reshape(-1, 2 * x.shape[1] * x.shape[0] // 2 // x.shape[1]),
    "samples multiplied": lambda x: x.flatten(1) @ x.flatten(1).T,
    "batch and another axis changed": lambda x: x + x.reshape(3, -1, 4).transpose(0, 1),
    "by the number of samples": lambda x: x / x.shape[0],
    "by the square of the number of samples": lambda x: x * (x.shape[0] ** 0.5),
    "a number for each sample": lambda x: x + torch.arange(x.shape[0])[:, None, None],
    "one map of the whole batch": lambda x: F.conv1d(x.transpose(0, 1), torch.ones(1, x.shape[0], 1)),
    "the batch as the map": lambda x: F.max_pool1d(x.permute(1, 2, 0), 2),
    "norm over the batch": lambda x: F.layer_norm(x.permute(1, 2, 0), [x.shape[0]]),
    "statistics of the batch": lambda x: F.batch_norm(x, None, None, training=True),
    "attention over the batch": lambda x: F.scaled_dot_product_attention(*[x.transpose(0, 1)] * 3),
    "padded batch": lambda x: F.pad(x, (0, 0, 0, 0, 1, 0)),
    "result with the batch behind": lambda x: x.transpose(0, 1),
    "result that says nothing of the input": lambda x: (x, torch.ones(3)),
}


@pytest.mark.parametrize("name", MIXES)
def test_what_mixes_samples_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError):
        lower(Calls(MIXES[name]), torch.randn(2, 3, 4))


CHANCE: dict[str, Callable[[Tensor], Any]] = {
    "noise": lambda x: x + torch.randn(4),
    "noise like the input": lambda x: x + torch.rand_like(x),
    "dropout that stays": lambda x: F.dropout(x, 0.5, training=True),
}


@pytest.mark.parametrize("name", CHANCE)
def test_chance_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="chance"):
        lower(Calls(CHANCE[name]), torch.randn(2, 4))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * 2


def test_a_model_that_remembers_is_refused() -> None:
    model = Counting()
    with pytest.raises(UnsupportedError, match="a write to the buffer calls"):
        lower(model, torch.randn(2, 4))
    assert model.calls == 0


OTHERS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "weights from the input": (lambda x: F.conv1d(x, x.mean(0, keepdim=True)), "mixes samples"),
    "made whole": (lambda x: x.long().float(), "made torch.int64"),
    "rounded division": (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounded"),
    "places from the input": (lambda x: x.gather(1, x.argmax(1, keepdim=True)), "aten.argmax"),
    "complex": (lambda x: torch.fft.fft(x).abs(), "aten.fft"),
    "places of the largest": (lambda x: x.max(1), "aten.max at the model itself .*: its result number 1"),
    "places of a pool": (lambda x: F.max_pool1d(x, 2, return_indices=True), "aten.max_pool.*: its result number 1"),
    "no whole factor": (lambda x: F.interpolate(x, size=7), "no whole factor"),
    "wide padding": (lambda x: F.pad(x, (1, 1), value=float("-inf")), "padding with -inf"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_refusals_say_why(name: str) -> None:
    function, why = OTHERS[name]
    with pytest.raises(UnsupportedError, match=why):
        lower(Calls(function), torch.randn(2, 3, 4))


def test_what_cannot_be_traced_is_said_by_the_tracer() -> None:
    with pytest.raises(TraceError):
        lower(Calls(lambda x: x if x.sum() > 0 else -x), torch.randn(2, 4))


def test_inputs_without_a_batch_axis_are_refused_unless_they_are_not_used() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(ExampleError, match=r"the input argument 1 has the shape \[4\], but a batch axis of 2"):
        lower(Calls(lambda x, y: x + y), (x, torch.randn(4)))
    with pytest.raises(ExampleError, match=r"the shape \[\]"):
        lower(Calls(lambda x, y: x + y), (x, torch.tensor(2.0)))
    plan = lower(Calls(lambda x, y: x + 1), (x, torch.randn(4)))
    assert [tree for _, tree in plan.arguments["args"]] == [{"value": "args_0"}, {"ignored": True}]
    with pytest.raises(ExampleError, match="no tensor with samples"):
        lower(Calls(lambda x: x + 1), (torch.tensor(1.0),))
    with pytest.raises(ExampleError, match="is a set"):
        lower(Calls(lambda x, y: x + 1), (x, {1}))


class Switch(nn.Module):
    def forward(self, x: Tensor, pair: dict[str, Any], double: bool = False, y: Tensor | None = None) -> Any:
        x = x + pair["a"] * pair["list"][0]
        x = 2 * x if double else x
        return {"sum": x if y is None else x + y, "parts": [x, (x.tanh(), pair["list"][0])], "none": None, "number": 3}


def test_arguments_and_results_may_be_nested() -> None:
    pair = {"a": torch.randn(2, 4), "list": [torch.randn(2, 1)]}
    plan = lowered(Switch(), (torch.randn(2, 4), pair))
    assert plan.inputs == ("x", "pair_a", "pair_list_0")
    assert plan.structure["dict"]["parts"]["list"][1]["tuple"][1] == {"value": "pair_list_0"}
    plan = lowered(Switch(), {"x": torch.randn(2, 4), "pair": pair, "double": True, "y": torch.randn(2, 4)})
    assert plan.arguments["kwargs"]["double"] == {"constant": True}


def test_the_size_of_the_examples_batch_does_not_matter() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 25, 3))
    texts = {str(lower(net, torch.randn(samples, 3, 7, 7))) for samples in (1, 2, 5, 7)}
    assert len(texts) == 1


def test_a_result_may_count_places_and_samples_together() -> None:
    plan = lowered(Calls(lambda x: x.reshape(-1, 4).tanh()), torch.randn(2, 3, 4))
    assert plan.structure == {"value": "v0", "merged": True}


def test_a_result_may_be_a_constant_for_every_sample() -> None:
    plan = lowered(Calls(lambda x: (x + 1, torch.ones(x.shape[0], 3) * torch.arange(1, 4))), torch.randn(2, 4))
    assert [op.kind for op in plan.ops] == ["binary", "constant"]


def test_models_in_other_precisions_are_computed_in_32_bits() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float64, torch.bfloat16):
        net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)).to(dtype)
        plan = lower(net, torch.randn(2, 4, dtype=dtype))
        assert {str(array.dtype) for array in plan.constants.values()} == {"float32"}


def test_a_model_in_training_is_lowered_as_it_will_be_used() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    net[1].eval()
    lower(net, torch.randn(2, 4))
    assert [module.training for module in net] == [True, False, True]
    assert net[2].num_batches_tracked == 0
