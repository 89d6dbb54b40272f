"""Pipelines: pixels against `preprocess` (Pillow), order against its promises, published weights' batches on record."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.images import IMAGE_SUFFIXES
from mpncov_zoo.preprocessing import preprocess
from mpncov_zoo.training.datasets import FASHION_MNIST_LABELS, Images, Split, read_dataset, split_holdout
from mpncov_zoo.training.datasets.pipelines import WHOLE, Share, evaluation_batches, training_batches, view_batches
from mpncov_zoo.training.datasets.splits import Files
from mpncov_zoo.training.packing import pack
from mpncov_zoo.training.recipes import Augmentation, RandomResizedCrop, load_recipe
from tests.image_folders import specification, write_folders
from tests.photos import encode, photo

FASHION = Path("/usr/share/datasets/fashion-mnist")
ALL = Augmentation(random_resized_crop=RandomResizedCrop(), flip=True)
NONE = Augmentation()
Epoch = tuple[np.ndarray, np.ndarray]  # images, labels


# --- the batches that the published Fashion-MNIST weights were made of ------------------------------------------------


def digest(batches: Iterable[Any], count: int) -> str:
    total = hashlib.sha256()
    for images, labels in islice(batches, count):
        assert (images.dtype, labels.dtype) == (tf.float32, tf.int32)
        total.update(images.numpy().tobytes() + labels.numpy().tobytes())
    return total.hexdigest()


def recorded(images: Split, *, batch_size: int, holdout: int) -> list[str]:
    """Five batches of the recipe's first epoch, 25 from its eighth on, three of evaluation."""
    recipe = load_recipe("fashion_mnist")
    training, held_out = split_holdout(images, holdout, recipe.seed)
    evaluated = held_out if holdout else training.take(np.arange(600))
    settings = (training, recipe.input, recipe.augmentation)
    return [
        digest(training_batches(*settings, batch_size=batch_size, seed=recipe.seed, epoch=0), 5),
        digest(training_batches(*settings, batch_size=batch_size, seed=recipe.seed, epoch=7), 25),
        digest(evaluation_batches(evaluated, recipe.input), 3),
    ]


