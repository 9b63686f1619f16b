import itertools
import sys

import pytest
import torch
from torch import nn

from secateur.lab.data import LabError
from secateur.lab.models import build, names, smallest

USUAL = {"mlp:300-100": 28, "lenet-300-100": 28, "lenet-5": 28, "tutorial-convnet": 28}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters"),
    [
        # LeCun et al. 1998; counted by Han et al. 2015 (arXiv:1506.02626, table 1: 267K and 431K)
        ("lenet-300-100", (1, 28, 28), 10, 266_610),
        ("lenet-5", (1, 28, 28), 10, 431_080),
        # TensorFlow model optimization toolkit, tutorial "Pruning in Keras example", model.summary()
        ("tutorial-convnet", (1, 28, 28), 10, 20_410),
        # kuangliu/pytorch-cifar
        ("resnet-18", (3, 32, 32), 10, 11_173_962),
        ("resnet-34", (3, 32, 32), 10, 21_282_122),
        ("resnet-50", (3, 32, 32), 10, 23_520_842),
        ("vgg-16-bn", (3, 32, 32), 10, 14_728_266),
        ("mobilenet-v1", (3, 32, 32), 10, 3_217_226),
        # He et al. 2016 (arXiv:1512.03385, table 6: 0.27M, 0.46M, 0.85M), to the unit in
        # akamaster/pytorch_resnet_cifar10
        ("resnet-20", (3, 32, 32), 10, 269_722),
        ("resnet-32", (3, 32, 32), 10, 464_154),
        ("resnet-56", (3, 32, 32), 10, 853_018),
        # Howard et al. 2017 (arXiv:1704.04861, table 8: 4.2M); to the unit, the trainable
        # parameters of MobileNet in Keras applications
        ("mobilenet-v1", (3, 224, 224), 1000, 4_231_976),
    ],
)
def test_published_counts(name, shape, classes, parameters):
    with torch.device("meta"):
        assert count(build(name, shape, classes)) == parameters


def test_mobilenet_counts_as_its_table_says():
    """Table 1 of the paper, layer by layer: depthwise 9 C, pointwise C D, two values a channel and norm."""
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    total = 27 * 32 + 2 * 32
    for inputs, outputs in itertools.pairwise(widths):
        total += 9 * inputs + 2 * inputs + inputs * outputs + 2 * outputs
    with torch.device("meta"):
        assert count(build("mobilenet-v1", (3, 32, 32), 10)) == total + 1024 * 10 + 10


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("usual", [False, True])
def test_logits_at_the_smallest_and_the_usual_size(name, channels, usual):
    torch.manual_seed(0)
    side = USUAL.get(name, 32) if usual else smallest(name)
    shape = (channels, side, side)
    with torch.no_grad():
        logits = build(name, shape, 7)(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert logits.std() > 1e-3


@pytest.mark.parametrize("name", names())
def test_every_part_of_every_kernel_learns_at_the_smallest_size(name):
    """No tap of a filter lies in padding only: each has a gradient, as has each other parameter."""
    torch.manual_seed(0)
    shape = (3, smallest(name), smallest(name))
    model = build(name, shape, 5)
    nn.functional.cross_entropy(model(torch.randn(4, *shape)), torch.arange(4)).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        taps = parameter.grad.abs().flatten(0, 1).sum(0) if parameter.ndim == 4 else parameter.grad.abs().sum()
        assert (taps > 0).all(), path


@pytest.mark.parametrize("name", names())
def test_images_that_are_too_small_are_refused(name):
    side = smallest(name)
    if side > 1:
        with pytest.raises(LabError, match=f"at least {side} pixels a side, not {side}x{side - 1}"):
            build(name, (3, side, side - 1), 10)


@pytest.mark.parametrize("name", names())
def test_signals_neither_fade_nor_explode_at_the_start(name):
    torch.manual_seed(0)
    side = USUAL.get(name, 32)
    with torch.no_grad():
        logits = build(name, (3, side, side), 10)(torch.randn(8, 3, side, side))
    assert 0.01 < logits.std() < 20


@pytest.mark.parametrize("name", ["mlp:64", "lenet-5", "tutorial-convnet", "resnet-20", "mobilenet-v1"])
def test_models_can_be_exported(name):
    shape = (3, max(smallest(name), 8), max(smallest(name), 8))
    model, images = build(name, shape, 10).eval(), torch.randn(2, *shape)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("LeNet_300_100", "lenet-300-100"),
        ("lenet5", "lenet-5"),
        ("resnet18", "resnet-18"),
        ("ResNet-18", "resnet-18"),
        ("VGG16_BN", "vgg-16-bn"),
        ("MobileNetV1", "mobilenet-v1"),
    ],
)
def test_spelling_is_loose(spelled, name):
    with torch.device("meta"):
        assert str(build(spelled, (3, 32, 32), 10)) == str(build(name, (3, 32, 32), 10))
    assert smallest(spelled) == smallest(name)


