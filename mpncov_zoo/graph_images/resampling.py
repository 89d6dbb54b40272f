"""What Pillow does to pixels, to the last bit, as TensorFlow graphs of any image size.

Facts about Pillow's resampling (`ImagingResample`, 8 bits): output pixel i looks at the input around (i + 0.5) * scale,
through a filter widened by the scale where that shrinks the image; its weights are cut off at the borders, normalised
in float64 and rounded to 22-bit fixed point; sums are integers, rounded half up and clipped to 0 ... 255.
"""

from collections.abc import Callable

import tensorflow as tf

_FIXED_POINT_BITS = 22


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
