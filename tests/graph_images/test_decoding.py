"""TensorFlow's decoding against Pillow's, with no level of difference allowed."""

import io
import struct
import zlib
from itertools import product

import numpy as np
import PIL
import pytest
import tensorflow as tf
from PIL import Image

from mpncov_zoo import graph_images
from mpncov_zoo.errors import InputError
from mpncov_zoo.images import read_image
from tests.photos import encode, photo_image

ENCODED = tf.TensorSpec((), tf.string)

decode = tf.function(graph_images.decode_rgb, input_signature=[ENCODED])


def require_equal(encoded: bytes) -> None:
    np.testing.assert_array_equal(decode(encoded), np.asarray(read_image(encoded)))


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
    for lossless, mode, animated in product((False, True), ("RGB", "RGBA"), (False, True)):
        image, name = photo_image(37, 53, mode), f"WebP {mode}, {'lossless' if lossless else 'lossy'}"
        options = {"save_all": True, "append_images": [image.rotate(180)]} if animated else {}
        name += ", animated" if animated else ""
        files[name] = encode(image, "WEBP", lossless=lossless, exact=True, **options)
    palette = photo_image(37, 53).quantize(8)
    files["PNG P with alpha"] = encode(palette, "PNG", transparency=bytes(range(0, 240, 30)))
    for channels in (1, 2, 3, 4):
        wide = np.random.default_rng(channels).integers(0, 65536, (37, 53, channels), np.uint16)
        files[f"PNG 16 bit, {channels} channels"] = tf.io.encode_png(wide).numpy()
    return files


FILES = encoded_files()


@pytest.mark.parametrize("name", FILES)
def test_decoding_is_pillows(name: str) -> None:
    require_equal(FILES[name])


def test_what_is_another_file_is_not_taken_for_a_large_image() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        decode(b"<!doctype html><html><head><title>404 Not Found</title></head></html>")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"<html>", encode(photo_image(9, 9), "JPEG")[:300]])
def test_what_is_no_image_is_an_error(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(content)


def test_bmp_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="received a BMP image; allowed: JPEG"):
        decode(encode(photo_image(9, 9, "P"), "BMP"))


TYPES = {"B": 1, "H": 3, "L": 4, "b": 6, "h": 8, "l": 9, "f": 11}  # of EXIF, by the letter of struct


