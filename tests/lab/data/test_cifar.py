import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

from secateur.lab.data import cifar
from secateur.lab.data.cifar import BATCHES, BINARY_FILES, read_archive, read_binary, read_mosaics
from secateur.vocabulary import CorruptFileError

SIDE = 2
COUNT = SIDE * SIDE

# md5 of data_batch_1.bin as published
BATCH_1 = "5dd7e06a14cb22eb9f671a540d1b7c25"


@pytest.fixture(autouse=True)
def small_batches(request, monkeypatch):
    """Batches of four images instead of 10,000, except for tests of the real files."""
    if "real_data" not in request.fixturenames:
        monkeypatch.setattr(cifar, "BATCH", COUNT)


@pytest.fixture
def records():
    """Six batches of records: a label byte and 3,072 pixel bytes."""
    made = np.random.default_rng(0).integers(0, 256, (6, COUNT, 3073), dtype=np.uint8)
    made[:, :, 0] %= 10
    return made


@pytest.fixture
def binary(tmp_path, records):
    for file, batch in zip(BINARY_FILES, records, strict=True):
        (tmp_path / file).write_bytes(batch.tobytes())
    return tmp_path


@pytest.fixture
def mosaics(tmp_path, records):
    """The same images as lossless WebP mosaics, written image by image."""
    image_module = pytest.importorskip("PIL.Image")
    for name, batch in zip(BATCHES, records, strict=True):
        sheet = image_module.new("RGB", (32 * SIDE, 32 * SIDE))
        for k, record in enumerate(batch):
            picture = image_module.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0).copy())
            sheet.paste(picture, (k % SIDE * 32, k // SIDE * 32))
        sheet.save(tmp_path / f"{name}.webp", lossless=True)
    (tmp_path / "train_labels.bin").write_bytes(records[:5, :, 0].tobytes())
    (tmp_path / "test_labels.bin").write_bytes(records[5, :, 0].tobytes())
    return tmp_path


def tarred(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def check(raw, records):
    assert np.array_equal(raw.train_images.reshape(5 * COUNT, -1), records[:5, :, 1:].reshape(5 * COUNT, -1))
    assert np.array_equal(raw.train_labels, records[:5, :, 0].ravel())
    assert np.array_equal(raw.test_images.reshape(COUNT, -1), records[5, :, 1:])
    assert np.array_equal(raw.test_labels, records[5, :, 0])
    assert raw.train_images.shape[1:] == (3, 32, 32)
    assert raw.notes == ()


def test_binary_batches_come_back_in_order(binary, records):
    check(read_binary(binary), records)


def test_the_archive_is_read_without_unpacking(tmp_path, records):
    folder = tmp_path / "only"
    folder.mkdir()
    contents = {file: batch.tobytes() for file, batch in zip(BINARY_FILES, records, strict=True)}
    tarred(folder / "c.tar.gz", {"readme.html": b"hello", **contents})
    check(read_archive(folder / "c.tar.gz"), records)
    assert [path.name for path in folder.iterdir()] == ["c.tar.gz"]


def test_mosaics_are_the_same_images(mosaics, records):
    check(read_mosaics(mosaics), records)


def test_images_that_are_not_exact_are_dropped_and_reported(mosaics, records):
    (mosaics / "test_inexact.json").write_text(json.dumps({"inexact_test_indices": [1, 3]}))
    raw = read_mosaics(mosaics)
    assert np.array_equal(raw.test_images.reshape(2, -1), records[5, [0, 2], 1:])
    assert raw.test_labels.tolist() == records[5, [0, 2], 0].tolist()
    assert raw.notes == ("2 of 4 test images: 2 that are not exact were dropped",)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-3073], lambda data: data + b"\0"])
def test_a_batch_of_another_size_is_refused(binary, change):
    path = binary / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorruptFileError, match=r"data_batch_3\.bin holds"):
        read_binary(binary)


def test_a_label_over_nine_is_refused(binary, records):
    records[5, 2, 0] = 11
    (binary / "test_batch.bin").write_bytes(records[5].tobytes())
    with pytest.raises(CorruptFileError, match=r"test_batch\.bin holds the label 11"):
        read_binary(binary)


def test_a_damaged_archive_is_refused(tmp_path, records):
    path = tmp_path / "c.tar.gz"
    contents = {file: batch.tobytes() for file, batch in zip(BINARY_FILES, records, strict=True)}
    tarred(path, contents)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFileError, match=r"c\.tar\.gz"):
            read_archive(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(CorruptFileError, match=r"c\.tar\.gz"):
        read_archive(path)
    tarred(path, {file: content for file, content in contents.items() if file != "data_batch_2.bin"})
    with pytest.raises(CorruptFileError, match=r"holds no data_batch_2\.bin"):
        read_archive(path)


def test_damaged_mosaics_are_refused(mosaics):
    path = mosaics / "data_batch_4.webp"
    whole = path.read_bytes()
    for content in (b"", b"GIF89a", whole[:10], whole[:40], whole[: len(whole) // 2], whole[:-8]):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"data_batch_4\.webp"):
            read_mosaics(mosaics)


def test_mosaics_of_another_size_or_with_loss_are_refused(mosaics):
    image_module = pytest.importorskip("PIL.Image")
    path = mosaics / "data_batch_4.webp"
    image_module.new("RGB", (32, 32)).save(path, lossless=True)
    with pytest.raises(CorruptFileError, match=r"is 32x32 pixels, not 64x64"):
        read_mosaics(mosaics)
    image_module.new("RGB", (64, 64)).save(path, lossless=False)
    with pytest.raises(CorruptFileError, match="lossy"):
        read_mosaics(mosaics)


def test_label_files_beside_mosaics_are_checked(mosaics):
    (mosaics / "test_labels.bin").write_bytes(bytes([1, 2, 3]))
    with pytest.raises(CorruptFileError, match=r"test_labels\.bin holds 3 labels, not 4"):
        read_mosaics(mosaics)
    (mosaics / "test_labels.bin").write_bytes(bytes([1, 2, 3, 10]))
    with pytest.raises(CorruptFileError, match="label 10"):
        read_mosaics(mosaics)


@pytest.mark.parametrize(
    "content", ["[1]", "{}", '{"inexact_test_indices": [4]}', '{"inexact_test_indices": [true]}', "{"]
)
def test_a_senseless_list_of_inexact_images_is_refused(mosaics, content):
    (mosaics / "test_inexact.json").write_text(content)
    with pytest.raises(CorruptFileError, match=r"test_inexact\.json"):
        read_mosaics(mosaics)


def test_a_real_mosaic_holds_the_published_batch(real_data):
    """Written back as a binary batch, the first mosaic has the published checksum."""
    folder = real_data("cifar-10")
    if not (folder / "data_batch_1.webp").is_file():
        pytest.skip(f"{folder} holds no mosaics")
    images = cifar._mosaic(folder / "data_batch_1.webp")
    labels = cifar._labels(folder / "train_labels.bin", 50_000)[:10_000]
    records = np.concatenate([labels[:, None], images.reshape(10_000, 3072)], axis=1)
    assert hashlib.md5(records.tobytes()).hexdigest() == BATCH_1
