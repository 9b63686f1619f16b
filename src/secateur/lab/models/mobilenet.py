"""MobileNet v1 of width 1."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from secateur.lab.models.layers import Shape, he_initialized, head, scaled

__all__ = ["mobilenet_v1"]

# Output channels and stride of each depthwise separable convolution: table 1 of the paper.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1(shape: Shape, classes: int, factor: float = 1.0) -> nn.Module:
    """Return MobileNet v1: a convolution, 13 depthwise separable ones, one linear layer.

    Howard et al. (2017), arXiv:1704.04861, with the last separable convolution at stride 1 (the paper's
    table says 2 by mistake). The first convolution has stride 1 for images under 64 pixels a side, as is
    usual on CIFAR, and 2 otherwise. With 3 channels it has 3,217,226 parameters for 10 classes and
    4,231,976 for the 1,000 of ImageNet, at any resolution.

    Example:
        >>> sum(p.numel() for p in mobilenet_v1((3, 32, 32), 10).parameters())
        3217226
    """
    channels, height, width = shape
    inputs = scaled(32, factor)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, inputs, 3, stride=1 if min(height, width) < 64 else 2, padding=1, bias=False),
        bn1=nn.BatchNorm2d(inputs),
        relu1=nn.ReLU(),
    )
    for number, (channels_out, stride) in enumerate(BLOCKS, start=1):
        outputs = scaled(channels_out, factor)
        layers[f"block{number}"] = _separable(inputs, outputs, stride)
        inputs = outputs
    layers.update(head(inputs, classes))
    return he_initialized(nn.Sequential(layers))


def _separable(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
            bn1=nn.BatchNorm2d(inputs),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(inputs, outputs, 1, bias=False),
            bn2=nn.BatchNorm2d(outputs),
            relu2=nn.ReLU(),
        )
    )
