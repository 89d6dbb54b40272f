"""The orientation that an image file states in its EXIF block, read and applied in a TensorFlow graph as by Pillow."""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from mpncov_zoo.graph_images import binary
from mpncov_zoo.images import EXIF_ORIENTATION

_SIZES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 0]  # bytes of a value, by its type; 0: no such type
_PREFIX = b"Exif\0\0"
_INTEGERS = [3, 4, 6, 8, 9, 13, 16]  # types; to Pillow a BYTE, type 1, is no number


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror uint8 (height, width, channels) by an EXIF orientation, an integer scalar of 1 ... 8."""

    def where(orientations: list[int], change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
        applies = tf.reduce_any(orientation == tf.constant(orientations, orientation.dtype))
        return tf.cond(applies, lambda: change(image), lambda: image)

    image = where([5, 6, 7, 8], lambda image: tf.transpose(image, (1, 0, 2)), image)
    image = where([2, 3, 6, 7], lambda image: tf.reverse(image, [1]), image)
    return where([3, 4, 7, 8], lambda image: tf.reverse(image, [0]), image)


def orientation_of(data: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return the orientation, 1 ... 8, that the EXIF block from `start` to `end` states, else 1: int64 scalar.

    The block is a TIFF file: byte order, 42, and where its directory is; that is a number of entries of a tag, a type,
    how many values, and the values or, where they take more than 4 bytes, where they are.
    """
    for _ in range(2):  # a prefix that JPEG has, and some writers repeat
        is_prefixed = binary.number(data, start, 6) == int.from_bytes(_PREFIX)
        start = binary.where(is_prefixed & (start + 6 <= end), start + 6, start)
    little_endian = binary.is_named(data, start, b"II*\0", b"II\0*")
    number = partial(binary.number, data, little_endian=little_endian)
    is_block = (little_endian | binary.is_named(data, start, b"MM\0*", b"MM*\0")) & (start + 8 <= end)
    directory = start + number(start + 4, 4)
    entries = directory + 2 + 12 * tf.range(binary.where(is_block, number(directory, 2), 0))
    entries = tf.boolean_mask(entries, entries + 12 <= end)
    types = number(entries + 2, 2)
    size = tf.gather(tf.constant(_SIZES, tf.int64), tf.minimum(types, len(_SIZES) - 1))
    length = number(entries + 4, 4) * size
    values = binary.where(length > 4, start + number(entries + 8, 4), entries + 8)
    # Pillow passes over values that cannot fit into the block, and stops at others that are cut off.
    fits = (length <= 4) | (tf.cumsum(binary.where(length > 4, length, 0)) <= end - start)
    is_read = tf.math.cumprod(tf.cast(tf.logical_not(fits) | (values + length <= end), tf.int32)) > 0
    is_stated = is_read & fits & (length > 0) & (number(entries, 2) == EXIF_ORIENTATION)
    stated = tf.where(is_stated)[:1, 0]
    type_, size, at = (tf.gather(x, stated) for x in (types, size, values))
    value = tf.add_n([binary.where(size == count, number(at, count), 0) for count in (1, 2, 4, 8)])
    is_number = tf.reduce_any(type_[:, tf.newaxis] == tf.constant(_INTEGERS, tf.int64), axis=1)
    value = tf.boolean_mask(value, is_number & (value >= 1) & (value <= 8))
    return tf.reduce_max(tf.concat([value, [1]], axis=0))


def jpeg_block(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where a JPEG's EXIF block begins and ends: int64 scalars, equal where there is none.

    A JPEG begins with the marker FFD8 and a chain of segments: marker FFxx, length (2 bytes, itself included), content.
    Any number of FF may stand before a marker, and some markers stand alone. EXIF is the segment FFE1 whose content
    begins with "Exif" and two zeros; the image itself follows FFDA.
    """

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        is_filled = binary.number(data, at + 2, 2) > 2 + len(_PREFIX)
        is_named = binary.number(data, at + 4, 6) == int.from_bytes(_PREFIX)
        return (binary.number(data, at, 2) == 0xFFE1) & is_named & is_filled

    def is_other(at: tf.Tensor) -> tf.Tensor:
        return (at < binary.end(data)) & (binary.number(data, at, 2) != 0xFFDA) & tf.logical_not(is_exif(at))

    def step(at: tf.Tensor) -> list[tf.Tensor]:
        marker = binary.number(data, at, 2)
        is_filling = (marker < 0xFF00) | (marker == 0xFFFF)
        is_alone = (marker == 0xFF00) | ((marker >= 0xFFD0) & (marker <= 0xFFD9))
        return [at + binary.where(is_filling, 1, binary.where(is_alone, 2, 2 + binary.number(data, at + 2, 2)))]

    (at,) = tf.while_loop(is_other, step, [tf.constant(2, tf.int64)], maximum_iterations=binary.MAX_STEPS)
    start = at + 4
    return start, binary.where(is_exif(at), at + 2 + binary.number(data, at + 2, 2), start)


def png_block(encoded: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where a PNG's EXIF block begins and ends: int64 scalars, equal where there is none.

    A PNG is 8 bytes and a row of chunks: length (4 bytes), name (4), content, check sum (4). EXIF is the last chunk
    eXIf, before the pixels or after them; of an animation Pillow reads no chunk behind the first frame. The walk may
    take longer than the decoding of the pixels, so it is not begun where the name is nowhere in the file.
    """
    nowhere = tf.constant(0, tf.int64)

    def inside(at: tf.Tensor, found: tf.Tensor, in_pixels: tf.Tensor) -> tf.Tensor:
        is_next_frame = in_pixels & binary.is_named(data, at + 4, b"fcTL")
        is_end = binary.is_named(data, at + 4, b"IEND") | is_next_frame
        return (at + 12 <= binary.end(data)) & tf.logical_not(is_end)

    def step(at: tf.Tensor, found: tf.Tensor, in_pixels: tf.Tensor) -> list[tf.Tensor]:
        found = binary.where(binary.is_named(data, at + 4, b"eXIf"), at, found)
        in_pixels |= binary.is_named(data, at + 4, b"IDAT")
        return [at + 12 + binary.number(data, at, 4), found, in_pixels]

    def walk() -> tf.Tensor:
        start = [tf.constant(8, tf.int64), nowhere, tf.constant(False)]
        return tf.while_loop(inside, step, start, maximum_iterations=binary.MAX_STEPS)[1]

    is_somewhere = tf.strings.length(tf.strings.regex_replace(encoded, "eXIf", "")) < tf.strings.length(encoded)
    at = tf.cond(is_somewhere, walk, lambda: nowhere)
    return at + 8, binary.where(at > 0, at + 8 + binary.number(data, at, 4), at + 8)
