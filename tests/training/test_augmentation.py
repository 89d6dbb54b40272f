"""Augmentation: against Pillow and NumPy, and its distributions against torchvision's rule written down here."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo.training import augmentation
from mpncov_zoo.training.augmentation import augment, augment_batch, random_box, stateless
from mpncov_zoo.training.recipes import Augmentation, RandomResizedCrop
from tests.image_folders import specification
from tests.photos import photo

NONE = Augmentation()
SEED = tf.constant([7, 1], tf.int64)
POSITIONS = np.arange(1, 26, dtype=np.uint8).reshape(1, 5, 5, 1).repeat(400, axis=0)  # every pixel tells where it was


def crops(pad: int) -> dict[bytes, tuple[int, int, bool]]:
    """Every image that may come of POSITIONS' one, by NumPy: (top, left, mirrored) by content."""
    padded = np.pad(POSITIONS[0], [(pad, pad), (pad, pad), (0, 0)])
    found = {}
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = padded[top : top + 5, left : left + 5]
            found[crop.tobytes()] = (top, left, False)
            found[crop[:, ::-1].tobytes()] = (top, left, True)
    return found


def test_augmented_images_are_crops_of_the_padded_ones() -> None:
    augmented = augment_batch(tf.constant(POSITIONS), Augmentation(pad_crop=2, flip=True), SEED).numpy()
    drawn = [crops(2)[image.tobytes()] for image in augmented]  # KeyError: an image that must not come
    tops, lefts, mirrored = (np.array(values) for values in zip(*drawn, strict=True))
    # 400 draws: five standard deviations are 40 of an expected 80 at each offset, 50 of an expected 200 mirrored.
    for offsets in (tops, lefts):
        assert (abs(np.bincount(offsets, minlength=5) - 80) < 40).all()
    assert abs(mirrored.sum() - 200) < 50
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.25


def test_the_seed_decides() -> None:
    images, both = tf.constant(POSITIONS), Augmentation(pad_crop=2, flip=True)
    first = augment_batch(images, both, SEED).numpy()
    np.testing.assert_array_equal(first, augment_batch(images, both, SEED))
    assert (first != augment_batch(images, both, SEED + 1).numpy()).any()


def test_what_is_off_changes_nothing() -> None:
    np.testing.assert_array_equal(augment_batch(tf.constant(POSITIONS), NONE, SEED), POSITIONS)
    flipped = augment_batch(tf.constant(POSITIONS), Augmentation(flip=True), SEED).numpy()
    assert {image.tobytes() for image in flipped} == {POSITIONS[0].tobytes(), POSITIONS[0, :, ::-1].tobytes()}
    cropped = augment_batch(tf.constant(POSITIONS), Augmentation(pad_crop=1), SEED).numpy()
    assert not any(crops(1)[image.tobytes()][2] for image in cropped)


# --- random resized crop ----------------------------------------------------------------------------------------------


