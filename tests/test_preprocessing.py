"""One specification, two executions: torchvision's geometry, Pillow's pixels, and the same numbers from a graph."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.preprocessing import (
    decode_image,
    normalize,
    normalize_tensor,
    preprocess,
    preprocess_encoded,
    read_image,
    resize_and_crop,
    resize_and_crop_tensor,
)
from mpncov_zoo.specification import InputSpecification
from tests.photos import encode, photo, photo_image

IMAGENET = InputSpecification(
    size=(224, 224),
    channel_order="RGB",
    resize="short_side",
    crop_fraction=0.875,
    interpolation="bilinear",
    antialias=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def changed(**fields: Any) -> InputSpecification:
    """The ImageNet specification with other values, validated."""
    return InputSpecification.model_validate(IMAGENET.model_dump() | fields)


SMALL = changed(size=(32, 32))
GREY = changed(size=(28, 28), channel_order="L", crop_fraction=1.0, mean=(0.2860,), std=(0.3530,))


def test_reading_needs_no_tensorflow() -> None:
    code = "import sys, mpncov_zoo.preprocessing; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# What torchvision's Resize(256) gives, and where its CenterCrop(224) cuts: round half to even of half the excess.
TORCHVISION = [
    ((375, 500), (256, 341), (16, 58)),  # excess 117: 58.5 -> 58
    ((500, 375), (341, 256), (58, 16)),
    ((256, 343), (256, 343), (16, 60)),  # excess 119: 59.5 -> 60
    ((100, 333), (256, 852), (16, 314)),  # 852.48 truncated
    ((768, 1023), (256, 341), (16, 58)),  # exactly 341
    ((640, 640), (256, 256), (16, 16)),
]


@pytest.mark.parametrize(("before", "resized", "start"), TORCHVISION)
def test_short_side_is_torchvisions(before: tuple, resized: tuple, start: tuple) -> None:
    pixels = photo(*before)
    by_width = Image.fromarray(pixels).resize((resized[1], before[0]), Image.Resampling.BILINEAR)
    expected = np.asarray(by_width.resize((resized[1], resized[0]), Image.Resampling.BILINEAR))
    (top, left), (height, width) = start, IMAGENET.size
    cropped = resize_and_crop(Image.fromarray(pixels), IMAGENET)
    np.testing.assert_array_equal(cropped, expected[top : top + height, left : left + width])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_landscape_photo_is_one_call_of_pillow(interpolation: str) -> None:
    image = photo_image(375, 500)
    expected = image.resize((341, 256), Image.Resampling[interpolation.upper()]).crop((58, 16, 58 + 224, 16 + 224))
    np.testing.assert_array_equal(resize_and_crop(image, changed(interpolation=interpolation)), np.asarray(expected))


@pytest.mark.parametrize(
    ("before", "resized"), [((300, 300), (48, 64)), ((100, 300), (48, 64)), ((300, 100), (48, 64))]
)
def test_squash_resizes_both_sides_exactly(before: tuple, resized: tuple) -> None:
    spec = changed(resize="squash", size=(42, 56))
    by_width = photo_image(*before).resize((resized[1], before[0]), Image.Resampling.BILINEAR)
    expected = np.asarray(by_width.resize((resized[1], resized[0]), Image.Resampling.BILINEAR))[3:45, 4:60]
    np.testing.assert_array_equal(resize_and_crop(photo_image(*before), spec), expected)


@pytest.mark.parametrize(
    ("before", "resized"),
    [((100, 100), (64, 64)), ((100, 300), (48, 144)), ((300, 100), (192, 64)), ((75, 100), (48, 64))],
)
def test_short_side_of_an_oblong_input_covers_it(before: tuple, resized: tuple) -> None:
    spec = changed(size=(48, 64), crop_fraction=1.0)
    by_width = photo_image(*before).resize((resized[1], before[0]), Image.Resampling.BILINEAR)
    whole = np.asarray(by_width.resize((resized[1], resized[0]), Image.Resampling.BILINEAR))
    top, left = (resized[0] - 48) // 2, (resized[1] - 64) // 2
    np.testing.assert_array_equal(resize_and_crop(photo_image(*before), spec), whole[top : top + 48, left : left + 64])


def test_crop_fractions_round_to_whole_pixels() -> None:
    spec = changed(size=(30, 30), crop_fraction=0.9)  # 33.3 -> 33, excess 3: 1.5 -> 2
    np.testing.assert_array_equal(resize_and_crop(photo_image(33, 33), spec), photo(33, 33, 4)[2:32, 2:32, :3])


@pytest.mark.parametrize("spec", [changed(crop_fraction=1.0), changed(crop_fraction=1.0, resize="squash")])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_image_of_the_target_size_is_untouched(spec: InputSpecification, interpolation: str) -> None:
    spec = spec.model_copy(update={"interpolation": interpolation})
    pixels = photo(224, 224)
    np.testing.assert_array_equal(resize_and_crop(Image.fromarray(pixels), spec), pixels)
    np.testing.assert_array_equal(resize_and_crop_tensor(tf.constant(pixels), spec), pixels)


def test_normalised_values_are_those_of_the_formula() -> None:
    levels = np.array([[0, 128, 255]], np.uint8)
    expected = [[-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]]
    np.testing.assert_allclose(normalize(levels, IMAGENET), expected, rtol=1e-6)
    assert normalize(levels, IMAGENET).dtype == np.float32


def test_channels_are_turned_round_last() -> None:
    levels = np.array([[10, 128, 255]], np.uint8)
    turned = changed(channel_order="BGR", mean=IMAGENET.mean[::-1], std=IMAGENET.std[::-1])
    np.testing.assert_array_equal(normalize(levels, turned), normalize(levels, IMAGENET)[:, ::-1])


@pytest.mark.parametrize("spec", [IMAGENET, GREY])
def test_the_graph_normalises_every_level_alike(spec: InputSpecification) -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8)[:, np.newaxis], spec.channels)
    graph = tf.function(lambda pixels: normalize_tensor(pixels, spec))
    np.testing.assert_array_equal(graph(tf.constant(levels)), normalize(levels, spec))


def test_batches(tmp_path: Path) -> None:
    arrays = np.stack([photo(40, 50), photo(40, 50)[::-1]])
    Image.fromarray(arrays[0]).save(tmp_path / "photo.png")
    one = preprocess(arrays[0], SMALL)
    both = preprocess(arrays, SMALL)
    assert one.shape == (1, 32, 32, 3) and one.dtype == np.float32
    np.testing.assert_array_equal(both[:1], one)
    np.testing.assert_array_equal(both[1:], preprocess(arrays[1], SMALL))
    np.testing.assert_array_equal(preprocess(tf.constant(arrays), SMALL), both)
    np.testing.assert_array_equal(preprocess([tmp_path / "photo.png", arrays[1]], SMALL), both)
    np.testing.assert_array_equal(preprocess((Image.fromarray(arrays[0]), arrays[1]), SMALL), both)


def test_grey_batches() -> None:
    greys = np.stack([photo(28, 28, 1), photo(28, 28, 1)[::-1]])
    np.testing.assert_array_equal(preprocess(greys, GREY), normalize(greys, GREY))
    np.testing.assert_array_equal(preprocess(greys[1, ..., 0], GREY), normalize(greys[1:], GREY))


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 8, 8, 3), np.uint8)])
def test_an_empty_batch_is_refused(empty: Any) -> None:
    with pytest.raises(InputError, match=r"no images.*at least one"):
        preprocess(empty, SMALL)


def test_errors_in_a_batch_name_the_index_and_the_path() -> None:
    with pytest.raises(InputError, match=r"^images\[1\]: no file 'no/bird\.jpg'"):
        preprocess([photo(9, 9), "no/bird.jpg"], SMALL)


def test_a_batch_of_greys_needs_its_channel_axis() -> None:
    with pytest.raises(InputError, match=r"\(2, 28, 28\).*a batch of grey images is \(batch, height, width, 1\)"):
        preprocess(np.zeros((2, 28, 28), np.uint8), GREY)


def test_normalised_arrays_are_refused_in_a_batch_too() -> None:
    with pytest.raises(InputError, match=r"already normalised\? pass it to the model directly"):
        preprocess(preprocess(photo(9, 9), SMALL), SMALL)


def test_too_elongated_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"1x20000 pixels: too elongated to resize it to 256x5120000; crop it first"):
        resize_and_crop(Image.new("RGB", (1, 20_000)), IMAGENET)


def test_an_image_of_another_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"mode RGB; allowed: L; read_image\(image, 'L'\) converts it"):
        resize_and_crop(photo_image(28, 28), GREY)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
        resize_and_crop_tensor(tf.constant(photo(28, 28)), GREY)


SPECIFICATIONS = {
    "imagenet": IMAGENET,
    "oblong bicubic": changed(size=(48, 64), crop_fraction=0.9, interpolation="bicubic", resize="squash"),
    "grey": GREY,
    "BGR": changed(size=(32, 32), channel_order="BGR", mean=(0.4, 0.45, 0.5), std=(1 / 255,) * 3),
}
SHAPES = [(375, 500), (500, 375), (211, 97), (9, 300), (300, 9), (31, 33), (1, 1), (224, 224)]


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_the_graph_gives_the_same_numbers(name: str) -> None:
    spec = SPECIFICATIONS[name]
    images = [photo_image(*shape) for shape in SHAPES]
    files = [encode(image, "JPEG" if index % 2 else "PNG") for index, image in enumerate(images)]
    files.append(encode(photo_image(50, 60, "L"), "PNG"))
    files.append(encode(Image.fromarray(photo(50, 60, 2).view(np.uint16)[..., 0]), "PNG"))
    graph = tf.function(
        lambda encoded: preprocess_encoded(encoded, spec), input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    np.testing.assert_array_equal(graph(files), preprocess(files, spec))


def test_a_data_pipeline_knows_the_static_shape() -> None:
    files = [encode(photo_image(*shape), "PNG") for shape in ((40, 50), (50, 40))]
    pipeline = tf.data.Dataset.from_tensor_slices(files)
    pipeline = pipeline.map(lambda encoded: resize_and_crop_tensor(decode_image(encoded, SMALL), SMALL))
    assert pipeline.element_spec == tf.TensorSpec((32, 32, 3), tf.uint8)
    expected = [resize_and_crop(read_image(file), SMALL) for file in files]
    np.testing.assert_array_equal(np.stack(list(pipeline.as_numpy_iterator())), expected)


def test_a_saved_model_carries_its_preprocessing(tmp_path: Path) -> None:
    module = tf.Module()
    module.from_bytes = tf.function(
        lambda encoded: preprocess_encoded(encoded, SMALL), input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path))
    restored = tf.saved_model.load(str(tmp_path)).from_bytes
    files = [encode(photo_image(40, 50), "JPEG"), encode(photo_image(70, 30), "PNG")]
    np.testing.assert_array_equal(restored(tf.constant(files)), preprocess(files, SMALL))
    assert restored(tf.constant([], tf.string)).shape == (0, 32, 32, 3)
