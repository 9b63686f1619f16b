"""VGG-16 with batch norm in its CIFAR form."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from secateur.lab.models.layers import Shape, he_initialized, head, scaled

__all__ = ["vgg_16_bn"]

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg_16_bn(shape: Shape, classes: int, factor: float = 1.0) -> nn.Module:
    """Return the 13 convolutions of VGG-16, each with batch norm, and one linear layer.

    Simonyan and Zisserman (2014), arXiv:1409.1556, with the two hidden linear layers left out, as is usual
    on CIFAR. Global average pooling stands before the linear layer; at 32x32 it has one pixel to average.

    Example:
        >>> sum(p.numel() for p in vgg_16_bn((3, 32, 32), 10).parameters())
        14728266
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = shape[0]
    for block, widths in enumerate(BLOCKS, start=1):
        for number, width in enumerate((scaled(width, factor) for width in widths), start=1):
            layers[f"conv{block}_{number}"] = nn.Conv2d(inputs, width, 3, padding=1)
            layers[f"bn{block}_{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{block}_{number}"] = nn.ReLU()
            inputs = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    layers.update(head(inputs, classes))
    return he_initialized(nn.Sequential(layers))
