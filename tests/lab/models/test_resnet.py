import pytest
import torch
from torch import nn

from secateur.lab.models.resnet import PaddedShortcut, imagenet_resnet, small_resnet


def test_the_padded_shortcut_keeps_every_other_pixel_and_adds_zeros():
    x = torch.randn(2, 3, 5, 6)
    y = PaddedShortcut(2, 4)(x)
    assert y.shape == (2, 7, 3, 3)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()


@pytest.mark.parametrize(("depth", "side", "stages"), [(20, 32, [32, 16, 8]), (32, 9, [9, 5, 3])])
def test_stages_halve_the_image_and_double_the_width(depth, side, stages):
    model, x = small_resnet((3, side, side), 10, depth), torch.randn(1, 3, side, side)
    for name, layer in model.named_children():
        x = layer(x)
        if name.startswith("layer"):
            stage = int(name[-1]) - 1
            assert x.shape == (1, 16 << stage, stages[stage], stages[stage])


@pytest.mark.parametrize(
    ("model", "depth"),
    [
        (small_resnet((3, 32, 32), 10, 56), 56),
        (imagenet_resnet((3, 32, 32), 10, (3, 4, 6, 3)), 34),
        (imagenet_resnet((3, 32, 32), 10, (3, 4, 6, 3), bottleneck=True), 50),
    ],
)
def test_the_depth_in_the_name_counts_layers_outside_shortcuts(model, depth):
    layers = [path for path, part in model.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    assert sum("shortcut" not in path for path in layers) == depth


def test_a_block_is_the_sum_of_branch_and_shortcut():
    model = imagenet_resnet((3, 32, 32), 10, (2, 2, 2, 2)).eval()
    block, x = model.layer2[0], torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(block(x), (block.branch(x) + block.shortcut(x)).clamp(min=0))
