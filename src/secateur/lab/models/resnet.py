"""Residual networks in their CIFAR forms: a 3x3 stem of stride 1 and no max-pooling.

He et al. (2016), "Deep residual learning for image recognition", arXiv:1512.03385: the family of
6n + 2 layers of section 4.2 (20, 32, 56), and the ImageNet family (18, 34, 50) with its stem replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from secateur.lab.models.layers import Shape, he_initialized, head, scaled

__all__ = ["imagenet_resnet", "small_resnet"]


class Residual(nn.Module):
    """A branch and a shortcut, added, then ReLU."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return ReLU(branch(x) + shortcut(x))."""
        added: Tensor = self.relu(self.branch(x_BCHW) + self.shortcut(x_BCHW))
        return added


class PaddedShortcut(nn.Module):
    """Option A of the paper: every ``stride``-th pixel, and ``more`` channels of zeros; no parameters.

    The zeros come after the channels, so channel i stays channel i.
    """

    def __init__(self, stride: int, more: int) -> None:
        super().__init__()
        self.stride = stride
        self.more = more

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C + more, H / stride, W / stride), sides rounded up."""
        return functional.pad(x_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))

    def extra_repr(self) -> str:
        """Show the settings when the model is printed."""
        return f"stride={self.stride}, more={self.more}"


def _basic(inputs: int, width: int, stride: int) -> nn.Module:
    """Two 3x3 convolutions, the first with the stride."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(width),
        )
    )


def _bottleneck(inputs: int, width: int, stride: int) -> nn.Module:
    """1x1 down to ``width``, 3x3 with the stride, 1x1 up to four times ``width``."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, width, 1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            bn2=nn.BatchNorm2d(width),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(width, 4 * width, 1, bias=False),
            bn3=nn.BatchNorm2d(4 * width),
        )
    )


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 1, stride, bias=False),
            bn=nn.BatchNorm2d(outputs),
        )
    )


def _padding(inputs: int, outputs: int, stride: int) -> nn.Module:
    return PaddedShortcut(stride, outputs - inputs)


def _resnet(
    channels: int,
    classes: int,
    blocks: Sequence[int],
    width: int,
    kind: tuple[Callable[[int, int, int], nn.Module], int],
    shortcut: Callable[[int, int, int], nn.Module],
) -> nn.Module:
    """Return stages of blocks; each stage after the first halves the image and doubles the width.

    ``kind`` is what makes the branch of a block, and its output channels as a multiple of its width.
    """
    branch, expansion = kind
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(width), relu1=nn.ReLU()
    )
    inputs = width
    for stage, count in enumerate(blocks):
        outputs = expansion * (width << stage)
        made = []
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            same = stride == 1 and inputs == outputs
            beside = nn.Identity() if same else shortcut(inputs, outputs, stride)
            made.append(Residual(branch(inputs, width << stage, stride), beside))
            inputs = outputs
        layers[f"layer{stage + 1}"] = nn.Sequential(*made)
    layers.update(head(inputs, classes))
    return he_initialized(nn.Sequential(layers))


def small_resnet(shape: Shape, classes: int, depth: int, width: float = 1.0) -> nn.Module:
    """Return the CIFAR ResNet of ``depth`` 20, 32, 44, 56, ...: three stages, parameter-free shortcuts.

    Example:
        >>> sum(p.numel() for p in small_resnet((3, 32, 32), 10, 20).parameters())
        269722
    """
    blocks = (depth - 2) // 6
    return _resnet(shape[0], classes, (blocks,) * 3, scaled(16, width), (_basic, 1), _padding)


def imagenet_resnet(
    shape: Shape, classes: int, blocks: Sequence[int], bottleneck: bool = False, width: float = 1.0
) -> nn.Module:
    """Return a ResNet of the ImageNet family with a CIFAR stem: four stages, projected shortcuts.

    Example:
        >>> sum(p.numel() for p in imagenet_resnet((3, 32, 32), 10, (2, 2, 2, 2)).parameters())
        11173962
    """
    kind = (_bottleneck, 4) if bottleneck else (_basic, 1)
    return _resnet(shape[0], classes, blocks, scaled(64, width), kind, _projection)
