"""What Pillow does to images, to the last bit, as TensorFlow graphs of any image size.

Facts about Pillow's resampling (`ImagingResample`, 8 bits): output pixel i looks at the input around (i + 0.5) * scale,
through a filter widened by the scale where that shrinks the image; its weights are cut off at the borders, normalised
in float64 and rounded to 22-bit fixed point; sums are integers, rounded half up and clipped to 0 ... 255.
"""

from collections.abc import Callable

import tensorflow as tf

from mpncov_zoo.images import EXIF_ORIENTATION

_FIXED_POINT_BITS = 22
_EXIF_SEARCH_BYTES, _EXIF_SEARCH_SEGMENTS = 2**18, 32  # the EXIF block, at most 64 KiB, stands near the beginning


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1 - tf.abs(x), 0)


def _cubic(x: tf.Tensor) -> tf.Tensor:
    """Keys' cubic convolution with a = -0.5."""
    x = tf.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * -0.5
    return tf.where(x < 1, inner, tf.where(x < 2, outer, 0))


_FILTERS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], float]] = {  # (filter, where it ends, in pixels)
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}


def resample(image: tf.Tensor, resized: tuple, start: tuple, size: tuple[int, int], interpolation: str) -> tf.Tensor:
    """Resize an image, width first, and return only a window of the result.

    Args:
        image: uint8 (height, width, channels), of any dynamic height and width.
        resized: (height, width) to resize to, ints or int32 scalars.
        start: (top, left) of the window in the resized image, ints or int32 scalars.
        size: (height, width) of the window.
        interpolation: "bilinear" or "bicubic".

    Returns:
        uint8 (*size, channels).
    """
    by_column = tf.transpose(image, (1, 0, 2))
    columns = _resample_first_axis(by_column, resized[1], start[1], size[1], interpolation)
    by_row = tf.transpose(columns, (1, 0, 2))
    window = _resample_first_axis(by_row, resized[0], start[0], size[0], interpolation)
    return tf.ensure_shape(window, (*size, image.shape[2]))


def _resample_first_axis(
    pixels: tf.Tensor, resized: tf.Tensor | int, start: tf.Tensor | int, count: int, interpolation: str
) -> tf.Tensor:
    """Resize uint8 (length, other, channels) along its first axis; return `count` of the new pixels from `start`."""
    length, other, channels = tf.unstack(tf.shape(pixels))
    weights = _resampling_weights(length, resized, start, count, interpolation)
    rows = tf.cast(tf.reshape(pixels, (length, other * channels)), tf.int32)
    # Sparse, as a new pixel is made of few old ones; in integers, as their sums don't depend on the order.
    sums = tf.sparse.sparse_dense_matmul(weights, rows) + 2 ** (_FIXED_POINT_BITS - 1)
    levels = tf.clip_by_value(tf.bitwise.right_shift(sums, _FIXED_POINT_BITS), 0, 255)
    return tf.reshape(tf.cast(levels, tf.uint8), (count, other, channels))


