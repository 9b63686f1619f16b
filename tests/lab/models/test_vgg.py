import torch
from torch import nn

from secateur.lab.models.vgg import vgg_16_bn


def test_there_are_13_convolutions_with_norms_and_one_linear_layer():
    kinds = [type(part) for part in vgg_16_bn((3, 32, 32), 10)]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Linear)] == [13, 13, 5, 1]


def test_pooling_before_the_head_changes_nothing_at_32_pixels():
    model, x = vgg_16_bn((3, 32, 32), 10), torch.randn(2, 3, 32, 32)
    for name, layer in model.named_children():
        if name == "pool":
            assert x.shape == (2, 512, 1, 1)
            assert torch.equal(layer(x), x)
        x = layer(x)


def test_convolutions_start_with_the_variance_of_he():
    torch.manual_seed(0)
    for part in vgg_16_bn((3, 32, 32), 10):
        if isinstance(part, nn.Conv2d):
            fan_in = part.weight[0].numel()
            assert abs(part.weight.var().item() * fan_in / 2 - 1) < 0.15
            assert not part.bias.any()