def tiff_block(
    orientation: int,
    byte_order: str,
    more: bytes = b"",
    kind: str = "H",
    others: tuple[tuple[int, int, int, bytes], ...] = ((0x010F, 2, 4, b"abc\0"),),
) -> bytes:
    """An EXIF block: unrelated bytes, other tags, the orientation as a number of this `kind`, and one more tag."""
    order, mark = (">", b"MM") if byte_order == "big" else ("<", b"II")
    head = mark + struct.pack(order + "HI", 42, 8 + len(more)) + more
    tags = [
        *others,
        (0x0112, TYPES[kind], 1, struct.pack(order + kind, orientation).ljust(4, b"\0")),
        (0x0128, 3, 1, bytes(4)),
    ]
    entries = b"".join(struct.pack(order + "HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0" + head + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with these (marker, content) segments before its own."""
    jpeg = encode(photo_image(37, 53), "JPEG", subsampling=0)
    chain = b"".join(struct.pack(">HH", marker, len(content) + 2) + content for marker, content in segments)
    return jpeg[:2] + chain + jpeg[2:]


def png_with(block: bytes, after_pixels: bool) -> bytes:
    png = encode(photo_image(37, 53), "PNG")
    content = b"eXIf" + block.removeprefix(b"Exif\0\0")
    chunk = struct.pack(">L", len(content) - 4) + content + struct.pack(">L", zlib.crc32(content))
    at = len(png) - 12 if after_pixels else 33
    return png[:at] + chunk + png[at:]


@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_by_pillow(orientation: int, byte_order: str) -> None:
    encoded = jpeg_with((0xFFE1, tiff_block(orientation, byte_order)))
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == orientation
    require_equal(encoded)


TURNED = tiff_block(6, "little")
TOO_LONG = "behind a value that is too long"
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
    "after a thousand segments": [*[(0xFFE5, b"")] * 1000, (0xFFE1, TURNED)],
    "prefix twice": [(0xFFE1, b"Exif\0\0" + TURNED)],
    "behind an empty block": [(0xFFE1, b"Exif\0\0"), (0xFFE1, TURNED)],
    "of no TIFF file": [(0xFFE1, TURNED.replace(b"II*\0", b"II+\1"))],
    "as BYTE, which Pillow takes for text": [(0xFFE1, tiff_block(6, "big", kind="B"))],
    "stated twice": [(0xFFE1, TURNED), (0xFFE1, tiff_block(3, "big"))],
    "behind a value that is cut off": [(0xFFE1, tiff_block(6, "big", others=((0x010F, 2, 40, b"\0\0\0\x20"),)))],
    TOO_LONG: [(0xFFE1, tiff_block(6, "big", others=((0x010F, 2, 2**31, b"\0\0\0\x08"),)))],
    "behind a value of no type": [(0xFFE1, tiff_block(6, "big", others=((0x010F, 99, 1, bytes(4)),)))],
    "XMP alone, which is not read": [(0xFFE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>')],
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Tag data larger", "ignore:Truncated File Read")
@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_is_read_as_by_pillow(name: str) -> None:
    if name == TOO_LONG and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("Pillow 12 gives up such a block, Pillow 13 reads on, and so does the graph")
    require_equal(jpeg_with(*ODD_EXIF[name]))


@pytest.mark.parametrize(("kind", "byte_order"), [*product("HLbhl", ("big", "little"))])
def test_an_orientation_may_be_any_whole_number(kind: str, byte_order: str) -> None:
    encoded = jpeg_with((0xFFE1, tiff_block(6, byte_order, kind=kind)))
    assert decode(encoded).shape == (53, 37, 3)
    require_equal(encoded)


@pytest.mark.parametrize("filling", [b"\xff", b"\xff" * 100, b"\xff\x00", b"\1\2\3", b"\xff\xd0"])
def test_bytes_between_the_segments_are_passed_over(filling: bytes) -> None:
    turned = jpeg_with((0xFFE0, b"JFIF\0" + bytes(9)), (0xFFE1, TURNED))
    at = turned.index(b"\xff\xe1")
    encoded = turned[:at] + filling + turned[at:]
    assert decode(encoded).shape == (53, 37, 3)
    require_equal(encoded)


@pytest.mark.parametrize("after_pixels", [False, True])
def test_png_and_webp_are_turned_too(after_pixels: bool) -> None:
    for encoded in (
        png_with(TURNED, after_pixels),
        encode(photo_image(37, 53, "RGBA" if after_pixels else "RGB"), "WEBP", exif=TURNED),
    ):
        assert decode(encoded).shape == (53, 37, 3)
        require_equal(encoded)


def test_a_webp_frame_smaller_than_the_canvas_stands_on_black() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<L", len(content)) + content + bytes(len(content) % 2)

    def number(value: int) -> bytes:
        return struct.pack("<L", value)[:3]

    still = encode(photo_image(11, 13, "RGBA"), "WEBP", lossless=True, exact=True)
    place = [number(value) for value in (4 // 2, 6 // 2, 13 - 1, 11 - 1, 100)]  # left, top, width, height, duration
    frame = chunk(b"ANMF", b"".join(place) + bytes(1) + still[12:])
    canvas = chunk(b"VP8X", bytes([2 + 16, 0, 0, 0]) + number(20 - 1) + number(18 - 1))
    chunks = b"WEBP" + canvas + chunk(b"ANIM", bytes([9, 99, 199, 255, 0, 0])) + frame + frame
    encoded = b"RIFF" + struct.pack("<L", len(chunks)) + chunks
    assert (decode(encoded).numpy()[6:17, 4:17] == np.asarray(read_image(still))).all()
    require_equal(encoded)


def gif(colours: int, transparent: int | None = None, greys: bool = False, **options: object) -> bytearray:
    rng = np.random.default_rng(colours)
    image = Image.frombytes("P", (13, 11), rng.integers(0, colours, (11, 13), np.uint8).tobytes())
    palette = np.repeat(np.arange(colours), 3) if greys else rng.integers(0, 256, 3 * colours)
    image.putpalette(palette.tolist())
    transparency = {} if transparent is None else {"transparency": transparent}
    return bytearray(encode(image, "GIF", optimize=False, **transparency, **options))


def frame_of(encoded: bytes) -> int:
    """Where the descriptor of a GIF's first frame is, behind its shared colours and its extensions."""
    at = 13 + (3 << ((encoded[10] & 7) + 1) if encoded[10] & 128 else 0)
    while encoded[at] != ord(","):
        at += 2
        while encoded[at]:
            at += 1 + encoded[at]
        at += 1
    return at


@pytest.mark.parametrize("greys", [False, True])
@pytest.mark.parametrize("colours", [2, 3, 200, 256])
def test_a_gifs_transparent_pixels_keep_their_colour(colours: int, greys: bool) -> None:
    encoded = gif(colours, transparent=1, greys=greys, comment=b"x" * 600, interlace=colours % 2)
    assert Image.open(io.BytesIO(encoded)).info["transparency"] == 1
    require_equal(bytes(encoded))


@pytest.mark.parametrize("transparent", [None, 2])
@pytest.mark.parametrize(("canvas", "place"), [((20, 17), (4, 3)), ((13, 11), (4, 3)), ((9, 8), (0, 0))])
def test_a_gif_frame_need_not_be_the_canvas(
    canvas: tuple[int, int], place: tuple[int, int], transparent: int | None
) -> None:
    encoded = gif(5, transparent)
    encoded[6:10] = struct.pack("<HH", *canvas)
    at = frame_of(encoded)
    encoded[at + 1 : at + 5] = struct.pack("<HH", *place)
    require_equal(bytes(encoded))


def test_a_gif_of_its_own_colours_and_one_of_none() -> None:
    encoded = gif(5, transparent=3)
    at = frame_of(encoded)
    table = encoded[13 : 13 + (3 << ((encoded[10] & 7) + 1))]
    shared = encoded[:10] + bytes([encoded[10] & 127]) + encoded[11:13] + encoded[13 + len(table) : at + 9]
    own = shared + bytes([encoded[at + 9] | 128 | (encoded[10] & 7)]) + table + encoded[at + 10 :]
    none = shared + encoded[at + 9 :]
    assert len(np.unique(decode(bytes(own)))) > len(np.unique(decode(bytes(none)))) == 5
    for variant in (own, none):
        require_equal(bytes(variant))


@pytest.mark.parametrize(
    "content", [b"GIF89a", bytes(gif(5)[:40]), b"GIF89a" + bytes(7) + b";", b"RIFF", b"RIFF\0\0\0\0WEBP"]
)
def test_a_file_without_an_image_is_an_error(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(content)


def png_chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">L", len(content)) + checked + struct.pack(">L", zlib.crc32(checked))


def test_only_a_png_files_own_exif_counts() -> None:
    png, block = png_with(TURNED, after_pixels=False), TURNED.removeprefix(b"Exif\0\0")
    text = png_chunk(b"tEXt", b"Comment\0eXIf" + block)
    upright = encode(photo_image(37, 53), "PNG")
    frames = encode(photo_image(37, 53), "PNG", save_all=True, append_images=[photo_image(37, 53, "L").convert("RGB")])
    for encoded, shape in (
        (png[:-12] + text + png[-12:], (53, 37, 3)),
        (png[:33] + text + png[33:], (53, 37, 3)),
        (upright[:33] + text + upright[33:], (37, 53, 3)),
        (upright + png, (37, 53, 3)),
        (frames[:-12] + png_chunk(b"eXIf", block) + frames[-12:], (37, 53, 3)),
        (png_with(b"Exif\0\0" + TURNED, after_pixels=True), (53, 37, 3)),
    ):
        assert decode(encoded).shape == shape
        require_equal(encoded)


@pytest.mark.parametrize("cut", [1, 5, 12, 13, 16])
def test_a_png_that_is_cut_off_is_refused_by_both(cut: int) -> None:
    require_refused(encode(photo_image(37, 53), "PNG")[:-cut])


def test_damaged_pixels_are_refused_by_both() -> None:
    png = bytearray(encode(photo_image(37, 53), "PNG"))
    png[-17] ^= 1  # in the check sum of the pixels
    require_refused(bytes(png))
    webp = encode(photo_image(37, 53), "WEBP", exif=TURNED)
    for cut in (3, len(webp) - 20, len(webp) - 13):
        require_refused(webp[:-cut])


def require_refused(encoded: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(encoded)
    with pytest.raises(InputError):
        read_image(encoded)


def test_a_canvas_that_no_memory_holds_is_refused_by_both() -> None:
    bomb = gif(5)
    bomb[6:10] = struct.pack("<HH", 20_000, 15_000)
    require_refused(bytes(bomb))
    webp = bytearray(encode(photo_image(9, 9), "WEBP", lossless=True))
    assert webp[12:16] == b"VP8L"
    webp[21:25] = struct.pack("<L", 16_383 | 16_383 << 14)  # width and height less 1
    require_refused(bytes(webp))
    png = bytearray(encode(photo_image(9, 9), "PNG"))
    png[16:24] = struct.pack(">LL", 20_000, 15_000)
    png[29:33] = struct.pack(">L", zlib.crc32(png[12:29]))
    require_refused(bytes(png))


def test_inks_are_inverted_where_the_file_says_so() -> None:
    """Adobe's marker says that a JPEG's inks are light; Pillow takes those of any file for that."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 4), np.uint8)
    cyan = np.broadcast_to(np.array([200, 0, 0, 0], np.uint8), (37, 53, 4))
    for inks in (noise, cyan):
        jpeg = encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0)
        at = jpeg.index(b"\xff\xee")
        for encoded in (jpeg, jpeg[:at] + jpeg[at + 16 :]):
            require_equal(encoded)
    assert np.abs(decode(jpeg).numpy()[20, 20] - [55.0, 255.0, 255.0]).max() < 5 and decode(encoded).numpy().max() < 5


@pytest.mark.parametrize("greys", [False, True])
def test_an_index_beyond_a_gifs_colours(greys: bool) -> None:
    encoded = gif(16, transparent=200, greys=greys)
    encoded[6:10] = struct.pack("<HH", 20, 17)
    require_equal(bytes(encoded))


def test_a_palette_with_more_transparencies_than_colours() -> None:
    png = encode(photo_image(37, 53).quantize(8), "PNG")
    at = png.index(b"IDAT") - 4
    require_equal(png[:at] + png_chunk(b"tRNS", bytes(300)) + png[at:])
