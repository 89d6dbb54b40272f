"""Whatever a user calls an image -> an upright 8-bit Pillow image, or one clear InputError."""

import os
import stat
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from mpncov_zoo.errors import InputError

ChannelOrder = Literal["RGB", "L"]
ImageSource = (
    Any  # str | PathLike | bytes | PIL image | uint8 array: checked by read_image, which names what is allowed
)

# by which files in folders are taken for images, in capitals, too
IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
EXIF_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"

_ALLOWED = "a path, encoded bytes (JPEG, PNG ...), a PIL image or a uint8 array (height, width[, 1, 3 or 4])"
_16_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: ImageSource, channel_order: ChannelOrder = "RGB") -> Image.Image:
    """Read one image, upright by its EXIF orientation, as 8-bit RGB or L (grey).

    Colours follow Pillow's `convert`, as in torchvision and timm: an alpha channel is dropped, not composited (do that
    first, over a background of your choice, if hidden colours matter), and colour profiles are ignored. Two things
    differ: 16-bit greys, which Pillow would clip, keep their upper 8 bits, as Pillow does with 16-bit colours; and
    CMYK becomes RGB as in TensorFlow, one level away.

    Args:
        source: a path, encoded bytes, a PIL image (left as it is), or a uint8 array (height, width), or
            (height, width, channels) with 1 (grey), 3 (RGB) or 4 (RGBA) channels. RGB is taken at its word: an OpenCV
            array is BGR, which no one can tell from the pixels; reverse it first, `array[..., ::-1]`.
        channel_order: "RGB" or "L".

    Returns:
        A new PIL image of mode `channel_order`.

    Raises:
        InputError: the source is missing, damaged, empty, or of another type, shape or dtype.

    Example:
        >>> read_image("bird.jpg").size
        (500, 375)
    """
    if isinstance(source, Image.Image):
        image = _decode(lambda: source, "the PIL image")
    elif isinstance(source, (str, os.PathLike)):
        encoded = _read_file(source)
        image = _decode(lambda: _open(encoded), _quoted(source))
    elif isinstance(source, (bytes, bytearray, memoryview)):
        image = _decode(lambda: _open(source), f"the {len(source)} bytes given")
    elif hasattr(source, "__array__"):
        image = Image.fromarray(_checked_pixels(np.asarray(source)))
    else:
        raise InputError(f"received {_kind(source)} as an image; allowed: {_ALLOWED}")
    inverted = image.format == "JPEG" and "adobe" not in image.info
    converted = _convert(_upright(image), channel_order, inverted=inverted)
    return converted.copy() if converted is source else converted


def has_image_suffix(name: str) -> bool:
    """Is a file of this name taken for an image?"""
    return name.lower().endswith(IMAGE_SUFFIXES)


def count_pixels(source: ImageSource) -> int:
    """Return the number of pixels that the header of an image file, or of its content, states.

    What is decoded already counts for nothing here, and so does no image: whoever reads it says what is wrong with it.
    """
    encoded = isinstance(source, bytes | bytearray | memoryview)
    if not encoded and not (isinstance(source, str | os.PathLike) and os.path.isfile(source)):
        return 0
    try:
        with Image.open(BytesIO(source) if encoded else source) as image:
            return image.width * image.height
    except Exception:  # Pillow raises all kinds on damaged data
        return 0


def _kind(source: object) -> str:
    return "None" if source is None else f"an object of type {type(source).__name__}"


def _quoted(path: str | os.PathLike) -> str:
    return repr(os.fspath(path))


