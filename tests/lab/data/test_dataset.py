import numpy as np
import pytest
import torch

from secateur.lab.data import Dataset, LabError, Split
from secateur.lab.data.dataset import channel_statistics, enlarged, enlarged_dataset


def split(count=4, shape=(1, 8, 8), labels=None):
    return Split(torch.rand(count, *shape), torch.arange(count) % 2 if labels is None else labels)


def toy(**changes):
    parts = {"train": split(), "validation": split(), "test": split(), **changes}
    return Dataset("toy", **parts, classes=2)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.rand(4, 8, 8), torch.zeros(4, dtype=torch.int64), "unsqueeze"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), "float32"),
        (torch.rand(4, 1, 8, 8), torch.zeros(3, dtype=torch.int64), "one for each image"),
        (torch.rand(4, 1, 8, 8), torch.zeros(4), "int64"),
        (torch.rand(4, 1, 8, 8), torch.zeros(4, 1, dtype=torch.int64), "one for each image"),
    ],
)
def test_a_split_refuses_other_shapes_and_types(images, labels, said):
    with pytest.raises(LabError, match=said):
        Split(images, labels)


def test_a_dataset_tells_its_shape():
    parts = {part: split(shape=(3, 6, 5)) for part in ("train", "validation", "test")}
    assert toy(**parts).shape == (3, 6, 5)


def test_a_dataset_refuses_splits_that_do_not_belong_together():
    with pytest.raises(LabError, match="test are \\(3, 8, 8\\)"):
        toy(test=split(shape=(3, 8, 8)))
    with pytest.raises(LabError, match="validation run from 0 to 2"):
        toy(validation=split(labels=torch.tensor([0, 1, 2, 0])))
    with pytest.raises(LabError, match="from -1"):
        toy(train=split(labels=torch.tensor([0, 1, -1, 0])))
    with pytest.raises(LabError, match="test split is empty"):
        toy(test=split(0))
    assert len(toy(validation=split(0)).validation) == 0


def test_statistics_agree_with_numpy_in_float64():
    images = torch.randint(0, 256, (2500, 3, 5, 4), generator=torch.Generator().manual_seed(0)).float()
    mean, deviation = channel_statistics(images)
    exact = images.double().numpy()
    assert mean.dtype == deviation.dtype == torch.float32
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(deviation, exact.std((0, 2, 3)), rtol=1e-6)


def test_a_constant_channel_does_not_divide_by_zero():
    assert channel_statistics(torch.full((10, 1, 4, 4), 7.0))[1].tolist() == [1.0]


def test_enlarging_agrees_with_pillow():
    image_module = pytest.importorskip("PIL.Image")
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other = image_module.fromarray(image[0, 0].numpy()).resize((28, 28), image_module.Resampling.BILINEAR)
    np.testing.assert_allclose(enlarged(image, 28)[0, 0], np.asarray(other), atol=1e-5)


def test_enlarging_happens_once_and_says_so():
    small = toy(validation=split(0))
    large = enlarged_dataset(small, 28)
    assert large.shape == (1, 28, 28)
    assert large.notes == ("toy: enlarged from 8x8 to 28x28",)
    assert large.validation.images.shape == (0, 1, 28, 28)
    assert enlarged_dataset(large, 28) is large
    assert enlarged_dataset(small, 8) is small


def test_only_the_side_that_is_short_grows():
    assert enlarged(torch.rand(2, 1, 8, 40), 28).shape == (2, 1, 28, 40)