@pytest.mark.parametrize(("name", "widths"), [("mlp:64", [64]), ("MLP:512-256-128", [512, 256, 128])])
def test_perceptrons_of_any_widths(name, widths):
    model = build(name, (2, 3, 4), 5)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [*widths, 5]
    assert linear[0].in_features == 24
    assert sum(isinstance(layer, nn.ReLU) for layer in model) == len(widths)


@pytest.mark.parametrize("name", ["mlp", "mlp:", "mlp:0", "mlp:64-", "mlp:-3", "mlp:a", "mlp:64,32"])
def test_perceptrons_without_proper_widths_show_the_form(name):
    with pytest.raises(LabError, match="mlp:300-100"):
        build(name, (1, 8, 8), 10)


@pytest.mark.parametrize(("name", "said"), [("resnet-19", "resnet-18"), ("lenet-300", "lenet-300-100")])
def test_unknown_names_are_answered_with_near_ones(name, said):
    for ask in (smallest, lambda name: build(name, (3, 32, 32), 10)):
        with pytest.raises(LabError, match=f"did you mean .*'{said}'"):
            ask(name)


def test_shapes_and_classes_that_make_no_sense_are_refused():
    with pytest.raises(LabError, match="channels, height, width"):
        build("mlp:64", (28, 28), 10)
    with pytest.raises(LabError, match="channels, height, width"):
        build("mlp:64", (0, 28, 28), 10)
    with pytest.raises(LabError, match="classes"):
        build("mlp:64", (1, 28, 28), 0)


class TestUsersOwn:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "users_models.py").write_text(
            "from torch import nn\n"
            "def plain():\n    return nn.Linear(3, 4)\n"
            "def fitted(image, outputs):\n    return nn.Linear(image[0], outputs)\n"
            "def relaxed(shape=(1, 1, 1), classes=2, width=7):\n    return nn.Linear(shape[0], classes)\n"
            "def settings(width=5, depth=6):\n    return nn.Linear(width, depth)\n"
            "class Net(nn.Linear):\n"
            "    def __init__(self, shape, classes):\n        super().__init__(shape[0], classes)\n"
            "def wrong():\n    return 'a model'\n"
            "def needy(a, b, c):\n    return nn.Linear(1, 1)\n"
            "def one(a):\n    return nn.Linear(1, 1)\n"
        )
        yield
        sys.modules.pop("users_models", None)

    @pytest.mark.parametrize(
        ("name", "features"),
        [("plain", (3, 4)), ("fitted", (9, 8)), ("relaxed", (9, 8)), ("settings", (5, 6)), ("Net", (9, 8))],
    )
    def test_shape_and_classes_are_passed_to_those_who_take_them(self, name, features):
        model = build(f"users_models:{name}", (9, 2, 2), 8)
        assert (model.in_features, model.out_features) == features
        assert smallest(f"users_models:{name}") == 1

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("users_models:wrong", r"returned a str, not a torch\.nn\.Module"),
            ("users_models:needy", "needs a, b, c"),
            ("users_models:one", "needs a"),
            ("users_models:plan", "did you mean 'plain'"),
            ("users_nowhere:plain", "no module 'users_nowhere'"),
        ],
    )
    def test_what_is_no_model_is_refused(self, name, said):
        with pytest.raises(LabError, match=said):
            build(name, (9, 2, 2), 8)
