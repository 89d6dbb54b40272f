"""TensorFlow's resampling and greys against Pillow's, with no level of difference allowed."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo import graph_images
from tests.photos import photo

IMAGE = tf.TensorSpec((None, None, 3), tf.uint8)
SIZES = tf.TensorSpec((2,), tf.int32)
WINDOW = (16, 16)


def resampler(interpolation: str) -> tf.types.experimental.PolymorphicFunction:
    @tf.function(input_signature=[IMAGE, SIZES, SIZES])
    def resample(image: tf.Tensor, resized: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return graph_images.resample(image, tuple(tf.unstack(resized)), tuple(tf.unstack(start)), WINDOW, interpolation)

    return resample


RESAMPLERS = {"bilinear": resampler("bilinear"), "bicubic": resampler("bicubic")}
CHANGES = [  # (height, width) before and after
    ((375, 500), (256, 341)),
    ((500, 375), (341, 256)),
    ((333, 517), (224, 347)),
    ((61, 47), (256, 197)),  # enlarged
    ((16, 16), (16, 16)),  # untouched
    ((40, 16), (20, 16)),  # one axis only
    ((16, 40), (16, 20)),
    ((1, 1), (16, 16)),
    ((2, 3), (100, 150)),
    ((1, 900), (16, 14400)),
    ((900, 1), (14400, 16)),
    ((700, 5), (16, 640)),  # shrunk and enlarged
    ((257, 255), (256, 256)),
    ((1024, 96), (17, 19)),
    ((1201, 801), (24, 16)),
]


@pytest.mark.parametrize("interpolation", RESAMPLERS)
@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_resampling_is_pillows(before: tuple[int, int], after: tuple[int, int], interpolation: str) -> None:
    pixels = photo(*before)
    filter_ = Image.Resampling[interpolation.upper()]
    # Two calls: from version 13 Pillow chooses by shape which axis goes first.
    pillow = Image.fromarray(pixels).resize((after[1], before[0]), filter_).resize((after[1], after[0]), filter_)
    starts = [(0, 0), tuple((size - crop) // 2 for size, crop in zip(after, WINDOW, strict=True))]
    starts.append(tuple(size - crop for size, crop in zip(after, WINDOW, strict=True)))
    for top, left in starts:
        window = RESAMPLERS[interpolation](pixels, after, (top, left)).numpy()
        expected = np.asarray(pillow)[top : top + WINDOW[0], left : left + WINDOW[1]]
        np.testing.assert_array_equal(window, expected)


def test_resampling_clips_where_bicubic_overshoots() -> None:
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    pillow = np.asarray(Image.fromarray(edge).resize((48, 48), Image.Resampling.BICUBIC))
    window = RESAMPLERS["bicubic"](edge, (48, 48), (16, 16)).numpy()
    np.testing.assert_array_equal(window, pillow[16:32, 16:32])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resampling_keeps_any_number_of_channels(channels: int) -> None:
    window = graph_images.resample(tf.constant(photo(30, 40, channels)), (20, 30), (2, 3), WINDOW, "bilinear")
    planes = [
        Image.fromarray(plane).resize((30, 30), 2).resize((30, 20), 2)
        for plane in photo(30, 40, channels).transpose(2, 0, 1)
    ]
    np.testing.assert_array_equal(window, np.stack([np.asarray(plane) for plane in planes], -1)[2:18, 3:19])


def test_luma_is_pillows() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L"))[..., np.newaxis]
    np.testing.assert_array_equal(graph_images.luma(tf.constant(colours)), expected)
