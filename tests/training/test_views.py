"""Views of evaluation: against Pillow's crops and mirror images."""

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import InputSpecification
from mpncov_zoo.preprocessing import resize_and_crop
from mpncov_zoo.training.protocol import VIEWS
from mpncov_zoo.training.views import views
from tests.image_folders import specification
from tests.photos import photo


def resized(image: np.ndarray, width: int, height: int) -> Image.Image:
    columns = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return columns.resize((width, height), Image.Resampling.BILINEAR)


def five_crops(image: Image.Image) -> list[np.ndarray]:
    """torchvision's five_crop of 24x24 pixels: corners, then centre."""
    right, bottom = image.width - 24, image.height - 24
    starts = ((0, 0), (right, 0), (0, bottom), (right, bottom), (round(right / 2), round(bottom / 2)))
    return [np.asarray(image.crop((x, y, x + 24, y + 24))) for x, y in starts]


@functools.cache
def graph(spec: InputSpecification, kind: Any) -> Any:
    """As in a pipeline, where the size is not known beforehand."""
    signature = [tf.TensorSpec((None, None, 3), tf.uint8)]
    return tf.function(lambda x: views(x, spec, kind), input_signature=signature)


def seen(image: np.ndarray, spec: InputSpecification, kind: Any) -> np.ndarray:
    return graph(spec, kind)(image).numpy()


@pytest.mark.parametrize(
    ("height", "width", "resize", "size"),
    [
        (40, 52, "short_side", (41, 32)),
        (61, 40, "short_side", (32, 48)),
        (40, 53, "squash", (32, 32)),
        (40, 54, "short_side", (43, 32)),
    ],
)
def test_ten_crops_are_torchvisions(height: int, width: int, resize: str, size: tuple[int, int]) -> None:
    image = photo(height, width)
    whole = resized(image, *size)
    expected = five_crops(whole) + five_crops(ImageOps.mirror(whole))
    actual = seen(image, specification(resize=resize), "ten_crops")
    assert len(actual) == VIEWS["ten_crops"].count == 10
    for index, (ours, pillows) in enumerate(zip(actual, expected, strict=True)):
        np.testing.assert_array_equal(ours, pillows, err_msg=str(index))


def test_the_mirror_image_comes_second() -> None:
    image, spec = photo(40, 52), specification()
    single = resize_and_crop(Image.fromarray(image), spec)
    np.testing.assert_array_equal(seen(image, spec, "single"), single[None])
    np.testing.assert_array_equal(seen(image, spec, "mirror"), [single, single[:, ::-1]])


def test_unknown_views_are_refused() -> None:
    with pytest.raises(InputError, match="views 'five'; allowed: single, mirror, ten_crops"):
        views(tf.constant(photo(40, 52)), specification(), "five")
