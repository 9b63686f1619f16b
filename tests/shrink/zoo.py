"""Small nasty networks: one for each way in which units of a network hang together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Residual(nn.Module):
    """BatchNorm after the sum, and a projection on the way round."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1, bias=False)
        self.after = nn.BatchNorm2d(8)
        self.down, self.round = nn.Conv2d(8, 10, 3, stride=2), nn.Conv2d(8, 10, 1, stride=2)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.after(x + self.outer(torch.relu(self.inner(x)))))
        x = self.down(x) + self.round(x)[:, :, :-1, :-1]
        return self.head(x.mean((2, 3)))


class ConcatThenConv(nn.Module):
    """DenseNet: every layer reads all earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3 + 4 * i) for i in range(4))
        self.head = nn.Conv2d(15, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        return self.head(F.relu(self.norms[-1](x))).amax((2, 3))


class Shared(nn.Module):
    """One layer called three times, and one weight with two owners."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.leave = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.twin = nn.Linear(7, 3)
        self.twin.weight = self.leave.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.tanh(self.enter(x))
        for _ in range(3):
            x = torch.tanh(self.again(x))
        return self.leave(x), self.twin(x.relu())


class Depthwise(nn.Module):
    """Depthwise filters, one and two an input, and a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 6, 1)
        self.depth, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6)
        self.point = nn.Conv2d(6, 8, 1)
        self.twice = nn.Conv2d(8, 16, 3, groups=8)
        self.mix = nn.Conv2d(16, 6, 1)
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2, groups=6)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.depth(F.hardswish(self.enter(x)))))
        x = F.silu(self.mix(self.twice(F.elu(self.point(x)))))
        return self.head(F.gelu(self.up(x)))


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.enter(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1).flatten(1)))))
        return self.head(x * gate[:, :, None, None])


class Attention(nn.Module):
    """Separate queries, keys and values; fewer heads of keys and values than of queries."""

    def __init__(self, width: int, heads: int, kv_heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.fused = heads, kv_heads, width // heads, fused
        self.q = nn.Linear(width, width)
        self.k, self.v = (nn.Linear(width, kv_heads * self.head_dim) for _ in range(2))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.heads != self.kv_heads)
        else:
            k, v = (each.repeat_interleave(self.heads // self.kv_heads, 1) for each in (k, v))
            y = torch.softmax(q @ k.transpose(-1, -2) / self.head_dim**0.5, -1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


class PreNorm(nn.Module):
    """A transformer block: LayerNorm first, attention, then a gated MLP."""

    def __init__(self, kv_heads: int = 2, fused: bool = True) -> None:
        super().__init__()
        self.one, self.two = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = Attention(16, 4, kv_heads, fused)
        self.up, self.gate, self.down = nn.Linear(16, 24), nn.Linear(16, 24, bias=False), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.one(x))
        y = self.two(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Packed(nn.Module):
    """Queries, keys and values from one matrix, as in a vision transformer; the code counts heads."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.embed, self.norm = nn.Conv2d(3, 16, 4, stride=4), nn.LayerNorm(16)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 5, 16))
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        y = self.qkv(self.norm(x)).reshape(x.shape[0], x.shape[1], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = y.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(y))[:, 0])


class UNet(nn.Module):
    """Skips across transposed convolutions and upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.bottom = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.up2, self.up1 = nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(16, 6, 1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.down1(x))
        two = F.relu(self.down2(F.max_pool2d(one, 2)))
        bottom = F.leaky_relu(self.bottom(F.avg_pool2d(two, 2)))
        up = F.relu(self.up1(torch.cat([two, self.up2(bottom)], 1)))
        return self.head(torch.cat([one, F.interpolate(up, scale_factor=2, mode="nearest")], 1))


class TwoHeads(nn.Module):
    """Two inputs, one of them by name, and outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.number = nn.Conv2d(1, 5, 3), nn.Linear(4, 6)
        self.trunk = nn.Linear(5 * 9 + 6, 12)
        self.classes, self.boxes = nn.Linear(12, 3), nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, image: Tensor, number: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(F.relu(self.image(image)), 2).flatten(1)
        x = F.relu(self.trunk(torch.cat([x, torch.tanh(self.number(number))], 1)))
        return {"classes": self.classes(x), "boxes": self.boxes(x)}


class Shuffle(nn.Module):
    """Grouped convolutions with their channels shuffled between."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 12, 1)
        self.grouped, self.norm = nn.Conv2d(12, 12, 3, padding=1, groups=3), nn.BatchNorm2d(12)
        self.again, self.head = nn.Conv2d(12, 6, 1, groups=3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.grouped(F.relu(self.enter(x)))))
        batch, channels, height, width = x.shape
        x = x.view(batch, 3, channels // 3, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return self.head(self.again(x).mean((2, 3)))


class Norms(nn.Module):
    """GroupNorm, InstanceNorm, PReLU, and LayerNorm over channels that come last."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.group = nn.Conv2d(3, 12, 3), nn.GroupNorm(4, 12)
        self.two, self.instance, self.slope = nn.Conv2d(12, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.PReLU(6)
        self.three, self.layer = nn.Conv2d(6, 8, 1), nn.LayerNorm(8)
        self.scale, self.shift = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(5, 1, 1))
        self.four, self.head = nn.Conv2d(8, 5, 1), nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.instance(self.two(F.relu(self.group(self.one(x))))))
        x = self.layer(self.three(x).permute(0, 2, 3, 1)) * self.scale
        return self.head(self.four(x.permute(0, 3, 1, 2)) * self.shift)


