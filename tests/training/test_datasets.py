"""Data sets and their pipelines: the idx format against bytes written here, preprocessing against Pillow's."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.errors import InputError
from mpncov_zoo.preprocessing import normalize, preprocess
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.datasets import (
    FASHION_MNIST_LABELS,
    Images,
    fashion_mnist,
    read_dataset,
    read_idx,
    split_holdout,
)
from mpncov_zoo.training.datasets.pipelines import evaluation_batches, training_batches
from mpncov_zoo.training.recipes import Augmentation
from tests.fashion import idx, write_fashion, write_idx
from tests.photos import photo

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
NONE = Augmentation()


def specification(*, size: int = 28, channels: int = 1, crop_fraction: float = 1.0) -> InputSpecification:
    return InputSpecification(
        size=(size, size),
        channel_order="L" if channels == 1 else "RGB",
        resize="short_side",
        crop_fraction=crop_fraction,
        interpolation="bilinear",
        antialias=True,
        mean=(0.3, 0.4, 0.5)[:channels],
        std=(0.35, 0.3, 0.25)[:channels],
    )


def numbered(count: int, size: int = 4) -> Images:
    """Images whose every pixel is the image's number, which is its label too."""
    labels = np.arange(count, dtype=np.int32)
    pixels = np.broadcast_to(labels[:, None, None, None], (count, size, size, 1)).astype(np.uint8)
    return Images(pixels, labels, tuple(map(str, labels)))


# --- files ------------------------------------------------------------------------------------------------------------


def test_both_splits_are_read_as_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 5), ("t10k", 3)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8))
    expected = gzip.decompress((tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    test = read_dataset("fashion_mnist", tmp_path, "test")
    assert test.pixels.shape == (3, 28, 28, 1) and test.pixels.tobytes() == expected
    assert test.labels.tolist() == [0, 1, 2] and test.labels.dtype == np.int32
    assert test.class_names == FASHION_MNIST_LABELS
    assert len(fashion_mnist(tmp_path, "train")) == 5


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    return write_fashion(tmp_path, train=20, test=10)


def test_a_missing_file_says_where_to_get_it(fashion: Path) -> None:
    (fashion / TRAIN_LABELS).unlink()
    with pytest.raises(InputError, match=f"{TRAIN_LABELS} does not exist.*dataset-fashion-mnist.*keras"):
        fashion_mnist(fashion, "train")


def corrupt(content: bytes) -> dict[str, tuple[bytes, str]]:
    """What may have happened to a gzipped idx file, and what is said of it."""
    plain = gzip.decompress(content)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    return {
        "truncated": (content[: len(content) // 2], "not a readable gzip file"),
        "flipped": (bytes(flipped), "not a readable gzip file"),
        "empty": (b"", "not an idx file"),
        "not gzip": (plain, "not a readable gzip file"),
        "not idx": (gzip.compress(b"<html>404</html>"), "not an idx file of bytes in 3 dimensions"),
        "header only": (gzip.compress(plain[:7]), "not an idx file"),
        "short": (gzip.compress(plain[:-1]), r"holds 15679 bytes, its header says \(20, 28, 28\)"),
        "long": (gzip.compress(plain + b"x"), "holds 15681 bytes"),
    }


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "empty", "not gzip", "not idx", "header only", "short", "long"]
)
def test_damaged_files_are_refused(fashion: Path, damage: str) -> None:
    path = fashion / TRAIN_IMAGES
    content, message = corrupt(path.read_bytes())[damage]
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        fashion_mnist(fashion, "train")
    assert str(path) in str(caught.value)


def test_images_and_labels_must_belong_together(fashion: Path) -> None:
    write_idx(fashion / TRAIN_LABELS, np.zeros(19, np.uint8))
    with pytest.raises(InputError, match="20 images but 19 labels"):
        fashion_mnist(fashion, "train")
    write_idx(fashion / TRAIN_LABELS, np.full(20, 10, np.uint8))
    with pytest.raises(InputError, match="a label of 10; Fashion-MNIST has 0 to 9"):
        fashion_mnist(fashion, "train")


def test_labels_in_place_of_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx(np.arange(4, dtype=np.uint8))))
    assert read_idx(path, dimensions=1).tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="3 dimensions"):
        read_idx(path, dimensions=3)


def test_unknown_names_are_refused(fashion: Path) -> None:
    with pytest.raises(InputError, match=r"splits train, test\. Received: 'validation'"):
        read_dataset("fashion_mnist", fashion, "validation")
    with pytest.raises(InputError, match=r"data set 'imagenet_21k'; allowed are folders, .*fashion_mnist"):
        read_dataset("imagenet_21k", fashion, "test")