def _resampling_weights(
    length: tf.Tensor, resized: tf.Tensor | int, start: tf.Tensor | int, count: int, interpolation: str
) -> tf.SparseTensor:
    """Return the int32 fixed-point matrix (count, length) from `length` pixels to `count` of the `resized` ones."""
    filter_, support = _FILTERS[interpolation]
    scale = tf.cast(length, tf.float64) / tf.cast(resized, tf.float64)
    stretch = tf.maximum(scale, 1)
    reach = support * stretch
    centre = (tf.cast(start + tf.range(count), tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(centre - reach + 0.5, tf.int32), 0)
    end = tf.minimum(tf.cast(centre + reach + 0.5, tf.int32), length)
    column = first[:, tf.newaxis] + tf.range(tf.cast(tf.math.ceil(reach), tf.int32) * 2 + 1)
    weight = filter_((tf.cast(column, tf.float64) - centre[:, tf.newaxis] + 0.5) / stretch)
    inside = column < end[:, tf.newaxis]
    weight = tf.where(inside, weight, 0)
    weight = weight / tf.reduce_sum(weight, axis=1, keepdims=True)
    fixed = tf.cast(weight * 2**_FIXED_POINT_BITS + tf.sign(weight) * 0.5, tf.int32)  # casts truncate towards zero
    position = tf.where(inside)
    indices = tf.stack([position[:, 0], tf.cast(tf.boolean_mask(column, inside), tf.int64)], axis=1)
    shape = tf.stack([tf.constant(count, tf.int64), tf.cast(length, tf.int64)])
    return tf.SparseTensor(indices, tf.boolean_mask(fixed, inside), shape)


def luma(rgb: tf.Tensor) -> tf.Tensor:
    """Return Pillow's grey (height, width, 1) of uint8 (height, width, 3): ITU-R 601 weights in 16-bit fixed point."""
    weighted = tf.reduce_sum(tf.cast(rgb, tf.int32) * [19595, 38470, 7471], axis=-1, keepdims=True)
    return tf.cast((weighted + 2**15) // 2**16, tf.uint8)


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decode the content of a JPEG, PNG, WebP or GIF file, a string scalar, to uint8 (height, width, 3).

    The EXIF orientation of a JPEG is applied. Alpha is dropped, 16 bits become their upper 8, of a GIF the first frame
    is taken. BMP is refused: TensorFlow decodes palettes to wrong colours.
    """
    magic = tf.strings.substr(encoded, 0, 2)
    message = "received a BMP image; allowed: JPEG, PNG, WebP or GIF"
    with tf.control_dependencies([tf.debugging.Assert(magic != b"BM", [message])]):
        rgb = tf.cond(magic == b"\xff\xd8", lambda: _decode_jpeg(encoded), lambda: _decode_other(encoded))
    return tf.ensure_shape(rgb, (None, None, 3))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow's default method, the fast inaccurate one, is up to 3 levels from Pillow.
    rgb = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return _upright(rgb, _exif_orientation(encoded))


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror uint8 (height, width, channels) by an EXIF orientation, an integer scalar of 1 ... 8."""

    def where(orientations: list[int], change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
        applies = tf.reduce_any(orientation == tf.constant(orientations, orientation.dtype))
        return tf.cond(applies, lambda: change(image), lambda: image)

    image = where([5, 6, 7, 8], lambda image: tf.transpose(image, (1, 0, 2)), image)
    image = where([2, 3, 6, 7], lambda image: tf.reverse(image, [1]), image)
    return where([3, 4, 7, 8], lambda image: tf.reverse(image, [0]), image)


def _exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation, 1 ... 8, that a JPEG file's EXIF block states, 1 where it states none: int64 scalar."""
    head = tf.strings.substr(encoded, 0, _EXIF_SEARCH_BYTES)
    data = tf.pad(tf.io.decode_raw(head, tf.uint8), [[0, 4]])  # reads past the end give zeros
    block = _exif_block(data)
    little_endian = _number(data, block, 1) == ord("I")
    directory = block + _number(data, block + 4, 4, little_endian)
    entries = directory + 2 + 12 * tf.range(_number(data, directory, 2, little_endian))
    tags = _number(data, entries, 2, little_endian)
    values = _number(data, entries + 8, 2, little_endian)
    stated = tf.boolean_mask(values, (tags == EXIF_ORIENTATION) & (values >= 1) & (values <= 8))
    return tf.reduce_max(tf.concat([stated[:1], [1]], axis=0))


def _exif_block(data: tf.Tensor) -> tf.Tensor:
    """Return where the TIFF structure of a JPEG's EXIF block begins, or the end of the data: int64 scalar.

    A JPEG begins with the marker FFD8 and a chain of segments: marker FFxx, length (2 bytes, itself included), content.
    EXIF is the segment FFE1 whose content begins with "Exif" and two zeros; the image itself follows FFDA.
    """

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        return (_number(data, at, 2) == 0xFFE1) & (_number(data, at + 4, 4) == int.from_bytes(b"Exif"))

    def is_other(at: tf.Tensor) -> tf.Tensor:
        marker = _number(data, at, 2)
        return (marker >= 0xFFC0) & (marker != 0xFFDA) & tf.logical_not(is_exif(at))

    def next_segment(at: tf.Tensor) -> list[tf.Tensor]:
        return [at + 2 + _number(data, at + 2, 2)]

    start = tf.constant(2, tf.int64)
    (at,) = tf.while_loop(is_other, next_segment, [start], maximum_iterations=_EXIF_SEARCH_SEGMENTS)
    return tf.where(is_exif(at), at + 10, tf.size(data, tf.int64))


def _number(data: tf.Tensor, at: tf.Tensor, count: int, little_endian: tf.Tensor | bool = False) -> tf.Tensor:
    """Return the unsigned numbers of `count` bytes that begin at the offsets `at`: int64 of the shape of `at`."""
    offsets = tf.minimum(tf.expand_dims(at, -1) + tf.range(count, dtype=tf.int64), tf.size(data, tf.int64) - 1)
    digits = tf.cast(tf.gather(data, offsets), tf.int64)
    digits = tf.where(little_endian, tf.reverse(digits, [-1]), digits)
    return tf.reduce_sum(digits * [256**power for power in reversed(range(count))], axis=-1)
