"""Colours of signed values, maps over images, and pictures as addresses."""

import base64
from io import BytesIO

import numpy as np
from PIL import Image

from mpncov_zoo.demo import pictures
from tests.photos import photo

BLUE, WHITE, RED = [33, 102, 172], [247, 247, 247], [178, 24, 43]


def decoded(address: str) -> Image.Image:
    kind, _, content = address.partition(";base64,")
    image = Image.open(BytesIO(base64.b64decode(content)))
    assert kind == f"data:image/{str(image.format).lower()}"
    return image


def test_signs_are_colours() -> None:
    assert pictures.diverging(np.array([[-2.0, 0.0, 2.0]]))[0].tolist() == [BLUE, WHITE, RED]
    middle = pictures.diverging(np.array([[1.0, 2.0]]))[0, 0]
    np.testing.assert_allclose(middle, (np.array(WHITE) + RED) / 2, atol=0.5)
    assert pictures.diverging(np.zeros((1, 1)))[0, 0].tolist() == WHITE


def test_the_diagonal_does_not_drown_a_heat_map() -> None:
    matrix = np.array([[900.0, -1.0], [-1.0, 0.5]])
    assert pictures.heat_map(matrix).tolist() == [
        [RED, BLUE],
        [BLUE, pictures.diverging(np.array([[0.5]]), 1.0)[0, 0].tolist()],
    ]
    assert pictures.heat_map(np.diag([2.0, 0.0]))[0, 1].tolist() == WHITE


def test_a_map_over_an_image() -> None:
    pixels = np.full((8, 8, 1), 100, np.uint8)
    over = pictures.overlay(pixels, np.array([[3.0, 0.0], [0.0, -3.0]]))
    np.testing.assert_allclose(over[0, 0], 0.15 * 100 + 0.85 * np.array(RED), atol=0.5)
    np.testing.assert_allclose(over[7, 7], 0.15 * 100 + 0.85 * np.array(BLUE), atol=0.5)
    assert over[0, 7].tolist() == [100, 100, 100]
    assert (pictures.overlay(photo(9, 12), np.zeros((2, 3))).std(axis=-1) == 0).all()  # grey where the map is silent


def test_pictures_keep_their_pixels_where_they_must() -> None:
    for pixels in (photo(28, 28, 1), photo(20, 30)):
        np.testing.assert_array_equal(np.asarray(decoded(pictures.data_address(pixels))).reshape(pixels.shape), pixels)
    large = photo(224, 224)
    np.testing.assert_array_equal(np.asarray(decoded(pictures.data_address(large, exact=True))), large)
    lossy = decoded(pictures.data_address(large))
    assert lossy.format == "JPEG" and np.abs(np.asarray(lossy, float) - large).mean() < 8
