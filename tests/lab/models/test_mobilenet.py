import pytest
import torch

from secateur.lab.models.mobilenet import mobilenet_v1


@pytest.mark.parametrize(
    ("side", "sides"),
    [
        (32, [32, 32, 16, 16, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2]),
        (63, [63, 63, 32, 32, 16, 16, 8, 8, 8, 8, 8, 8, 4, 4]),
        (64, [32, 32, 16, 16, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2]),
        (224, [112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7]),  # table 1 of the paper
    ],
)
def test_sides_after_each_block(side, sides):
    with torch.device("meta"):
        model, x = mobilenet_v1((3, side, side), 10), torch.randn(1, 3, side, side)
        found = []
        for name, layer in model.named_children():
            x = layer(x)
            if name == "conv1" or name.startswith("block"):
                found.append(x.shape[2])
    assert found == sides
