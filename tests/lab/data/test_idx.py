import gzip
import struct

import numpy as np
import pytest

from secateur.lab.data.idx import IDX_FILES, read_idx, read_idx_files
from secateur.vocabulary import CorruptFileError


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.arange(6, dtype=np.uint8)


@pytest.fixture
def paths(tmp_path):
    """The four files of a tiny MNIST, two of them gzipped."""
    found = {use: tmp_path / names[use.startswith("test")] for use, names in IDX_FILES.items()}
    for use, path in found.items():
        content = idx(IMAGES if "images" in use else LABELS)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return found


def test_values_come_back_gzipped_or_not(paths):
    raw = read_idx_files("mnist", paths)
    assert np.array_equal(raw.train_images[:, 0], IMAGES)
    assert np.array_equal(raw.test_images[:, 0], IMAGES)
    assert raw.train_labels.tolist() == raw.test_labels.tolist() == list(range(6))
    assert raw.notes == ("mnist: 6 training and 6 test images, not the published 60,000 and 10,000",)


def test_every_truncation_is_noticed(tmp_path):
    content = idx(LABELS)
    for path, whole in ((tmp_path / "raw", content), (tmp_path / "zipped.gz", gzip.compress(content))):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(CorruptFileError, match=path.name):
                read_idx(path, 1)


def test_any_flipped_byte_of_a_gzip_is_noticed_or_harmless(tmp_path):
    whole = gzip.compress(idx(LABELS), mtime=0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "labels.gz").write_bytes(damaged)
        try:
            assert np.array_equal(read_idx(tmp_path / "labels.gz", 1), LABELS)  # a byte of no meaning
        except CorruptFileError as error:
            assert "labels.gz" in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>not found</html>", "begins with"),
        (idx(IMAGES), "begins with"),
        (bytes([0, 0, 13, 1]) + idx(LABELS)[4:], "begins with"),
        (idx(LABELS) + b"\0", "fetch it again"),
        (idx(LABELS[:0]), "fetch it again"),
        (bytes([0, 0, 8, 1, 255, 255, 255, 255]), "fetch it again"),
        (b"", "fewer than an IDX header"),
    ],
)
def test_what_is_not_a_label_file_is_refused(tmp_path, content, said):
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(CorruptFileError, match=said):
        read_idx(tmp_path / "labels", 1)


@pytest.mark.parametrize(
    ("use", "array", "said"),
    [
        ("test labels", LABELS[:5], "5 labels for the 6 images"),
        ("test labels", LABELS + 5, "label 10"),
        ("test images", IMAGES[:, :14], "14x28"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(paths, use, array, said):
    paths[use].write_bytes(idx(array))
    with pytest.raises(CorruptFileError, match=said):
        read_idx_files("mnist", paths)


@pytest.mark.parametrize(("name", "other"), [("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")])
def test_the_published_files_are_read_and_told_apart(real_data, name, other):
    paths = {use: real_data(name) / names[0] for use, names in IDX_FILES.items()}
    raw = read_idx_files(name, paths)
    assert raw.notes == ()
    assert raw.train_images.shape == (60_000, 1, 28, 28)
    assert np.bincount(raw.test_labels).sum() == 10_000
    with pytest.raises(CorruptFileError, match=f"belongs to {name}, not to {other}"):
        read_idx_files(other, paths)


def test_mnist_has_the_mean_and_deviation_everyone_uses(real_data):
    pixels = read_idx(real_data("mnist") / "train-images-idx3-ubyte.gz", 3)
    assert pixels.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std() / 255 == pytest.approx(0.3081, abs=5e-5)
