"""Each operation of torch that has a rule, alone: what it becomes, and that it computes the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from agreement import kinds, lowered
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def seeded(*shape: int) -> Tensor:
    """A tensor that a model makes; no two of its numbers are the same."""
    waves = torch.arange(1.0, 1 + math.prod(shape), dtype=torch.float64).mul(1.7).sin()
    return waves.to(torch.get_default_dtype()).view(shape)


ROW, MAP, LINE = (6,), (4, 8, 6), (3, 12)

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    # activations
    "relu": (F.relu, ROW),
    "relu6": (lambda x: F.relu6(3 * x), ROW),
    "gelu": (F.gelu, ROW),
    "gelu, by tanh": (lambda x: F.gelu(x, approximate="tanh"), ROW),
    "silu": (F.silu, ROW),
    "hardswish": (lambda x: F.hardswish(2 * x), ROW),
    "hardsigmoid": (lambda x: F.hardsigmoid(2 * x), ROW),
    "sigmoid": (torch.sigmoid, ROW),
    "tanh": (torch.tanh, ROW),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.2), ROW),
    "elu": (lambda x: F.elu(x, 0.7), ROW),
    "selu": (F.selu, ROW),
    "celu": (lambda x: F.celu(x, 0.6), ROW),
    "clamp": (lambda x: x.clamp(-0.5, 0.7), ROW),
    "clamp from below": (lambda x: x.clamp(min=-0.5), ROW),
    "clamp from above": (lambda x: x.clamp_max(0.5), ROW),
    "clamp by a tensor": (lambda x: x.clamp(min=seeded(6)), ROW),
    "hardtanh": (F.hardtanh, ROW),
    "softplus": (lambda x: F.softplus(3 * x, 2.0, 3.0), ROW),
    "mish": (F.mish, ROW),
    "logsigmoid": (F.logsigmoid, ROW),
    "softsign": (F.softsign, ROW),
    "tanhshrink": (F.tanhshrink, ROW),
    "glu": (F.glu, ROW),
    "in place": (lambda x: (x * 2).relu_().add_(1).mul_(x), ROW),
    "in place, seen by others": (_in_place := lambda x: _written(x * 1.0), ROW),
    # functions
    "exp, log": (lambda x: x.exp().add(1).log(), ROW),
    "roots": (lambda x: (x.abs() + 1).sqrt() + (x * x + 1).rsqrt(), ROW),
    "powers": (lambda x: x**2 + x.square() + x.abs() ** 0.5 + x.abs().pow(1.7), ROW),
    "power of a number": (lambda x: 2.0**x, ROW),
    "reciprocal": (lambda x: (x * x + 1).reciprocal(), ROW),
    "waves": (lambda x: x.sin() * x.cos() - x.erf(), ROW),
    "expm1, log1p": (lambda x: x.expm1() + x.abs().log1p(), ROW),
    "floor": (lambda x: (3 * x).floor(), ROW),
    # arithmetic
    "numbers": (lambda x: (3 - x * 2 + 1) / 4 - (1 / (x * x + 1)), ROW),
    "rsub with a factor": (lambda x: torch.rsub(x, 2.0, alpha=3), ROW),
    "sums with a factor": (lambda x: torch.add(x, x.tanh(), alpha=0.3).sub(seeded(6), alpha=2), ROW),
    "broadcast": (lambda x: x * seeded(4, 1, 1) + seeded(8, 6) - x.mean(-1, keepdim=True), MAP),
    "a constant with more axes": (lambda x: x + seeded(1, 3, 1, 6), (1, 1, 6)),
    "a constant for every sample": (lambda x: x + torch.ones(x.shape[0], 6) * seeded(6), ROW),
    "samples of another rank": (lambda x: x * x.sum((1, 2))[:, None, None], (4, 5)),
    "maximum": (lambda x: torch.maximum(x, x.flip(1)) + torch.minimum(x, seeded(6)), ROW),
    "max of two": (lambda x: torch.max(x, -x), ROW),
    "addcmul": (lambda x: torch.addcmul(x, x, seeded(6), value=0.5) + torch.addcdiv(x, x, x * x + 1), ROW),
    "comparisons": (lambda x: (x > 0).float() + (x <= seeded(6)) * 2 + (x != x).float() + (x >= 1) + (x < -1), ROW),
    "truths": (lambda x: ((x > 0) & (x < 1) | ~(x > -1)).float() + (x > 0.3).logical_not(), ROW),
    "any and all": (lambda x: (x > 0).any(1).float() + (x > -3).all(1), ROW),
    "masked fill": (lambda x: x.masked_fill(seeded(6) > 0, -2.0), ROW),
    "masked fill by the input": (lambda x: x.masked_fill(x > 0, 2.0), ROW),
    "hidden scores": (lambda x: x.masked_fill(seeded(6) > 0, float("-inf")).softmax(-1), ROW),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x) + torch.where(seeded(6) > 0, x, seeded(6)), ROW),
    "prelu": (lambda x: F.prelu(x, seeded(4)), MAP),
    "types": (lambda x: x.double().to(torch.float32).type_as(x), ROW),
    # over axes
    "sum, mean": (lambda x: x.sum(1).mean(-1) + x.mean((1, 2, 3))[:, None] + x.sum((2, 3)).sum(1, True), MAP),
    "extremes": (lambda x: x.amax((2, 3)) - x.amin((2, 3)) + x.max(2).values[:, :, 0] - x.min(-1)[0][..., 0], MAP),
    "softmax": (lambda x: x.softmax(1) + x.softmax(-1), MAP),
    "log softmax": (lambda x: F.log_softmax(x, 1) + x.logsumexp(1, keepdim=True), MAP),
    "softmin": (lambda x: F.softmin(x, 1), MAP),
    "variance": (lambda x: x.var((2, 3)) + x.std((2, 3), correction=0) + x.var(1).sum((1, 2))[:, None], MAP),
    "norms of vectors": (lambda x: x.norm(dim=1) + torch.linalg.vector_norm(x, 1, 1) + x.norm(3, 1), MAP),
    "largest of vectors": (lambda x: torch.linalg.vector_norm(x, float("inf"), 1), MAP),
    "normalize": (lambda x: F.normalize(x, dim=1), MAP),
    "cosine": (lambda x: F.cosine_similarity(x, x.flip(1), 1), MAP),
    # moving
    "reshape": (lambda x: x.view(x.shape[0], -1).reshape(-1, 2, 96).flatten(1, 2).unflatten(1, (4, 48)), MAP),
    "merged with the batch": (lambda x: x.reshape(-1, 6).tanh().view(-1, 4, 8, 6), MAP),
    "merged, then the linear": (lambda x: F.linear(x.reshape(-1, 6), seeded(5, 6)).view(-1, 4, 8 * 5), MAP),
    "permute": (lambda x: x.permute(0, 3, 1, 2).transpose(1, 2).mT, MAP),
    "batch in the middle": (lambda x: (x.permute(1, 0, 3, 2) * 2).permute(1, 0, 2, 3) + x.transpose(2, 3), MAP),
    "batch behind others": (
        lambda x: F.linear(x.transpose(0, 1).reshape(-1, 6), seeded(6, 5).T).view(4, -1, 5).transpose(0, 1),
        (4, 6),
    ),
    "squeeze": (lambda x: x.unsqueeze(1).unsqueeze(-1).squeeze(1).squeeze(-1), MAP),
    "expand": (lambda x: x[:, None].expand(-1, 3, -1, -1, -1) * seeded(3, 1, 1, 1), MAP),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), MAP),
    "repeat with more axes": (lambda x: x.repeat(2, 1, 3).transpose(0, 1), ROW),
    "repeat interleave": (lambda x: x.repeat_interleave(3, 2), MAP),
    "slices": (lambda x: x[:, 1:3, ::2, -2:] + x.narrow(1, 0, 2)[:, :, :4, :2] + x[:, -1:, 1:5, 1:3], MAP),
    "select": (lambda x: x[:, 2] + x.select(1, -1) + x[:, 0], MAP),
    "unbind": (lambda x: torch.stack(x.unbind(1)[::-1], 2), MAP),
    "chunk": (lambda x: torch.cat([each * i for i, each in enumerate(x.chunk(3, 2), 1)], 2), MAP),
    "split": (lambda x: torch.cat(x.split([1, 3], 1)[::-1] + x.split(3, 1), 1), MAP),
    "stack": (lambda x: torch.stack([x, x.tanh(), torch.ones_like(x)], 2), MAP),
    "cat with a constant": (lambda x: torch.cat([seeded(1, 2, 8, 6).expand(x.shape[0], -1, -1, -1), x], 1), MAP),
    "flip": (lambda x: x.flip(1, 3) * seeded(6), MAP),
    "roll": (lambda x: x.roll((1, -2), (2, 3)), MAP),
    "choice of places": (lambda x: x[:, [0, 2, 3]] + x.index_select(1, torch.tensor([3, 1, 0])), MAP),
    "table of places": (lambda x: x[:, torch.tensor([[0, 1], [2, 3]])], MAP),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2) * F.pixel_shuffle(x.abs(), 2), MAP),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), MAP),
    "channel shuffle": (lambda x: F.channel_shuffle(x, 2), MAP),
    "like": (lambda x: torch.zeros_like(x) + x * torch.full_like(x, 3.0) + x.new_ones(6), MAP),
    # padding
    "zeros around": (lambda x: F.pad(x, (1, 2, 0, 1, 1, 0)), MAP),
    "a number around": (lambda x: F.pad(x, (1, 2), value=2.5), LINE),
    "less than nothing": (lambda x: F.pad(x, (-1, 2, 1, -1)), MAP),
    "reflected": (lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect"), MAP),
    "replicated": (lambda x: F.pad(x, (2, 1, 1, 3), mode="replicate"), MAP),
    "circular": (lambda x: F.pad(x, (2, 1, 1, 3), mode="circular"), MAP),
    "reflected line": (lambda x: F.pad(x, (2, 1), mode="reflect"), LINE),
    # windows
    "max pool": (lambda x: F.max_pool2d(x, 3, 2, 1), MAP),
    "max pool, spread": (lambda x: F.max_pool2d(x, (3, 2), 1, (1, 0), dilation=(2, 3)), MAP),
    "max pool, rounded up": (lambda x: F.max_pool2d(x, 3, 3, 1, ceil_mode=True), (2, 9, 7)),
    "average pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), MAP),
    "average pool of what is there": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), MAP),
    "average pool, rounded up": (lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), (2, 8, 6)),
    "average pool, padded and rounded up": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), (2, 7, 10)),
    "average pool by a number": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=5), (2, 7, 10)),
    "pools over a line": (lambda x: F.max_pool1d(x, 3, 2, 1) + F.avg_pool1d(x, 3, 2, 1), LINE),
    "adaptive pool, even": (lambda x: F.adaptive_avg_pool2d(x, (4, 3)) + F.adaptive_max_pool2d(x, (4, 3)), MAP),
    "adaptive pool, whole": (lambda x: F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1), MAP),
    "adaptive pool, uneven": (lambda x: F.adaptive_avg_pool2d(x, (3, 4)) + F.adaptive_max_pool2d(x, (3, 4)), MAP),
    "adaptive pool, kept": (lambda x: F.adaptive_avg_pool2d(x, (None, 2)), MAP),
    "adaptive pool of a line": (lambda x: F.adaptive_avg_pool1d(x, 5) + F.adaptive_max_pool1d(x, 5), LINE),
    "nearest": (lambda x: F.interpolate(x, scale_factor=(2, 3)), MAP),
    "nearest to a size": (lambda x: F.interpolate(x, size=(16, 6)), MAP),
    "nearest on a line": (lambda x: F.interpolate(x, size=24), LINE),
    "bilinear": (lambda x: F.interpolate(x, size=(11, 5), mode="bilinear"), MAP),
    "bilinear by corners": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), MAP),
    "bilinear by a factor": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), MAP),
    "bicubic": (lambda x: F.interpolate(x, size=(11, 5), mode="bicubic"), MAP),
    "linear on a line": (lambda x: F.interpolate(x, scale_factor=1.75, mode="linear"), LINE),
    # products
    "matmul with a weight": (lambda x: x @ seeded(6, 5), (4, 6)),
    "matmul from the left": (lambda x: seeded(5, 4) @ x, (4, 6)),
    "matmul with a stack": (lambda x: x @ seeded(4, 5, 6).mT, (4, 3, 6)),
    "matmul with itself": (lambda x: x @ x.mT, (4, 6)),
    "matmul with a vector": (lambda x: x @ seeded(6), (4, 6)),
    "matmul with fewer axes": (lambda x: x @ x[:, :1].mT, (4, 3, 6)),
    "bmm with heads in the batch": (
        lambda x: torch.bmm(x.reshape(-1, 3, 6), x.reshape(-1, 3, 6).mT).view(-1, 4, 9),
        (4, 3, 6),
    ),
    "addmm": (lambda x: torch.addmm(seeded(5), x, seeded(6, 5)), ROW),
    "addmm with factors": (lambda x: torch.addmm(seeded(5), x, seeded(6, 5), beta=0.5, alpha=2), ROW),
    "baddbmm": (lambda x: torch.baddbmm(seeded(1, 4, 4), x, x.mT, alpha=0.5), (4, 6)),
    "einsum": (lambda x: torch.einsum("bij,kj->bki", x, seeded(6, 5).T), (4, 6)),
    "einsum of two": (lambda x: torch.einsum("bqhd,bkhd->bhqk", x, x.tanh()), (3, 2, 4)),
}


def _written(x: Tensor) -> Tensor:
    part = x[:, 1:3]
    part.mul_(3)
    x[:, 0] = 2.0
    return x + x[:, :1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    torch.manual_seed(0)
    function, shape = FUNCTIONS[name]
    lowered(Calls(function), torch.randn(2, *shape))


def norm(layer: nn.Module) -> nn.Module:
    """Away from where it begins."""
    for tensor in [*layer.parameters(), *layer.buffers()]:
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.3, 2.0)
    return layer


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "linear": (lambda: nn.Linear(6, 3), (5, 6), ["linear"]),
    "linear without bias": (lambda: nn.Linear(6, 3, bias=False), ROW, ["linear"]),
    "conv": (lambda: nn.Conv2d(4, 5, 3, stride=(2, 1), padding=(1, 2)), MAP, ["conv"]),
    "conv, spread": (lambda: nn.Conv2d(4, 5, (2, 3), dilation=(3, 2), bias=False), MAP, ["conv"]),
    "conv, in groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), MAP, ["conv"]),
    "conv, depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), MAP, ["conv"]),
    "conv, same": (lambda: nn.Conv2d(4, 5, (2, 4), padding="same", dilation=(1, 3)), MAP, ["conv"]),
    "conv, valid": (lambda: nn.Conv2d(4, 5, 3, padding="valid"), MAP, ["conv"]),
    "conv, reflected": (lambda: nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), MAP, []),
    "conv over a line": (lambda: nn.Conv1d(3, 5, 4, 2, 1, dilation=2), LINE, ["reshape", "conv", "reshape"]),
    "transposed, blocks": (
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2),
        MAP,
        ["conv", "reshape", "permute", "reshape"],
    ),
    "transposed, blocks in groups": (lambda: nn.ConvTranspose2d(4, 6, (2, 3), stride=(2, 3), groups=2), MAP, []),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3), MAP, ["conv"]),
    "transposed, apart": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), MAP, []),
    "transposed, far apart": (lambda: nn.ConvTranspose2d(4, 6, (2, 4), stride=3, output_padding=(2, 1)), MAP, []),
    "transposed, cut": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=3, padding=2, output_padding=1), MAP, []),
    "transposed, spread in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2, dilation=2), MAP, []),
    "transposed over a line": (lambda: nn.ConvTranspose1d(3, 5, 4, stride=2, padding=1), LINE, []),
    "batch norm": (lambda: norm(nn.BatchNorm2d(4)), MAP, ["multiply", "add"]),
    "batch norm of rows": (lambda: norm(nn.BatchNorm1d(6)), ROW, ["multiply", "add"]),
    "batch norm of lines": (lambda: norm(nn.BatchNorm1d(3, affine=False)), LINE, ["multiply", "add"]),
    "batch norm of places": (
        lambda: nn.Sequential(nn.Flatten(0, 1), norm(nn.BatchNorm1d(6))),
        (5, 6),
        ["multiply", "add"],
    ),
    "group norm": (lambda: norm(nn.GroupNorm(2, 4)), MAP, ["group_norm"]),
    "group norm of rows": (lambda: nn.GroupNorm(3, 6, affine=False), ROW, ["group_norm"]),
    "instance norm": (lambda: norm(nn.InstanceNorm2d(4, affine=True)), MAP, ["group_norm"]),
    "instance norm, tracked": (lambda: norm(nn.InstanceNorm2d(4, track_running_stats=True)), MAP, ["multiply", "add"]),
    "layer norm": (lambda: norm(nn.LayerNorm(6)), (5, 6), ["layer_norm"]),
    "layer norm over two axes": (lambda: norm(nn.LayerNorm([8, 6], bias=False)), MAP, ["layer_norm"]),
    "layer norm, bare": (lambda: nn.LayerNorm(6, elementwise_affine=False), (5, 6), ["layer_norm"]),
    "rms norm": (lambda: norm(nn.RMSNorm(6)), (5, 6), ["rms_norm"]),
    "dropout": (lambda: nn.Sequential(nn.Dropout(), nn.Tanh(), nn.Dropout2d()), MAP, ["tanh"]),
    "identity, then linear": (
        lambda: nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(192, 3)),
        MAP,
        ["reshape", "linear"],
    ),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), ROW, ["linear"]),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)), ROW, ["linear"]),
    "lstm": (lambda: Outputs(nn.LSTM(6, 4, num_layers=2, batch_first=True)), (3, 6), []),
    "gru, both ways": (lambda: Outputs(nn.GRU(6, 4, bidirectional=True, batch_first=True)), (3, 6), []),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), MAP, ["matmul", "linear"]),
    "multi-head attention": (lambda: Heads(False), (5, 12), []),
    "multi-head attention, masked": (lambda: Heads(True), (5, 12), []),
    "transformer encoder": (lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False), (5, 12), []),
}


class Outputs(nn.Module):
    """The outputs of a recurrent layer, without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Heads(nn.Module):
    """nn.MultiheadAttention, which puts the batch behind the sequence."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(12, 3, batch_first=True)
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        self.register_buffer("mask", mask if masked else None)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x, attn_mask=self.mask, need_weights=False)[0]


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, activation="gelu")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    torch.manual_seed(0)
    make, shape, wanted = LAYERS[name]
    plan = lowered(make(), torch.randn(2, *shape))
    assert not wanted or kinds(plan) == wanted


def test_layers_in_place_need_no_other_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("decomposed, which takes longer than all else")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", refuse)
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    net = nn.Sequential(block, nn.Conv2d(4, 5, 3), nn.ReLU6(inplace=True), nn.Flatten(), nn.Dropout(inplace=True))
    assert kinds(lowered(net, torch.randn(2, *MAP))) == ["conv", "conv", "reshape"]


def test_an_embedding_reads_whole_numbers() -> None:
    plan = lowered(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), torch.arange(6).view(2, 3))
    assert kinds(plan) == ["embedding", "linear"]
    assert plan.values[plan.inputs[0]].dtype == "I64"


class Shared(nn.Module):
    """Heads of queries share keys and values, with a mask given by the user."""

    def forward(self, q: Tensor, k: Tensor, keep: Tensor) -> Tensor:
        mask = keep[:, None, None, :].bool()
        return F.scaled_dot_product_attention(q, k, k * 2, attn_mask=mask, enable_gqa=True, scale=0.3)


def test_attention_with_shared_heads_and_a_mask_from_the_input() -> None:
    torch.manual_seed(0)
    keep = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 0, 0, 1]])
    plan = lowered(Shared(), (torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8), keep))
    (attention,) = (op for op in plan.ops if op.kind == "attention")
    assert len(attention.inputs) == 4
    assert attention.attributes == {"scale": 0.3, "causal": False}


def test_an_attention_that_hides_what_comes_later_says_so() -> None:
    plan = lowered(Calls(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), torch.randn(2, 3, 5, 4))
    assert plan.ops[0].attributes["causal"] is True
    mask = torch.ones(5, 5).tril().log()
    plan = lowered(Calls(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask)), torch.randn(2, 3, 5, 4))
    assert plan.ops[0].attributes["causal"] is True
    assert not plan.constants
