"""TensorFlow's pixels against Pillow's: decoding, orientation and resampling, with no level of difference allowed."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo import graph_images
from mpncov_zoo.images import read_image
from tests.photos import encode, photo, photo_image

ENCODED = tf.TensorSpec((), tf.string)
IMAGE = tf.TensorSpec((None, None, 3), tf.uint8)
SIZES = tf.TensorSpec((2,), tf.int32)
WINDOW = (16, 16)

decode = tf.function(graph_images.decode_rgb, input_signature=[ENCODED])


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


def encoded_files() -> dict[str, bytes]:
    files = {f"PNG {mode}": encode(photo_image(37, 53, mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")}
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            options = {"subsampling": subsampling, "progressive": progressive, "quality": 80}
            files[f"JPEG {options}"] = encode(photo_image(37, 53), "JPEG", **options)
    files["JPEG L"] = encode(photo_image(37, 53, "L"), "JPEG")
    files["JPEG CMYK"] = encode(photo_image(37, 53, "CMYK"), "JPEG")
    files["GIF"] = encode(photo_image(37, 53), "GIF")
    frames = [photo_image(37, 53), photo_image(37, 53, "L")]
    files["GIF animated"] = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    palette = photo_image(37, 53).quantize(8)
    files["PNG P with alpha"] = encode(palette, "PNG", transparency=bytes(range(0, 240, 30)))
    for channels in (1, 2, 3, 4):
        wide = np.random.default_rng(channels).integers(0, 65536, (37, 53, channels), np.uint16)
        files[f"PNG 16 bit, {channels} channels"] = tf.io.encode_png(wide).numpy()
    return files


FILES = encoded_files()


@pytest.mark.parametrize("name", FILES)
def test_decoding_is_pillows(name: str) -> None:
    np.testing.assert_array_equal(decode(FILES[name]), np.asarray(read_image(FILES[name])))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"<html>", encode(photo_image(9, 9), "JPEG")[:300]])
def test_what_is_no_image_is_an_error(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(content)


def test_bmp_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="received a BMP image; allowed: JPEG"):
        decode(encode(photo_image(9, 9, "P"), "BMP"))


def tiff_block(orientation: int, byte_order: str, more: bytes = b"") -> bytes:
    """An EXIF block of three tags, the orientation in the middle, after some unrelated bytes."""
    order, mark = (">", b"MM") if byte_order == "big" else ("<", b"II")
    head = mark + struct.pack(order + "HI", 42, 8 + len(more)) + more
    tags = [
        (0x010F, 2, 4, b"abc\0"),
        (0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)),
        (0x0128, 3, 1, bytes(4)),
    ]
    entries = b"".join(struct.pack(order + "HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0" + head + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with these (marker, content) segments before its own."""
    jpeg = encode(photo_image(37, 53), "JPEG", subsampling=0)
    chain = b"".join(struct.pack(">HH", marker, len(content) + 2) + content for marker, content in segments)
    return jpeg[:2] + chain + jpeg[2:]


@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_by_pillow(orientation: int, byte_order: str) -> None:
    encoded = jpeg_with((0xFFE1, tiff_block(orientation, byte_order)))
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == orientation
    np.testing.assert_array_equal(decode(encoded), np.asarray(read_image(encoded)))


TURNED = tiff_block(6, "little")
ODD_EXIF = {
    "after other segments": [
        (0xFFE0, b"JFIF\0" + bytes(9)),
        (0xFFE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        (0xFFE1, TURNED),
    ],
    "directory far off": [(0xFFE1, tiff_block(6, "big", more=bytes(40_000)))],
    "in another segment": [(0xFFE2, TURNED)],
    "unknown orientation": [(0xFFE1, tiff_block(9, "big"))],
    "cut off": [(0xFFE1, TURNED[:30])],
    "empty": [(0xFFE1, b"Exif\0\0")],
    "directory past the end": [(0xFFE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")],
    "a thousand segments": [(0xFFE5, b"")] * 1000,
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_is_read_as_by_pillow(name: str) -> None:
    encoded = jpeg_with(*ODD_EXIF[name])
    np.testing.assert_array_equal(decode(encoded), np.asarray(read_image(encoded)))