def test_batches_in_memory_are_the_recorded_ones() -> None:
    """Recorded with the code that trained the published weights (commit 24e6beb)."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (300, 28, 28, 1), np.uint8)
    images = Images(pixels, (np.arange(300) % 10).astype(np.int32), FASHION_MNIST_LABELS)
    assert recorded(images, batch_size=32, holdout=40) == [
        "a4977853e9a6f5f09d3e513edad8103ce40efb75b1a08dea4d569116ded4b500",
        "5a3b7b7af703a41b6480011b0d539e73b5d956eb429a91c3bc73c5ca4e82dfdc",
        "ae66f4d6c1aadba53f29343186516ddbc5485df8b1a1b135932fe07e37a2fcfb",
    ]


@pytest.mark.parametrize("size", [28, 20], ids=["whole batches", "each image"])
def test_an_epoch_may_begin_with_a_later_batch(size: int) -> None:
    recipe = load_recipe("fashion_mnist", [f"input.size=[{size}, {size}]"])
    pixels = np.random.default_rng(5).integers(0, 256, (100, 28, 28, 1), np.uint8)
    images = Images(pixels, (np.arange(100) % 10).astype(np.int32), FASHION_MNIST_LABELS)
    settings: Any = {"batch_size": 20, "seed": 1, "epoch": 4}
    whole = training_batches(images, recipe.input, recipe.augmentation, **settings)
    later = training_batches(images, recipe.input, recipe.augmentation, **settings, first=3)
    assert digest(later, 8) == digest(whole.skip(3), 8)  # into the second epoch after that


@pytest.mark.skipif(not FASHION.exists(), reason="needs apt install dataset-fashion-mnist")
def test_batches_of_fashion_mnist_are_the_recorded_ones() -> None:
    assert recorded(read_dataset("fashion_mnist", FASHION, "train"), batch_size=128, holdout=0) == [
        "5ab9786d5cd061c43358e6a9bdbcb434fd0e4961fad7e10eb7a2ef969822490e",
        "c62355c33747d33faface2853e2cd65a4b807ce1ee338dbcaaa6d3e27b22ca08",
        "08c672321e8bce608c64a21078b75bf452920b7f7169a15abc32afda26cc9bf9",
    ]


# --- files, shards and memory -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """23 images of three classes."""
    root = write_folders(tmp_path_factory.mktemp("folders"), {"train": {"ant": 9, "bee": 8, "cat": 6}})
    split = read_dataset("folders", root, "train")
    assert isinstance(split, Files)
    return split


@pytest.fixture(scope="module", params=["files", "shards", "memory"])
def split(request: pytest.FixtureRequest, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Split:
    """The same images, three ways; the ones in memory have 40x52 pixels, so need resizing."""
    if request.param == "files":
        return files
    if request.param == "shards":
        directory = tmp_path_factory.mktemp("packed")
        pack(files, directory, "train", dataset="folders", shards=4)
        return read_dataset("tfrecord", directory, "train")
    from mpncov_zoo.images import read_image

    pixels = np.stack([np.asarray(read_image(files.encoded(index))) for index in range(len(files))])
    return Images(pixels, files.labels, files.class_names)


def epochs(
    split: Split,
    count: int,
    *,
    first: int = 0,
    seed: int = 1,
    augmentation: Augmentation = ALL,
    share: Share = WHOLE,
    threads: int = 0,
) -> list[Epoch]:
    """Epochs of five batches of four; 0 threads are as many as there are."""
    settings = {"batch_size": 4, "seed": seed, "epoch": first, "share": share}
    batches = training_batches(split, specification(), augmentation, **settings).take(5 * count)
    options = tf.data.Options()
    options.threading.private_threadpool_size = options.threading.max_intra_op_parallelism = threads
    pairs = [(x.numpy(), y.numpy()) for x, y in (batches.with_options(options) if threads else batches)]
    return [
        (np.concatenate([x for x, _ in pairs[i : i + 5]]), np.concatenate([y for _, y in pairs[i : i + 5]]))
        for i in range(0, 5 * count, 5)
    ]


@pytest.fixture(scope="module")
def three_epochs(split: Split) -> list[Epoch]:
    """Of seed 1, with random parts and mirror images."""
    tf.random.set_seed(17)  # must not matter
    return epochs(split, 3)


@pytest.fixture(scope="module")
def unchanged_epochs(split: Split) -> list[Epoch]:
    """Three of seed 1, without augmentation."""
    return epochs(split, 3, augmentation=NONE)


def contents(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


@pytest.fixture(scope="module")
def preprocessed(files: Files) -> dict[bytes, int]:
    """The label of each image by its content after `preprocess`."""
    images = preprocess([files.root / path for path in files.paths], specification())
    return dict(zip(contents(images), files.labels.tolist(), strict=True))


def test_evaluation_sees_what_preprocess_gives(split: Split, preprocessed: dict[bytes, int]) -> None:
    batches = [(x.numpy(), y.numpy()) for x, y in evaluation_batches(split, specification(), batch_size=10)]
    assert [len(labels) for _, labels in batches] == [10, 10, 3]
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert labels.tolist() == split.labels.tolist()
    assert dict(zip(contents(images), labels.tolist(), strict=True)) == preprocessed


def test_grey_networks_see_grey(files: Files) -> None:
    spec = specification(channel_order="L", mean=(0.4,), std=(0.3,))
    (images, _), *_ = evaluation_batches(files, spec)
    np.testing.assert_array_equal(images, preprocess([files.root / path for path in files.paths], spec))


def test_every_format_that_folders_may_hold_is_read(tmp_path: Path) -> None:
    """Against the images that were written, without loss where the format has none."""
    rgb, grey = Image.fromarray(photo(40, 52)), Image.fromarray(photo(40, 52)).convert("L")
    palette = Image.fromarray(photo(40, 52) & np.uint8(0xC0)).quantize(64)  # which of a GIF or BMP is kept as it is
    written = {
        "a.bmp": ("BMP", palette, {}),
        "b.gif": ("GIF", palette, {}),
        "c.pgm": ("PPM", grey, {}),
        "d.PNG": ("PNG", grey.convert("LA"), {}),
        "e.ppm": ("PPM", rgb, {}),
        "f.tif": ("TIFF", rgb, {}),
        "g.tiff": ("TIFF", grey, {}),
        "h.webp": ("WEBP", rgb, {"lossless": True}),
    }
    for name, (kind, image, options) in written.items():
        for folder in (tmp_path / "train" / "ant", tmp_path / "train" / "bee"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(encode(image, kind, **options))
    (images, labels), *_ = evaluation_batches(read_dataset("folders", tmp_path, "train"), specification())
    expected = preprocess([image.convert("RGB") for _, image, _ in written.values()], specification())
    np.testing.assert_array_equal(images, np.concatenate([expected, expected]))
    assert labels.numpy().tolist() == [0] * len(written) + [1] * len(written)
    lossy = {".jfif", ".jpeg", ".jpg"}
    assert {Path(name).suffix.lower() for name in written} | lossy == {*IMAGE_SUFFIXES}


ENDS = """
import sys
from pathlib import Path
from tests.image_folders import specification
from mpncov_zoo.training.datasets import read_dataset
from mpncov_zoo.training.datasets.pipelines import evaluation_batches, training_batches
from mpncov_zoo.training.recipes import Augmentation
split = read_dataset("folders", Path(sys.argv[1]), "train")
held = [iter(evaluation_batches(split, specification(), 2))]
held.append(iter(training_batches(split, specification(), Augmentation(), batch_size=4, seed=0, epoch=0)))
print([len(next(batches)[1]) for batches in held])
raise KeyboardInterrupt
"""


def test_a_process_ends_though_images_are_still_read(tmp_path: Path) -> None:
    """An iterator that TensorFlow frees too late waits for ever; these images take longer than the process has."""
    write_folders(tmp_path, {"train": {"ant": 20, "bee": 20}}, height=900, width=1200)
    command = [sys.executable, "-c", ENDS, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "[2, 4]\n"), ended.stderr


def test_views_stand_beside_each_other(files: Files) -> None:
    (images, labels), *_ = view_batches(files, specification(), 8, "mirror")
    single, _ = next(iter(evaluation_batches(files, specification(), 8)))
    assert labels.numpy().tolist() == files.labels[:8].tolist()
    np.testing.assert_array_equal(images, np.stack([single, single[:, :, ::-1]], axis=1))


def test_an_epoch_has_each_image_at_most_once_with_its_label(
    unchanged_epochs: list[Epoch], preprocessed: dict[bytes, int]
) -> None:
    for images, labels in unchanged_epochs:
        assert len(set(contents(images))) == len(labels) == 20
        assert [preprocessed[image] for image in contents(images)] == labels.tolist()


def test_order_and_augmentation_depend_on_seed_and_epoch(split: Split, three_epochs: list[Epoch]) -> None:
    first, second, third = (labels.tolist() for _, labels in three_epochs)
    ((_, other),) = epochs(split, 1, seed=2)
    assert first != second != third != first != other.tolist() != second
    assert len({image for images, _ in three_epochs for image in contents(images)}) == 60


def test_a_later_start_continues_where_an_earlier_one_gets_to_on_one_thread_too(
    split: Split, three_epochs: list[Epoch]
) -> None:
    tf.random.set_seed(18)
    later = epochs(split, 2, first=1, threads=1)
    for (images, labels), (same, as_these) in zip(later, three_epochs[1:], strict=True):
        assert contents(images) == contents(same) and labels.tolist() == as_these.tolist()


def test_workers_share_each_batch(split: Split, three_epochs: list[Epoch]) -> None:
    whole, labels = three_epochs[0]
    shares = [epochs(split, 1, share=Share(index, 2))[0] for index in range(2)]
    together = np.concatenate([images.reshape(5, 2, 24, 24, 3) for images, _ in shares], axis=1)
    assert contents(together.reshape(whole.shape)) == contents(whole)
    assert np.concatenate([y.reshape(5, 2) for _, y in shares], axis=1).ravel().tolist() == labels.tolist()
    with pytest.raises(InputError, match="batch_size=4 cannot be shared equally by 3 workers"):
        epochs(split, 1, share=Share(0, 3))


def test_workers_share_batches_in_memory_that_need_no_resizing() -> None:
    images = Images(np.arange(24 * 24 * 3 * 9, dtype=np.uint8).reshape(9, 24, 24, 3), np.arange(9, dtype=np.int32), ())
    settings: Any = {"batch_size": 4, "seed": 1, "epoch": 0}
    spec, both = specification(crop_fraction=1.0), Augmentation(pad_crop=2, flip=True)
    whole, _ = next(iter(training_batches(images, spec, both, **settings)))
    shares = [next(iter(training_batches(images, spec, both, share=Share(i, 2), **settings)))[0] for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(shares), whole)


def test_a_holdout_is_left_out_of_training(split: Split, preprocessed: dict[bytes, int]) -> None:
    training, held_out = split_holdout(split, 3, seed=4)
    (seen, _), *_ = evaluation_batches(held_out, specification())
    ((images, labels),) = epochs(training, 1, augmentation=NONE)
    assert len(set(contents(images))) == 20 and not set(contents(images)) & set(contents(seen.numpy()))
    assert [preprocessed[image] for image in contents(images)] == labels.tolist()
    assert [preprocessed[image] for image in contents(seen.numpy())] == held_out.labels.tolist()


# --- epochs of all images, in batches that differ by one image at most ------------------------------------------------


def batches_of(split: Split, count: int, *, first: int = 0, epoch: int = 0, size: int = 24) -> list[Epoch]:
    """Of 23 images in batches of at most 5: 5, 5, 5, 4 and 4."""
    settings: Any = {"batch_size": 5, "seed": 1, "epoch": epoch, "first": first, "all_images": True}
    batches = training_batches(split, specification(size, crop_fraction=0.75), NONE, **settings)
    return [(x.numpy(), y.numpy()) for x, y in batches.take(count)]


@pytest.fixture(scope="module")
def two_whole_epochs(split: Split) -> list[Epoch]:
    """The batches of two such epochs."""
    return batches_of(split, 10)


def test_an_epoch_of_all_images_has_each_once(two_whole_epochs: list[Epoch], preprocessed: dict[bytes, int]) -> None:
    assert [len(labels) for _, labels in two_whole_epochs] == 2 * [5, 5, 5, 4, 4]
    orders = []
    for epoch in (two_whole_epochs[:5], two_whole_epochs[5:]):
        images, labels = (np.concatenate(part) for part in zip(*epoch, strict=True))
        assert {*contents(images)} == {*preprocessed}
        assert [preprocessed[image] for image in contents(images)] == labels.tolist()
        orders.append(contents(images))
    assert orders[0] != orders[1]


def same(ones: list[Epoch], others: list[Epoch]) -> bool:
    return [(contents(x), y.tolist()) for x, y in ones] == [(contents(x), y.tolist()) for x, y in others]


def test_such_an_epoch_too_may_begin_with_a_later_batch_or_after_others(
    split: Split, two_whole_epochs: list[Epoch]
) -> None:
    assert same(batches_of(split, 7, first=3), two_whole_epochs[3:])
    assert same(batches_of(split, 5, epoch=1), two_whole_epochs[5:])


def test_images_that_need_no_resizing_are_all_seen_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 24, 24, 3), np.uint8)
    images = Images(pixels, np.arange(23, dtype=np.int32), ())
    settings: Any = {"batch_size": 5, "seed": 1, "epoch": 0, "all_images": True}
    whole, both = specification(crop_fraction=1.0), Augmentation(pad_crop=2, flip=True)
    labels = [y.numpy() for _, y in training_batches(images, whole, both, **settings).take(5)]
    assert [len(part) for part in labels] == [5, 5, 5, 4, 4] and sorted(np.concatenate(labels)) == [*range(23)]
    batches = training_batches(images, whole, both, **settings)
    assert digest(training_batches(images, whole, both, first=2, **settings), 6) == digest(batches.skip(2), 6)


def test_what_an_epoch_leaves_out_is_not_the_same_in_the_next(
    unchanged_epochs: list[Epoch], preprocessed: dict[bytes, int]
) -> None:
    """The documentation says: others in each epoch."""
    left_out = [{*preprocessed} - {*contents(images)} for images, _ in unchanged_epochs]
    assert [len(images) for images in left_out] == [3] * 3
    assert len({image for images in left_out for image in images}) > 5