def torchvision_box(height: int, width: int, settings: RandomResizedCrop, rng: np.random.Generator) -> list[int]:
    """(top, left, height, width) by the rule of torchvision.transforms.RandomResizedCrop, drawn by NumPy."""
    for _ in range(10):
        area = height * width * rng.uniform(*settings.scale)
        ratio = math.exp(rng.uniform(*map(math.log, settings.ratio)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w]
    h, w = height, width
    if width / height < min(settings.ratio):
        h = round(width / min(settings.ratio))
    elif width / height > max(settings.ratio):
        w = round(height * max(settings.ratio))
    return [(height - h) // 2, (width - w) // 2, h, w]


def boxes(height: int, width: int, settings: RandomResizedCrop, count: int) -> np.ndarray:
    """(count, 4): of seeds 0, 1, 2 ..."""
    draw = tf.function(
        lambda index: tf.stack(random_box(height, width, settings, stateless.stateless_fold_in(SEED, index)))
    )
    return np.stack([draw(tf.constant(index)).numpy() for index in range(count)])


@pytest.mark.parametrize(
    ("height", "width", "settings"),
    [
        (375, 500, RandomResizedCrop()),
        (100, 160, RandomResizedCrop(scale=(0.5, 1.0), ratio=(0.5, 3.0))),  # many draws do not fit
    ],
)
def test_random_boxes_are_distributed_as_torchvisions(height: int, width: int, settings: RandomResizedCrop) -> None:
    count, rng = 1000, np.random.default_rng(0)
    drawn = boxes(height, width, settings, count)
    expected = np.array([torchvision_box(height, width, settings, rng) for _ in range(count)])
    top, left, h, w = drawn.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= height).all() and (left + w <= width).all()
    # Two empirical distributions of 1,000 draws differ by more than 0.09 at one point in a million (Kolmogorov).
    for measure in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0], lambda b: b[:, 1]):
        ours, theirs = np.sort(measure(drawn)), np.sort(measure(expected))
        at = np.concatenate([ours, theirs])
        distance = np.searchsorted(ours, at, "right") - np.searchsorted(theirs, at, "right")
        assert abs(distance).max() / count < 0.11


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (1, 1)])
def test_where_nothing_fits_the_centre_is_taken(height: int, width: int) -> None:
    settings = RandomResizedCrop(scale=(0.99, 1.0))
    expected = torchvision_box(height, width, settings, np.random.default_rng(0))
    assert boxes(height, width, settings, 3).tolist() == [expected] * 3


def pillow(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Resized to (height, width), width first."""
    height, width = size
    columns = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return columns.resize((width, height), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("box", [(5, 9, 20, 31), (0, 0, 40, 52), (39, 51, 1, 1)])
def test_a_random_part_is_resized_as_by_pillow(box: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "random_box", lambda *_: tuple(map(tf.constant, box)))
    image, (top, left, height, width) = photo(40, 52), box
    part = np.ascontiguousarray(image[top : top + height, left : left + width])
    settings = Augmentation(random_resized_crop=RandomResizedCrop())
    np.testing.assert_array_equal(
        augment(tf.constant(image), specification(), settings, SEED), np.asarray(pillow(part, (24, 24)))
    )


# --- resized, then cropped anywhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resize", "resized"),
    [("short_side", (32, 41)), ("squash", (32, 32))],  # CUB's way, with crop_fraction 1, and Aircraft's
)
def test_a_random_crop_is_one_of_the_resized_image(resize: str, resized: tuple[int, int]) -> None:
    image, spec = photo(40, 52), specification(resize=resize)
    whole = np.asarray(pillow(image, resized))
    rows, columns = (new - 24 + 1 for new in resized)
    windows = {whole[y : y + 24, x : x + 24].tobytes(): (y, x) for y in range(rows) for x in range(columns)}
    crop = tf.function(lambda seed: augment(tf.constant(image), spec, Augmentation(crop="random"), seed))
    drawn = [windows[crop(SEED + tf.constant([0, step], tf.int64)).numpy().tobytes()] for step in range(200)]
    tops, lefts = (np.bincount(values) for values in zip(*drawn, strict=True))
    assert len(tops) == rows and len(lefts) == columns and min(*tops, *lefts) > 0
    centre = augment(tf.constant(image), spec, NONE, SEED).numpy()
    assert windows[centre.tobytes()] == (4, (resized[1] - 24) // 2)


def test_the_changes_of_one_image_follow_each_other() -> None:
    """A flip of a padded crop of the fitted image: found among all of them."""
    image, spec = photo(40, 52), specification()
    fitted = augment(tf.constant(image), spec, NONE, SEED).numpy()
    padded = np.pad(fitted, [(1, 1), (1, 1), (0, 0)])
    crops = [padded[y : y + 24, x : x + 24] for y in range(3) for x in range(3)]
    possible = {crop[:, ::step].tobytes() for crop in crops for step in (1, -1)}
    drawn = {
        augment(tf.constant(image), spec, Augmentation(pad_crop=1, flip=True), SEED + tf.constant([0, i], tf.int64))
        .numpy()
        .tobytes()
        for i in range(20)
    }
    assert drawn <= possible and len(drawn) > 5
