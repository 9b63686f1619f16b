"""Which layers can be accelerated, and what they are turned into."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F  # noqa: N812

from secateur.engine.accelerating.known import Matrix, Use
from secateur.engine.accelerating.operators import conv, linear
from secateur.engine.accelerating.programs import Window

__all__ = [
    "AcceleratedConv1d",
    "AcceleratedConv2d",
    "AcceleratedLinear",
    "AcceleratedTransposedLinear",
    "restored",
    "takes_part",
    "turned",
    "use_of",
    "why_not",
]


def _takes(module: nn.Module, x: Tensor) -> bool:
    """Return whether the kernels compute this call; else the layer does it with its dense weights, as it always did."""
    tensors: list[Tensor] = [x, module.weight]  # type: ignore[list-item]
    if module.bias is not None:
        tensors.append(module.bias)  # type: ignore[arg-type]
    # Gradients backwards or, inside of a level, forwards.
    if (torch.is_grad_enabled() and any(each.requires_grad for each in tensors)) or forward_ad._current_level >= 0:
        return False
    if torch.is_autocast_enabled("cpu") or x.layout != torch.strided:
        return False
    return all(each.dtype == torch.float32 and each.device.type == "cpu" for each in tensors)


class AcceleratedLinear(nn.Linear):
    """A Linear layer that runs on sparse kernels: the same weights, the same results but for the last digits.

    Without gradients, in float32 and on the CPU; all else it computes as a Linear layer does.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the products, shape [..., outputs] for an input [..., inputs]."""
        if not _takes(self, input):
            return super().forward(input)
        y: Tensor = linear(input, self.weight, self.bias, False, _threads(self))
        return y


class AcceleratedTransposedLinear(nn.Module):
    """The same for the ``Conv1D`` of transformers, whose weight has the shape [inputs, outputs]."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the products, shape [..., outputs] for an input [..., inputs]."""
        if not _takes(self, x):
            return F.linear(x, self.weight.t(), self.bias)
        y: Tensor = linear(x, self.weight, self.bias, True, _threads(self))
        return y


class AcceleratedConv1d(nn.Conv1d):
    """The same for Conv1d."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolutions, shape [batch, outputs, length] for an input [batch, inputs, length]."""
        return _convolved(self, input) if _takes(self, input) else super().forward(input)


class AcceleratedConv2d(nn.Conv2d):
    """The same for Conv2d."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolutions, [batch, outputs, height, width] for an input [batch, inputs, height, width]."""
        return _convolved(self, input) if _takes(self, input) else super().forward(input)


_KINDS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Linear: AcceleratedLinear,
    nn.Conv1d: AcceleratedConv1d,
    nn.Conv2d: AcceleratedConv2d,
}


def _convolved(module: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    window = _window(module).numbers
    y: Tensor = conv(x, module.weight, module.bias, window, _threads(module))
    return y


def _window(module: nn.Conv1d | nn.Conv2d) -> Window:
    """Return how a layer moves; a line is an image of height 1."""
    ones = (1,) * (2 - len(module.kernel_size))
    kernel, stride, gaps = (ones + each for each in (module.kernel_size, module.stride, module.dilation))
    if isinstance(module.padding, str):
        # What is odd comes at the end.
        totals = [gap * (size - 1) * (module.padding == "same") for gap, size in zip(gaps, kernel, strict=True)]
        sides = [side for total in totals for side in (total // 2, total - total // 2)]
    else:
        sides = [0, 0] * len(ones) + [size for size in module.padding for _ in range(2)]
    top, bottom, left, right = sides
    return Window(
        (kernel[0], kernel[1]), (stride[0], stride[1]), (top, bottom, left, right), (gaps[0], gaps[1]), module.groups
    )


def _threads(module: nn.Module) -> int:
    threads: int = module._secateur_threads  # type: ignore[assignment]
    return threads


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """Return the accelerated kind of a layer, None if there is none."""
    kind = type(module)
    if kind.__name__ == "Conv1D" and {"nf", "nx"} <= vars(module).keys():
        return AcceleratedTransposedLinear
    # A subclass may compute anything.
    return _KINDS.get(kind)


def takes_part(module: nn.Module) -> bool:
    """Return whether there are kernels for what a module is."""
    return _kind(module) is not None


def why_not(module: nn.Module) -> str:
    """Return what keeps a layer from being accelerated, whatever its weights are; "" where nothing does.

    Example:
        >>> why_not(nn.Linear(3, 4)), why_not(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
        ('', 'its padding mode is reflect')
    """
    if _kind(module) is None:
        return f"no kernels for {type(module).__name__}"
    if "forward" in vars(module):
        return "its forward was replaced"
    own = {name: module._parameters.get(name) for name in ("weight", "bias")}
    if own["weight"] is None or (own["bias"] is None and getattr(module, "bias", None) is not None):
        return "its weight or bias is computed anew for every call"
    for name, parameter in own.items():
        if parameter is not None and (unfit := _unfit(parameter)):
            return f"its {name} {unfit}"
    mode = getattr(module, "padding_mode", "zeros")
    return "" if mode == "zeros" else f"its padding mode is {mode}"


def _unfit(parameter: nn.Parameter) -> str:
    """Return what the kernels could not do with a parameter; "" if they can take it."""
    if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
        return f"is {str(parameter.dtype).removeprefix('torch.')} on {parameter.device}, not float32 on cpu"
    if type(parameter) is not nn.Parameter or parameter.layout != torch.strided:
        return "is no plain tensor"
    if parameter.is_inference():
        return "was made in inference mode, which hides whether it changes"
    return "" if parameter.numel() else "is empty"


def use_of(module: nn.Module) -> Use:
    """Return what a layer that nothing keeps from being accelerated does with its weight."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return _window(module)
    return Matrix(transposed=_kind(module) is AcceleratedTransposedLinear)


def turned(module: nn.Module, threads: int | None) -> None:
    """Turn a layer that nothing keeps from it into an accelerated one; itself, so that whoever holds it holds that."""
    kind = _kind(module)
    assert kind is not None
    module._secateur_kind, module._secateur_threads = type(module), threads or 0  # type: ignore[assignment]
    module.__class__ = kind


def restored(module: nn.Module) -> None:
    """Make an accelerated layer what it was; leave any other."""
    if "_secateur_kind" in vars(module):
        del module._secateur_threads
        module.__class__ = vars(module).pop("_secateur_kind")
