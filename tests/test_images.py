"""Every kind of source, every Pillow mode, every EXIF orientation; and each way in which an image can be unusable."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mpncov_zoo.errors import InputError
from mpncov_zoo.images import count_pixels, read_image
from tests.photos import encode, photo, photo_image

HEIGHT, WIDTH = 9, 14
GREY_16_BIT = np.array([[0, 255, 256], [32767, 65279, 65535]], np.uint16)


def pixels(source: Any, channel_order: Any = "RGB") -> np.ndarray:
    return np.asarray(read_image(source, channel_order))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    file.write_bytes(encode(photo_image(HEIGHT, WIDTH), "PNG"))
    return file


def test_every_kind_of_source_is_the_same_image(path: Path) -> None:
    rgba = photo(HEIGHT, WIDTH, 4)
    encoded = path.read_bytes()
    with Image.open(path) as opened:
        sources = [path, str(path), encoded, bytearray(encoded), memoryview(encoded), opened, rgba, rgba[..., :3]]
        for source in sources:
            np.testing.assert_array_equal(pixels(source), rgba[..., :3])


def test_grey_arrays_with_and_without_a_channel_axis() -> None:
    grey = photo(HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(pixels(grey, "L"), grey[..., 0])
    np.testing.assert_array_equal(pixels(grey[..., 0], "L"), grey[..., 0])
    np.testing.assert_array_equal(pixels(grey), np.repeat(grey, 3, axis=2))


def test_views_with_other_strides_are_read_as_they_look() -> None:
    bgr = photo(HEIGHT, WIDTH)[:, ::2, ::-1]
    np.testing.assert_array_equal(pixels(bgr), bgr.copy())


def test_the_result_is_a_new_image() -> None:
    image = photo_image(HEIGHT, WIDTH)
    before = np.array(image)
    read_image(image).paste((0, 0, 0), (0, 0, WIDTH, HEIGHT))
    np.testing.assert_array_equal(np.asarray(image), before)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_modes_convert_as_pillow_converts_them(mode: str) -> None:
    image = photo_image(HEIGHT, WIDTH, mode)
    rgb = image.convert("RGB")
    np.testing.assert_array_equal(pixels(image), np.asarray(rgb))
    np.testing.assert_array_equal(pixels(image, "L"), np.asarray(rgb.convert("L")))


def test_alpha_is_dropped_not_composited() -> None:
    assert read_image(Image.new("RGBA", (2, 2), (200, 100, 50, 0))).getpixel((1, 1)) == (200, 100, 50)


def test_a_palette_with_transparency_keeps_its_colours_without_a_warning() -> None:
    palette = photo_image(HEIGHT, WIDTH).quantize(8)
    encoded = encode(palette, "PNG", transparency=bytes(range(0, 240, 30)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(pixels(encoded), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
@pytest.mark.parametrize("channel_order", ["RGB", "L"])
def test_16_bit_greys_keep_their_upper_8_bits(mode: str, channel_order: str) -> None:
    image = Image.fromarray(GREY_16_BIT.astype(">u2")) if mode == "I;16B" else Image.fromarray(GREY_16_BIT)
    if mode in ("I;16L", "I;16N"):  # Pillow names both as it names native arrays; make them from bytes
        image = Image.frombytes(mode, image.size, GREY_16_BIT.tobytes())
    assert image.mode == mode
    expected = [[0, 0, 1], [127, 254, 255]]
    read = pixels(image, channel_order)
    np.testing.assert_array_equal(read if channel_order == "L" else read[..., 2], expected)


def test_a_16_bit_png_is_scaled() -> None:
    encoded = encode(Image.fromarray(GREY_16_BIT), "PNG")
    np.testing.assert_array_equal(pixels(encoded, "L"), GREY_16_BIT // 256)


def test_32_bit_greys_hold_8_or_16_bits() -> None:
    wide = Image.fromarray(GREY_16_BIT.astype(np.int32))
    np.testing.assert_array_equal(pixels(wide, "L"), GREY_16_BIT // 256)
    levels = photo_image(HEIGHT, WIDTH, "L")
    np.testing.assert_array_equal(pixels(levels.convert("I"), "L"), np.asarray(levels))
    np.testing.assert_array_equal(pixels(levels.convert("F"), "L"), np.asarray(levels))
    assert pixels(Image.fromarray(np.float32([[1.4, 254.6]])), "L").tolist() == [[1, 255]]


def with_orientation(orientation: int, format: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photo_image(HEIGHT, WIDTH), format, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied_once(orientation: int, format: str) -> None:
    encoded = with_orientation(orientation, format)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    assert expected.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    np.testing.assert_array_equal(pixels(encoded), expected)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(encoded))), expected)


def test_a_portrait_photo_is_turned_clockwise() -> None:
    pixel_order = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = encode(Image.fromarray(pixel_order), "PNG", exif=exif)
    assert pixels(encoded, "L").tolist() == [[40, 10], [50, 20], [60, 30]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\xff"]
)
def test_malformed_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    plain = photo_image(HEIGHT, WIDTH)
    np.testing.assert_array_equal(pixels(encode(plain, "PNG", exif=exif)), np.asarray(plain))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_are_ignored(orientation: int) -> None:
    np.testing.assert_array_equal(pixels(with_orientation(orientation, "PNG")), np.asarray(photo_image(HEIGHT, WIDTH)))


NORMALISED = np.linspace(-2, 2, 48, dtype=np.float32).reshape(4, 4, 3)
JPEG = encode(photo_image(64, 64), "JPEG")
PNG = encode(photo_image(64, 64), "PNG")
REFUSALS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "None": (lambda: None, ["received None", "allowed: a path"]),
    "other type": (lambda: {"a": 1}, ["type dict", "allowed: a path"]),
    "open file": (lambda: io.BytesIO(PNG), ["type BytesIO", "encoded bytes"]),
    "missing path": (lambda: "no/such/bird.jpg", ["no file 'no/such/bird.jpg'", "give the path"]),
    "null byte": (lambda: "bird\0.jpg", ["cannot be read", "embedded null "]),
    "no image": (lambda: b"<html>404</html>", ["16 bytes given", "not an image", "allowed: JPEG, PNG"]),
    "a program": (lambda: encode(photo_image(4, 4), "EPS"), ["bytes given", "not an image"]),
    "no bytes": (lambda: b"", ["0 bytes given", "not an image"]),
    "truncated JPEG": (lambda: JPEG[: len(JPEG) // 2], ["truncated or damaged", "again"]),
    "truncated PNG": (lambda: PNG[: len(PNG) // 2], ["truncated or damaged", "again"]),
    "damaged PNG": (lambda: PNG[:200] + bytes(50) + PNG[250:], ["truncated or damaged", "again"]),
    "0 pixels": (lambda: Image.new("RGB", (0, 5)), ["no pixels", "0x5", "at least 1x1"]),
    "0 pixel array": (lambda: np.zeros((0, 5, 3), np.uint8), ["shape (0, 5, 3)", "at least 1x1"]),
    "1-D array": (lambda: np.zeros(5, np.uint8), ["shape (5,)", "(height, width, channels)"]),
    "4-D array": (lambda: np.zeros((1, 5, 5, 3), np.uint8), ["shape (1, 5, 5, 3)", "one image"]),
    "2 channels": (lambda: np.zeros((5, 5, 2), np.uint8), ["shape (5, 5, 2)", "1, 3 or 4 channels"]),
    "channels first": (lambda: np.zeros((3, 5, 5), np.uint8), ["shape (3, 5, 5)", "channels come last"]),
    "NaN": (lambda: np.where(NORMALISED > 1, np.nan, NORMALISED), ["float32", "holds NaN", "allowed: uint8"]),
    "normalised": (lambda: NORMALISED, ["float32", "-2 to 2", "already normalised? pass it to the model directly"]),
    "scaled to 1": (lambda: abs(NORMALISED) / 2, ["0.02", "to 1:", "already normalised?", "(array * 255).round()"]),
    "float levels": (lambda: abs(NORMALISED) * 100, ["to 200", "array.round().astype('uint8')"]),
    "masks": (lambda: NORMALISED > 0, ["bool", "array.astype('uint8') * 255"]),
    "16-bit array": (lambda: GREY_16_BIT, ["uint16", "0 to 65535", "(array >> 8)"]),
    "64-bit array": (lambda: np.full((2, 2), 7), ["int64", "7 to 7", "array.astype('uint8')"]),
    "complex": (lambda: np.zeros((2, 2), complex), ["complex128", "allowed: uint8"]),
    "F scaled to 1": (lambda: Image.fromarray(np.float32([[0, 0.5]])), ["mode F", "0 to 0.5", "not scaled to [0, 1]"]),
    "F of NaN": (lambda: Image.fromarray(np.float32([[0, np.nan]])), ["mode F", "nan", "0 to 255"]),
    "I too wide": (lambda: Image.fromarray(np.int32([[0, 65536]])), ["mode I", "0 to 65536", "0 to 65535"]),
    "I negative": (lambda: Image.fromarray(np.int32([[-1, 600]])), ["mode I", "-1 to 600", "0 to 65535"]),
    "mode La": (lambda: Image.new("La", (2, 2)), ["mode La", "convert it yourself"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_what_came_what_is_allowed_and_what_to_do(name: str) -> None:
    make, expected = REFUSALS[name]
    with pytest.raises(InputError) as caught:
        read_image(make())
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert len(message) <= 260
    for fragment in expected:
        assert fragment in message


def test_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"{str(tmp_path)!r} is a directory; give an image file, or a list")):
        read_image(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(InputError, match=r"half\.jpg': truncated or damaged"):
        read_image(tmp_path / "half.jpg")


@pytest.mark.parametrize(("limit", "treatment"), [(1000, "default"), (3000, "error")])
def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch, limit: int, treatment: Any) -> None:
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", limit
    )  # the image has 4096 pixels; above twice the limit is an error
    with warnings.catch_warnings():
        warnings.simplefilter(treatment, Image.DecompressionBombWarning)
        with pytest.raises(InputError, match=r"4096 pixels.*MAX_IMAGE_PIXELS"):
            read_image(PNG)


def test_a_header_that_lies_about_the_size_is_refused() -> None:
    at = PNG.index(b"IHDR")
    header = b"IHDR" + struct.pack(">II", 640, 640) + PNG[at + 12 : at + 17]
    with pytest.raises(InputError, match="truncated or damaged"):
        read_image(PNG[:at] + header + struct.pack(">I", zlib.crc32(header)) + PNG[at + 21 :])


def test_pixels_are_counted_by_the_header(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue()[:60])  # no pixel of it can be decoded
    (tmp_path / "b.png").write_bytes(b"no image")
    assert count_pixels(stream.getvalue()) == count_pixels(str(tmp_path / "a.png")) == 600
    decoded = (Image.new("L", (9, 9)), np.zeros((9, 9), np.uint8))
    for source in (tmp_path / "b.png", tmp_path / "c.png", tmp_path, b"", *decoded):
        assert count_pixels(source) == 0


def test_an_image_that_is_rgb_already_is_not_copied_but_the_users_own() -> None:
    own = Image.new("RGB", (4, 4))
    read_image(own).putpixel((0, 0), (9, 9, 9))
    assert own.getpixel((0, 0)) == (0, 0, 0)
