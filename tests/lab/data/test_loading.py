import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest
import torch

from secateur.lab.data import LabError, Split, cifar, load, names
from secateur.vocabulary import CorruptFileError, MissingExtraError

pytest.importorskip("sklearn")


def standard(split: Split) -> None:
    images = split.images.double()
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(images.shape[1], dtype=torch.float64), atol=1e-5)
    assert torch.allclose(
        images.std((0, 2, 3), unbiased=False), torch.ones(images.shape[1], dtype=torch.float64), atol=1e-5
    )


def test_digits_hold_every_image_once():
    from sklearn.datasets import load_digits

    digits = load("digits", validation=0.2)
    assert (digits.name, digits.classes, digits.augment, digits.notes) == ("digits", 10, False, ())
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1150, 288, 359)
    images = torch.cat([part.images for part in (digits.train, digits.validation, digits.test)])
    labels = torch.cat([part.labels for part in (digits.train, digits.validation, digits.test)])
    scale = 16 / (images.max() - images.min())  # undo the standardisation
    pixels = ((images - images.min()) * scale).round().byte().flatten(1)
    data, target = load_digits(return_X_y=True)
    found = sorted(zip(map(bytes, pixels.numpy()), labels.tolist(), strict=True))
    assert found == sorted(zip(map(bytes, data.astype(np.uint8)), target.tolist(), strict=True))


def test_the_test_split_of_digits_never_changes():
    labels = [load("digits", seed=seed, validation=share).test.labels for seed, share in ((0, 0.1), (5, 0.5))]
    assert torch.equal(*labels)
    digest = hashlib.md5(labels[0].to(torch.uint8).numpy().tobytes()).hexdigest()
    assert digest == "6738c659185321ab991ee60bd95a2c17"


def test_the_seed_moves_only_the_validation_split():
    first, again, other = (load("digits", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.labels, other.validation.labels)
    for part in (first.train, first.validation, first.test):
        counts = torch.bincount(part.labels, minlength=10) / len(part)
        assert counts.min() > 0.09
        assert counts.max() < 0.11


def test_inputs_are_standardised_by_the_training_split_alone():
    digits = load("digits", validation=0.3)
    standard(digits.train)
    assert digits.train.images.min() == digits.test.images.min() == digits.validation.images.min()  # black
    assert abs(digits.test.images.mean()) > 1e-5


def test_enlarging_is_reported_and_standardised():
    digits = load("digits", smallest=28)
    assert digits.shape == (1, 28, 28)
    assert digits.notes == ("digits: enlarged from 8x8 to 28x28",)
    standard(digits.train)
    assert load("digits", smallest=8).notes == ()


def test_no_validation_split_if_none_is_wanted():
    digits = load("digits", validation=0.0)
    assert (len(digits.train), len(digits.validation)) == (1438, 0)


@pytest.mark.parametrize("option", [{"validation": 1.0}, {"validation": -0.1}, {"smallest": -1}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(LabError, match=next(iter(option))):
        load("digits", **option)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(LabError, match="did you mean 'fashion-mnist'"):
        load("fashion")
    with pytest.raises(LabError, match=r"package\.module:callable"):
        load("imagenet")
    assert load("Digits").name == "digits"


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match="secateur\\[lab\\]"):
        load("digits")


def tiny_mnist(folder, count=40):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, *images.shape) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())


@pytest.mark.parametrize("below", [True, False])
def test_mnist_from_a_folder_of_the_user(tmp_path, below):
    tiny_mnist(tmp_path / "mnist" if below else tmp_path)
    mnist = load("mnist", tmp_path)
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (36, 4, 40)
    assert mnist.shape == (1, 28, 28)
    assert mnist.notes == ("mnist: 40 training and 40 test images, not the published 60,000 and 10,000",)
    standard(mnist.train)


def test_a_truncated_file_of_the_user_is_named(tmp_path):
    tiny_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match="train-images-idx3-ubyte"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("layout", ["bare", "folder", "archive"])
def test_cifar_from_each_published_form(tmp_path, monkeypatch, layout):
    monkeypatch.setattr(cifar, "BATCH", 10)
    records = np.random.default_rng(0).integers(0, 256, (6, 10, 3073), dtype=np.uint8)
    records[:, :, 0] = np.arange(10)
    contents = {file: batch.tobytes() for file, batch in zip(cifar.BINARY_FILES, records, strict=True)}
    if layout == "archive":
        with tarfile.open(tmp_path / cifar.ARCHIVE, "w:gz") as archive:
            for file, content in contents.items():
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        folder = tmp_path / "cifar-10-batches-bin" if layout == "folder" else tmp_path
        folder.mkdir(exist_ok=True)
        for file, content in contents.items():
            (folder / file).write_bytes(content)
    found = load("cifar_10", tmp_path)
    assert (found.shape, found.augment) == ((3, 32, 32), True)
    assert (len(found.train), len(found.validation), len(found.test)) == (45, 5, 10)
    assert found.test.labels.tolist() == list(range(10))
    standard(found.train)


def test_the_published_mnist(real_data):
    mnist = load("mnist", real_data("mnist").parent, seed=3)
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (54_000, 6_000, 10_000)
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert mnist.notes == ()
    standard(mnist.train)


def test_the_real_cifar(real_data):
    folder = real_data("cifar-10")
    found = load("cifar-10", folder.parent)
    assert (len(found.train), len(found.validation)) == (45_000, 5_000)
    assert found.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    if (folder / "test_inexact.json").is_file():
        assert found.notes == ("9,980 of 10,000 test images: 20 that are not exact were dropped",)
        assert len(found.test) == 9_980
        counts = torch.bincount(found.test.labels).tolist()
        assert counts == [1000, 1000, 1000, 1000, 1000, 1000, 1000, 999, 981, 1000]


@pytest.mark.usefixtures("clean_environment")
class TestUsersOwn:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "users_data.py").write_text(
            "import torch\n"
            "from secateur.lab.data import Dataset, Split\n"
            "def make():\n"
            "    split = Split(torch.rand(6, 2, 10, 10), torch.tensor([0, 1, 2, 0, 1, 2]))\n"
            "    return Dataset('own', split, split, split, classes=3, notes=('made up',))\n"
            "def wrong():\n    return [1, 2]\n"
            "def needy(folder):\n    return make()\n"
        )

    def test_it_is_taken_as_it_is(self):
        own = load("users_data:make")
        assert (own.name, own.classes, own.shape, own.notes) == ("own", 3, (2, 10, 10), ("made up",))
        assert own.train.images.min() >= 0  # not standardised again

    def test_it_is_enlarged_if_need_be(self):
        own = load("users_data:make", smallest=12)
        assert (own.shape, own.notes) == ((2, 12, 12), ("made up", "own: enlarged from 10x10 to 12x12"))

    def test_wrong_returns_and_parameters_are_refused(self):
        with pytest.raises(LabError, match=r"returned a list, not a secateur\.lab\.data\.Dataset"):
            load("users_data:wrong")
        with pytest.raises(LabError, match="needs folder"):
            load("users_data:needy")


def test_names_are_those_that_load():
    assert names() == ("digits", "mnist", "fashion-mnist", "cifar-10")