def test_unzipped_files_will_do(fashion: Path, tmp_path: Path) -> None:
    (tmp_path / "unzipped").mkdir()
    for path in fashion.glob("*.gz"):
        (tmp_path / "unzipped" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    zipped, unzipped = fashion_mnist(fashion, "train"), fashion_mnist(tmp_path / "unzipped", "train")
    assert zipped.pixels.tobytes() == unzipped.pixels.tobytes() and zipped.labels.tolist() == unzipped.labels.tolist()
    (tmp_path / "unzipped" / TRAIN_LABELS.removesuffix(".gz")).write_bytes(b"labels")
    with pytest.raises(InputError, match="labels-idx1-ubyte is not an idx file"):
        fashion_mnist(tmp_path / "unzipped", "train")


# --- holdout ----------------------------------------------------------------------------------------------------------


def test_holdout_takes_that_many_others() -> None:
    training, holdout = split_holdout(numbered(50), 8, seed=3)
    assert (len(training), len(holdout)) == (42, 8)
    assert sorted([*training.labels, *holdout.labels]) == list(range(50))
    assert holdout.pixels[:, 0, 0, 0].tolist() == holdout.labels.tolist()
    again, other = split_holdout(numbered(50), 8, seed=3)[1], split_holdout(numbered(50), 8, seed=4)[1]
    assert again.labels.tolist() == holdout.labels.tolist() != other.labels.tolist()


def test_no_holdout_leaves_all() -> None:
    training, holdout = split_holdout(numbered(5), 0, seed=3)
    assert training.labels.tolist() == [0, 1, 2, 3, 4] and len(holdout) == 0


def test_a_holdout_of_everything_is_refused() -> None:
    with pytest.raises(InputError, match="holdout=5 leaves nothing"):
        split_holdout(numbered(5), 5, seed=0)


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "channels", "spec"),
    [
        (28, 28, 1, specification()),
        (28, 28, 1, specification(channels=3)),
        (28, 28, 1, specification(size=32)),
        (40, 33, 3, specification(size=24, channels=3, crop_fraction=0.875)),
        (40, 33, 3, specification(size=24)),
    ],
)
def test_evaluation_sees_what_preprocess_gives(
    height: int, width: int, channels: int, spec: InputSpecification
) -> None:
    pixels = np.stack([np.roll(photo(height, width, channels), shift, axis=0) for shift in range(5)])
    images = Images(pixels, np.arange(5, dtype=np.int32), tuple("abcde"))
    batches = [(x.numpy(), y.numpy()) for x, y in evaluation_batches(images, spec, batch_size=2)]
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    assert np.concatenate([labels for _, labels in batches]).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), preprocess(list(pixels), spec))


# --- training ---------------------------------------------------------------------------------------------------------


def epochs(count: int, *, first: int = 0, seed: int = 1, augmentation: Augmentation = NONE) -> list[list[np.ndarray]]:
    """The batches of some epochs of 23 numbered images in fives: [[images, labels] of the epoch, ...]."""
    batches = training_batches(
        numbered(23), specification(size=4), augmentation, batch_size=5, seed=seed, epoch=first
    ).take(4 * count)
    pairs = [(x.numpy(), y.numpy()) for x, y in batches]
    return [[np.concatenate(part) for part in zip(*pairs[4 * i : 4 * i + 4], strict=True)] for i in range(count)]


def test_an_epoch_has_each_image_at_most_once_with_its_label() -> None:
    for images, labels in epochs(3):
        assert len(set(labels.tolist())) == len(labels) == 20
        expected = normalize(labels.astype(np.uint8)[:, None], specification())
        np.testing.assert_array_equal(images[:, 0, 0], expected)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first, second = epochs(2)
    assert first[1].tolist() != second[1].tolist()
    assert epochs(1)[0][1].tolist() == first[1].tolist()
    assert epochs(1, seed=2)[0][1].tolist() != first[1].tolist()


def test_a_later_start_continues_where_an_earlier_one_gets_to() -> None:
    both = Augmentation(pad_crop=1, flip=True)
    for resumed, whole in zip(epochs(2, first=1, augmentation=both), epochs(3, augmentation=both)[1:], strict=True):
        np.testing.assert_array_equal(resumed[0], whole[0])
        np.testing.assert_array_equal(resumed[1], whole[1])


def test_every_batch_is_augmented_afresh() -> None:
    positions = np.arange(1, 26, dtype=np.uint8).reshape(1, 5, 5, 1)  # every pixel tells where it was
    pixels = np.broadcast_to(positions, (40, 5, 5, 1))
    images = Images(pixels, np.arange(40, dtype=np.int32), tuple(map(str, range(40))))
    batches = training_batches(
        images, specification(size=5), Augmentation(pad_crop=2), batch_size=20, seed=0, epoch=0
    ).take(4)
    assert len({x.numpy().tobytes() for x, _ in batches}) == 4
