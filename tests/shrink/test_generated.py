"""Shrinking of networks that nobody drew: whatever hangs together in them, outputs stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import secateur as sc
from secateur.shrink.checking import difference, outputs

pytestmark = pytest.mark.filterwarnings("ignore::secateur.vocabulary.SecateurWarning")

KINDS = ["conv3", "conv1", "depthwise", "grouped", "norm", "group norm", "relu", "sigmoid", "add", "cat", "mul", "gate"]
KINDS += ["halves", "pool", "scale", "shuffle", "again", "shift", "transposed", "attend"]


class Generated(nn.Module):
    """A program over feature maps of 6 x 6: each step reads earlier values and appends one."""

    def __init__(self, steps: list[tuple[str, int, int, int]], heads: int) -> None:
        super().__init__()
        self.enter, self.steps, self.layers = nn.Conv2d(3, 6, 1), [], nn.ModuleList()
        self.scales = nn.ParameterList()
        channels = [6]
        for kind, first, second, width in steps:
            a, b = first % len(channels), second % len(channels)
            out, layer = self._made(kind, channels[a], channels[b], 2 * width)
            layer.head_dim = channels[a] // 2
            self.layers.append(layer)
            self.scales.append(torch.randn(channels[a], 1, 1))
            self.steps.append((kind, a, b))
            channels.append(out)
        self.heads = nn.ModuleList(nn.Linear(channels[-1 - i % len(channels)], 3) for i in range(heads))

    def _made(self, kind: str, c: int, d: int, width: int) -> tuple[int, nn.Module]:
        if kind in ("conv3", "conv1", "transposed"):
            layer = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
            padded = {"kernel_size": 3, "padding": 1} if kind != "conv1" else {"kernel_size": 1}
            return width, layer(c, width, bias=width % 4 == 0, **padded)
        made: dict[str, Any] = {
            "depthwise": lambda: (c, nn.Conv2d(c, c, 3, padding=1, groups=c)),
            "grouped": lambda: (2 * width, nn.Conv2d(c, 2 * width, 1, groups=2)),
            "norm": lambda: (c, nn.BatchNorm2d(c)),
            "group norm": lambda: (c, nn.GroupNorm(2, c)),
            "add": lambda: (c, nn.Identity() if c == d else nn.Conv2d(d, c, 1)),
            "mul": lambda: (c, nn.Identity() if c == d else nn.Conv2d(d, c, 1, bias=False)),
            "cat": lambda: (c + d, nn.Identity()),
            "gate": lambda: (c, nn.Linear(d, c)),
            "halves": lambda: (c // 2 * 2 // 2 if c % 4 == 0 else c, nn.Identity()),
            "attend": lambda: (c, nn.Linear(c, 3 * c)),
        }
        return made.get(kind, lambda: (c, nn.Identity()))()

    def forward(self, x: Tensor) -> list[Tensor]:
        values = [self.enter(x)]
        for (kind, a, b), layer, scale in zip(self.steps, self.layers, self.scales, strict=True):
            values.append(self._step(kind, layer, scale, values[a], values[b]))
        return [head(values[-1 - i % len(values)].mean((2, 3))) for i, head in enumerate(self.heads)]

    def _step(self, kind: str, layer: nn.Module, scale: Tensor, a: Tensor, b: Tensor) -> Tensor:
        n, c, h, w = a.shape
        if kind in ("add", "mul"):
            return a + layer(b) if kind == "add" else a * layer(b)
        if kind == "cat":
            return torch.cat([a, b], 1)
        if kind == "gate":
            return a * torch.sigmoid(layer(b.mean((2, 3))))[:, :, None, None]
        if kind == "halves":
            return F.glu(a, 1) if layer is None else self._halves(a)
        if kind == "attend":
            # Two heads at first; one is left where the other has gone.
            q, k, v = (
                layer(a.flatten(2).transpose(1, 2)).reshape(n, h * w, 3, -1, layer.head_dim).permute(2, 0, 3, 1, 4)
            )
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, -1)
            return a + y.transpose(1, 2).reshape(n, -1, h, w)
        simple: dict[str, Any] = {
            "relu": lambda: F.relu(a),
            "sigmoid": lambda: torch.sigmoid(a),
            "pool": lambda: F.max_pool2d(a, 3, 1, 1),
            "scale": lambda: a * scale,
            "shift": lambda: a + scale,
            "shuffle": lambda: a.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w),
            "again": lambda: F.leaky_relu(a) - a,
        }
        return simple[kind]() if kind in simple else layer(a)

    def _halves(self, a: Tensor) -> Tensor:
        if a.shape[1] % 4:
            return a
        one, two = a.chunk(2, 1)
        return one * torch.tanh(two)


step = st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(0, 9), st.integers(1, 5))


@settings(max_examples=60)
@given(
    st.lists(step, min_size=2, max_size=9),
    st.integers(1, 3),
    st.integers(0, 10**6),
    st.floats(0.3, 0.99),
    st.booleans(),
)
def test_outputs_stay(
    steps: list[tuple[str, int, int, int]], heads: int, seed: int, sparsity: float, whole: bool
) -> None:
    torch.manual_seed(seed)
    model = Generated(steps, heads).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    weights = sc.prunable(model, biases=True)
    scores = sc.criteria.random(weights, seed=seed)
    granularity: Any = sc.Row() if whole else sc.Element()
    sc.apply(model, sc.select(scores, sparsity, granularity=granularity, scope=sc.PerTensor()))
    example = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    small = sc.shrink(model, example)
    for x in (example, torch.rand(3, 3, 6, 6, dtype=torch.float64)):
        assert difference(outputs(model, (x,), {}), outputs(small, (x,), {}))[1]
    record = sc.shrinkage(small)
    assert record is not None
    assert not record.unknown


@settings(max_examples=30, phases=[Phase.explicit, Phase.generate])
@given(st.lists(step, min_size=2, max_size=9), st.integers(0, 10**6), st.floats(0.1, 0.9))
def test_chosen_units_go_and_leave_what_the_masks_leave(
    steps: list[tuple[str, int, int, int]], seed: int, sparsity: float
) -> None:
    torch.manual_seed(seed)
    model = Generated(steps, 1).double().eval()
    example = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    # Everything may hang together in one unit, which has to stay.
    assume(sc.UnitChoice(sc.couple(model, example)).groups)
    masks = sc.prune_units(model, example, sparsity)
    small = sc.shrink(model, example)
    x = torch.rand(3, 3, 6, 6, dtype=torch.float64)
    assert difference(outputs(model, (x,), {}), outputs(small, (x,), {}))[1]
    # Every unit that was chosen is gone: what is left of a tensor is no more than its mask keeps.
    for name, parameter in small.named_parameters():
        if name in masks:
            assert parameter.numel() <= int(masks[name].sum())