def _read_file(path: str | os.PathLike) -> bytes:
    """Return the content of an image file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise InputError(f"{_quoted(path)} is a pipe or a device, which is not waited for; give an image file")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"no file {_quoted(path)} (from {os.getcwd()}); give the path of an image file") from None
    except IsADirectoryError:
        raise InputError(f"{_quoted(path)} is a directory; give an image file, or a list of them") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(f"{_quoted(path)} cannot be read: {error}") from None


def _open(encoded: bytes | bytearray | memoryview) -> Image.Image:
    """Open the content of a file, but no EPS; refuse a PNG that is cut off or damaged, which Pillow takes for whole."""
    if bytes(encoded[:8]) == _PNG:
        _require_whole(memoryview(encoded))
    image = Image.open(BytesIO(encoded))
    if image.format == "EPS":  # a program: Pillow would start Ghostscript to run it
        raise UnidentifiedImageError
    return image


def _require_whole(png: memoryview) -> None:
    """Look at a PNG's chunks, each a length (4 bytes), a name (4), content and a check sum (4), until its end."""
    at, name = len(_PNG), b""
    while name != b"IEND":
        length, name = int.from_bytes(png[at : at + 4]), bytes(png[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(png):
            raise OSError("it ends before its last chunk")
        if name[:1].isupper() and zlib.crc32(png[at + 4 : end]) != int.from_bytes(png[end : end + 4]):
            raise OSError(f"the check sum of its chunk {name.decode('latin-1')} is another")
        at = end + 4


def _decode(open_image: Callable[[], Image.Image], name: str) -> Image.Image:
    """Open an image and decode all of its pixels; `name` is what an error calls it."""
    try:
        image = open_image()
        if 0 not in image.size:
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        advice = "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        raise InputError(f"{name} is too large, perhaps a decompression bomb: {error}; {advice}") from None
    except UnidentifiedImageError:
        raise InputError(f"{name}: not an image that Pillow can read; allowed: JPEG, PNG, WebP, TIFF ...") from None
    except Exception as error:  # decoders raise all kinds on damaged data: OSError, SyntaxError, struct.error ...
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{name}: truncated or damaged ({reason}); copy or download the image again") from None
    if 0 in image.size:
        raise InputError(f"{name} has no pixels (width x height {image.width}x{image.height}); allowed: at least 1x1")
    return image


def _checked_pixels(array: np.ndarray) -> np.ndarray:
    """Return a uint8 array as Pillow takes it, (height, width) or (height, width, 3), or refuse it."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        allowed = "(height, width) or (height, width, channels), at least 1x1 pixels"
        raise InputError(f"received an array of shape {array.shape} as one image; allowed: {allowed}")
    if array.dtype != np.uint8:
        raise InputError(f"received a {array.dtype} array; allowed: uint8, values 0 to 255. {_dtype_advice(array)}")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        advice = "channels come last; a batch of grey images is (batch, height, width, 1)"
        raise InputError(f"received an array of shape {array.shape}; allowed: 1, 3 or 4 channels: {advice}")
    pixels = array[..., 0] if array.shape[2:] == (1,) else array[..., :3] if array.ndim == 3 else array
    return np.ascontiguousarray(pixels)


def _dtype_advice(array: np.ndarray) -> str:
    """Say how to get to uint8 from what the values look like."""
    if array.dtype.kind == "b":
        return "Masks: array.astype('uint8') * 255"
    if array.dtype.kind in "iu":
        return f"It holds {array.min()} to {array.max()}: array.astype('uint8') up to 255, (array >> 8) first if 16-bit"
    if array.dtype.kind != "f":
        return "Give the pixels as numbers"
    if np.isnan(array).any():
        return "It holds NaN: find out where that comes from"
    low, high = array.min(), array.max()
    if low >= 0 and high > 1:
        return f"It holds {low:g} to {high:g}: array.round().astype('uint8') if these are levels of 255"
    scaled = "; if scaled to [0, 1]: (array * 255).round().astype('uint8')" if low >= 0 else ""
    return f"It holds {low:g} to {high:g}: already normalised? pass it to the model directly{scaled}"


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of a decoded image (Pillow has already applied a TIFF's).

    Not by `image.getexif()`, which takes the orientation from XMP where EXIF states none; graphs cannot.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(EXIF_ORIENTATION)
    except Exception:  # malformed metadata of any kind is no reason to refuse good pixels
        return image
    # Not ImageOps.exif_transpose: it writes the other tags anew, and fails on odd ones.
    transpose = _EXIF_TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
    return image if transpose is None else image.transpose(transpose)


def _convert(image: Image.Image, channel_order: ChannelOrder, *, inverted: bool = False) -> Image.Image:
    """Return an image of mode "RGB" or "L"; one that has the mode already is not copied.

    Args:
        image: to be converted.
        channel_order: the mode.
        inverted: its inks, if it has any, are light.
    """
    if image.mode == channel_order == "RGB":
        return image
    if image.mode in _16_BIT_MODES | {"I", "F"}:
        image = Image.fromarray(_to_8_bit(np.asarray(image), image.mode))
    elif image.mode == "P":
        image = image.copy()
        image.info.pop("transparency", None)  # of which Pillow would warn, or refuse one of the wrong length
    elif image.mode == "CMYK":
        image = Image.fromarray(_without_inks(np.asarray(image), inverted=inverted))
    try:
        rgb = image.convert("RGB")
    except ValueError:
        advice = "convert it yourself first: image.convert('RGB') via a mode that Pillow supports"
        raise InputError(
            f"received an image of mode {image.mode}, which Pillow cannot turn into RGB; {advice}"
        ) from None
    return rgb if channel_order == "RGB" else rgb.convert("L")


def _without_inks(inks: np.ndarray, *, inverted: bool) -> np.ndarray:
    """Turn cyan, magenta, yellow and black, uint8 (height, width, 4), into RGB as TensorFlow's decoder does.

    Pillow's own conversion rounds otherwise, by one level; and it takes every JPEG for one with Adobe's inverted inks.
    """
    light = (inks if inverted else 255 - inks).astype(np.uint16)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _to_8_bit(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale the values (height, width) of a grey image of a 16-bit mode, I or F to uint8; Pillow's convert clips them.

    "I" does not say how many of its 32 bits count: up to 255 they are levels, up to 65535 those of a 16-bit image.
    """
    low, high = values.min(), values.max()
    if mode in _16_BIT_MODES or (mode == "I" and low >= 0 and 255 < high <= 65535):
        return (values >> 8).astype(np.uint8)
    if not (low >= 0 and high <= 255) or (mode == "F" and 0 < high <= 1):  # NaN fails the first comparison
        allowed = "0 to 255" + (" (not scaled to [0, 1])" if mode == "F" else ", or 0 to 65535")
        advice = "scale it and convert it to mode L first"
        raise InputError(
            f"received an image of mode {mode} with values {low:g} to {high:g}; allowed: {allowed}; {advice}"
        )
    return np.rint(values).astype(np.uint8)
