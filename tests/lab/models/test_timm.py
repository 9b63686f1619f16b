"""Models of timm by name; most of this needs timm, and is skipped where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.lab.data import LabError
from secateur.lab.models import build, smallest
from secateur.vocabulary import MissingExtraError


@pytest.fixture
def timm() -> None:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    except RuntimeError:  # its compiled operators are for another build of torch; timm needs no more than their names
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported: {error}")


def weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.usefixtures("timm")
class TestWithTimm:
    @pytest.mark.parametrize("name", ["timm:resnet18", "TIMM:ResNet-18"])
    def test_shape_and_classes_are_those_of_the_data(self, name: str) -> None:
        torch.manual_seed(0)
        model = build(name, (1, 28, 28), 7)
        # torchvision's ResNet-18 has 11,689,512, with 1000 classes and three channels
        assert weights(model) == 11_689_512 - 993 * 513 - 2 * 64 * 49
        assert model.training
        assert model(torch.randn(2, 1, 28, 28)).shape == (2, 7)
        assert smallest(name) == 1

    def test_models_built_for_one_size_are_built_for_that_of_the_data(self) -> None:
        assert build("timm:test_vit", (3, 32, 48), 5)(torch.randn(2, 3, 32, 48)).shape == (2, 5)

    def test_the_same_seed_draws_the_same_weights(self) -> None:
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(build("timm:test_resnet", (3, 8, 8), 5).state_dict())
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_dropout_is_passed_on(self) -> None:
        model = build("timm:test_efficientnet", (3, 32, 32), 5, dropout=0.25)
        assert model.drop_rate == 0.25

    @pytest.mark.parametrize(
        ("name", "shape", "said"),
        [
            ("timm:resnet19", (3, 32, 32), "timm has no model 'resnet19': did you mean 'resnet18'"),
            ("timm:resnet18.a1_in1k", (3, 32, 32), "did you mean 'resnet18'.*drawn anew"),
            ("timm:", (3, 32, 32), "timm has no model ''"),
            ("timm:vgg11", (1, 28, 28), "cannot take images of 1x28x28.*larger"),
            ("timm:xcit_nano_12_p16_224", (1, 28, 28), "cannot be built for images of 1x28x28"),
            ("timm:vit_tiny_patch16_224", (1, 28, 28), "patches of 16x16 pixels.*do not divide"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, name: str, shape: tuple[int, int, int], said: str) -> None:
        with pytest.raises(LabError, match=said):
            build(name, shape, 10)

    def test_unknown_names_are_refused_before_data_are_read(self) -> None:
        with pytest.raises(LabError, match="did you mean 'resnet18'"):
            smallest("timm:resnet19")

    def test_models_without_logits_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("timm.create_model", lambda *_, **__: nn.Identity())
        with pytest.raises(LabError, match="no classifier"):
            build("timm:resnet18", (3, 8, 8), 5)


def test_the_width_of_timms_models_cannot_be_scaled() -> None:
    with pytest.raises(LabError, match=r"no width to scale.*resnet-18"):
        build("timm:resnet18", (3, 32, 32), 10, width=0.5)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for ask in (smallest, lambda name: build(name, (3, 32, 32), 10)):
        with pytest.raises(MissingExtraError, match=r"secateur\[vision\]"):
            ask("timm:resnet18")


def test_a_timm_that_cannot_be_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(MissingExtraError, match=r"torchvision::nms does not exist.*belong together"):
        smallest("timm:resnet18")
