"""Small networks for digits: the two LeNets of the pruning papers and a tutorial's convnet."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from secateur.lab.models.layers import Shape, scaled
from secateur.lab.models.mlp import mlp

__all__ = ["lenet_5", "lenet_300_100", "tutorial_convnet"]


def lenet_300_100(shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """Return the perceptron with 300 and 100 hidden units of LeCun et al. (1998).

    "Gradient-based learning applied to document recognition", with ReLU, as the pruning papers have it:
    266,610 parameters for 28x28 grey images and 10 classes.

    Example:
        >>> sum(p.numel() for p in lenet_300_100((1, 28, 28), 10).parameters())
        266610
    """
    return mlp(shape, classes, (300, 100), width)


def lenet_5(shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """Return LeNet-5 as Caffe's MNIST example has it, the one most pruning papers count.

    Two 5x5 convolutions without padding (20 and 50 filters), each followed by max-pooling and, as in Caffe,
    by no ReLU; 500 units with ReLU; the output layer. 431,080 parameters for 28x28 grey images and 10
    classes, as in Han et al. (2015), arXiv:1506.02626.

    Example:
        >>> sum(p.numel() for p in lenet_5((1, 28, 28), 10).parameters())
        431080
    """
    channels, height, across = shape
    pixels = (((height - 4) // 2 - 4) // 2) * (((across - 4) // 2 - 4) // 2)
    filters1, filters2, units = (scaled(units, width) for units in (20, 50, 500))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, filters1, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(filters1, filters2, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(filters2 * pixels, units),
            relu1=nn.ReLU(),
            fc2=nn.Linear(units, classes),
        )
    )


def tutorial_convnet(shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """Return the convnet of TensorFlow's "Pruning in Keras example" tutorial.

    12 filters of 3x3 without padding, ReLU, max-pooling, the output layer: 20,410 parameters for 28x28
    grey images and 10 classes.

    Example:
        >>> sum(p.numel() for p in tutorial_convnet((1, 28, 28), 10).parameters())
        20410
    """
    channels, height, across = shape
    filters = scaled(12, width)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, filters, 3),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(filters * ((height - 2) // 2) * ((across - 2) // 2), classes),
        )
    )