class Split(nn.Module):
    """Gated linear units by halves, and a cut at a fixed place."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mid, self.leave = nn.Linear(6, 16), nn.Linear(8, 10), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x).chunk(2, -1)
        x = F.relu(self.mid(value * torch.sigmoid(gate)))
        return self.leave(x[:, :4]) + self.leave(x[:, 4:8])


class Counted(nn.Module):
    """Numbers of units written into the code: one in an attribute, one in a layer, one where nobody finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = 4 * 5 * 5
        self.conv, self.one, self.two = nn.Conv2d(1, 4, 4), nn.Linear(100, 12), nn.Linear(12, 18)
        self.unflatten, self.mix = nn.Unflatten(1, (2, 3, 3)), nn.Conv2d(2, 6, 1)
        self.head = nn.Linear(6 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(F.relu(self.conv(x)).view(-1, self.features)))
        return self.head(F.relu(self.mix(self.unflatten(F.relu(self.two(x))))).view(x.shape[0], 54))


class Recurrent(nn.Module):
    """An embedding tied to the head, and an LSTM, which cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm = nn.Embedding(11, 6), nn.LSTM(6, 8, batch_first=True)
        self.mid, self.back = nn.Linear(8, 10), nn.Linear(10, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.back(F.relu(self.mid(self.lstm(self.table(tokens))[0]))))


class Odd(nn.Module):
    """Operations without a rule, weights made on the fly, work under no_grad and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(2, 6, 1)
        self.three = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1))
        self.four, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 3)
        self.register_buffer("mean", torch.randn(6, 1, 1))
        self.calls = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(F.pixel_shuffle(F.relu(self.one(x), inplace=True), 2))
        x -= self.mean
        x = self.four(F.relu(self.three(x)))
        with torch.no_grad():
            top = x.argmax(1, keepdim=True)
        x = torch.einsum("bchw->bc", x) + top.sum((2, 3))
        return self.head(x.softmax(-1))


class Rotary(nn.Module):
    """Rotary positions, which pair the numbers of a head; RMS norm written out."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12, bias=False) for _ in range(4))
        self.gain = nn.Parameter(torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain
        q, k, v = (layer(y).view(batch, length, -1, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        angles = torch.arange(length, dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1], dtype=x.dtype)
        q, k = (e * angles.cos() + torch.cat([-e[..., 2:], e[..., :2]], -1) * angles.sin() for e in (q, k))
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        scores = (q @ k.transpose(-1, -2) * 0.5).masked_fill(~mask, float("-inf"))
        return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1))


class Dims(nn.Module):
    """Convolutions over one and three axes, and a map of one channel that weighs all."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.point = nn.Conv3d(1, 6, 3), nn.Conv3d(6, 4, 1)
        self.where = nn.Conv3d(6, 1, 1)
        self.one, self.head = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.three(x))
        x = self.point(x * torch.sigmoid(self.where(x))).flatten(2)
        return self.head(F.relu(self.one(x)).mean(-1))


def _encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True)


def _images(size: int = 8, channels: int = 3) -> Callable[[], Any]:
    return lambda: torch.randn(2, channels, size, size)


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "residual": (Residual, _images()),
    "concat then conv": (ConcatThenConv, _images()),
    "shared": (Shared, lambda: torch.randn(3, 5)),
    "depthwise": (Depthwise, _images()),
    "gate": (Gate, _images()),
    "pre-norm, grouped queries": (PreNorm, lambda: torch.randn(2, 5, 16)),
    "pre-norm, by hand": (lambda: PreNorm(2, False), lambda: torch.randn(2, 5, 16)),
    "pre-norm, all heads": (lambda: PreNorm(4, True), lambda: torch.randn(2, 5, 16)),
    "packed": (Packed, _images()),
    "u-net": (UNet, _images()),
    "two heads": (TwoHeads, lambda: {"number": torch.randn(2, 4), "image": torch.randn(2, 1, 8, 8)}),
    "shuffle": (Shuffle, _images()),
    "norms": (Norms, _images()),
    "split": (Split, lambda: torch.randn(4, 6)),
    "counted": (Counted, _images(8, 1)),
    "recurrent": (Recurrent, lambda: torch.randint(0, 11, (2, 5))),
    "odd": (Odd, _images()),
    "rotary": (Rotary, lambda: torch.randn(2, 5, 12)),
    "dims": (Dims, lambda: torch.randn(2, 1, 5, 5, 5)),
    "encoder": (_encoder, lambda: torch.randn(2, 5, 12)),
}


def build(name: str, seed: int = 0) -> tuple[nn.Module, Any]:
    """Return a network in float64 and eval mode, its norms away from where they begin, and an example."""
    torch.manual_seed(seed)
    make, example = ZOO[name]
    model = make().double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            if module.running_mean is not None and module.running_var is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return model, torch.utils._pytree.tree_map(lambda t: t.double() if t.is_floating_point() else t, example())


def half_dead() -> nn.Sequential:
    """Two of six hidden units read nothing."""
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2, bias=False))
    with torch.no_grad():
        net[0].weight[:2] = 0
    return net
