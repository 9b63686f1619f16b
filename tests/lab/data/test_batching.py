import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.lab.data import LabError, Split, batch_count, batches


def numbered(count, shape=(1, 2, 2)):
    """Images filled with their own number, which is their label too."""
    numbers = torch.arange(count)
    return Split(numbers.float()[:, None, None, None].expand(count, *shape).clone(), numbers)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 50), st.booleans())
def test_every_image_comes_once_with_its_label(count, size, shuffled):
    found = list(batches(numbered(count), size, generator() if shuffled else None))
    assert len(found) == batch_count(numbered(count), size)
    assert all(len(labels) == size for _, labels in found[:-1])
    assert sorted(label for _, labels in found for label in labels.tolist()) == list(range(count))
    for images, labels in found:
        assert torch.equal(images[:, 0, 0, 0], labels.float())


def test_order_is_that_of_the_split_without_a_generator_and_drawn_with_one():
    def order(source):
        return torch.cat([labels for _, labels in batches(numbered(50), 8, source)]).tolist()

    assert order(None) == list(range(50))
    assert order(generator(1)) == order(generator(1)) != list(range(50))
    assert order(generator(1)) != order(generator(2))
    source = generator(1)
    assert order(source) != order(source)  # the next epoch is another order


def test_bad_arguments_are_refused_before_the_first_batch():
    with pytest.raises(LabError, match="at least 1"):
        batches(numbered(4), 0)
    with pytest.raises(LabError, match="pass a generator"):
        batches(numbered(4), 2, augment=True)


def test_augmented_images_are_the_81_shifts_and_their_mirrors():
    """An image with no symmetry: each result must be one slow-made shift, and all 162 must turn up."""
    side = 6
    image = torch.arange(1.0, 2 * side * side + 1).reshape(2, side, side)
    padded = torch.zeros(2, side + 8, side + 8)
    padded[:, 4:-4, 4:-4] = image
    expected = set()
    for down in range(9):
        for right in range(9):
            window = padded[:, down : down + side, right : right + side]
            expected |= {tuple(window.flatten().tolist()), tuple(window.flip(2).flatten().tolist())}
    split = Split(image.expand(4000, 2, side, side).clone(), torch.zeros(4000, dtype=torch.int64))
    found = torch.cat([images for images, _ in batches(split, 512, generator(), augment=True)])
    assert {tuple(each.flatten().tolist()) for each in found} == expected
    assert torch.equal(split.images[0], image)  # the split itself is untouched


def test_augmentation_repeats_with_the_generator_and_keeps_labels():
    split = Split(torch.rand(40, 3, 8, 8), torch.arange(40))
    first, again = (list(batches(split, 16, generator(3), augment=True)) for _ in range(2))
    plain = list(batches(split, 16, generator(3)))
    for (images, labels), (same_images, same_labels), (_, plain_labels) in zip(first, again, plain, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
        assert torch.equal(labels, plain_labels)
    assert not torch.equal(first[0][0], plain[0][0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_split_on_the_gpu_with_a_generator_on_the_cpu():
    split = Split(torch.rand(40, 3, 8, 8), torch.arange(40))
    moved = Split(split.images.cuda(), split.labels.cuda())
    there = list(batches(moved, 16, generator(3), augment=True))
    here = list(batches(split, 16, generator(3), augment=True))
    assert all(torch.equal(x.cpu(), y) for (x, _), (y, _) in zip(there, here, strict=True))
