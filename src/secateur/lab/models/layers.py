"""What the convolutional families share: the last layers of a classifier and He's initialization."""

from __future__ import annotations

from torch import nn

__all__ = ["Shape", "he_initialized", "head", "scaled"]

Shape = tuple[int, int, int]  # channels, height and width of one image


def scaled(units: int, width: float) -> int:
    """Return ``units`` times a width factor, at least 1.

    Example:
        >>> scaled(300, 0.5), scaled(3, 0.01)
        (150, 1)
    """
    return max(1, round(units * width))


def head(features: int, classes: int) -> dict[str, nn.Module]:
    """Return global average pooling and one linear layer, by name, for the end of a Sequential.

    Example:
        >>> list(head(512, 10))
        ['pool', 'flatten', 'fc']
    """
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(features, classes),
    }


def he_initialized(model: nn.Module) -> nn.Module:
    """Draw convolution weights from a normal distribution of variance 2 / fan-in; zero their biases.

    He et al. (2015), arXiv:1502.01852, equation 10. The fan-in form is right for depthwise convolutions
    too. Batch norms start at scale 1 and shift 0, linear layers as PyTorch makes them.

    Example:
        >>> he_initialized(nn.Sequential(nn.Conv2d(1, 4, 3)))[0].bias.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
