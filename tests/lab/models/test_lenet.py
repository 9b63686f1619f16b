import torch
from torch import nn

from secateur.lab.models.lenet import lenet_5, tutorial_convnet


def kinds(model):
    return [type(layer).__name__ for layer in model]


def test_lenet_5_has_the_layers_of_caffe():
    assert kinds(lenet_5((1, 28, 28), 10)) == [
        *("Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d"),  # no ReLU after them
        *("Flatten", "Linear", "ReLU", "Linear"),
    ]


def test_the_tutorial_convnet_has_the_shapes_of_the_tutorial():
    model, x = tutorial_convnet((1, 28, 28), 10), torch.randn(1, 1, 28, 28)
    shapes = []
    for layer in model:
        x = layer(x)
        if not isinstance(layer, nn.ReLU):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(12, 26, 26), (12, 13, 13), (2028,), (10,)]


def test_images_need_not_be_square():
    assert lenet_5((1, 28, 40), 10)(torch.randn(2, 1, 28, 40)).shape == (2, 10)
    assert tutorial_convnet((1, 9, 12), 10)(torch.randn(2, 1, 9, 12)).shape == (2, 10)
