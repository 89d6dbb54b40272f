"""Reads and writes the bytes of files as numbers, in a TensorFlow graph; every number is int64."""

import tensorflow as tf

MAX_STEPS = 2**16  # of a walk through a file, which usually has ten segments, chunks or blocks
_PADDING = 8
_BYTES = [bytes([value]) for value in range(256)]


def content(encoded: tf.Tensor) -> tf.Tensor:
    """Return the bytes of a file, a string scalar, as uint8; what is read past its end is zero."""
    return tf.io.decode_raw(tf.strings.join([encoded, bytes(_PADDING)]), tf.uint8)


def end(data: tf.Tensor) -> tf.Tensor:
    """Return where the file ends."""
    return tf.size(data, tf.int64) - _PADDING


def part(encoded: tf.Tensor, at: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """Return so many bytes of a file from an offset on, or fewer where it ends before: a string scalar."""
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    return tf.strings.substr(encoded, tf.clip_by_value(at, 0, length), tf.maximum(tf.cast(count, tf.int64), 0))


def number(data: tf.Tensor, at: tf.Tensor | int, count: int, little_endian: tf.Tensor | bool = False) -> tf.Tensor:
    """Return the unsigned numbers of `count` bytes that begin at the offsets `at`: int64 of the shape of `at`."""
    return _number(data, tf.cast(at, tf.int64), tf.cast(little_endian, tf.bool), count=count)


@tf.function(autograph=False)  # so that a graph holds it once
def _number(data: tf.Tensor, at: tf.Tensor, little_endian: tf.Tensor, count: int) -> tf.Tensor:
    offsets = tf.expand_dims(at, -1) + tf.range(count, dtype=tf.int64)
    digits = tf.cast(tf.gather(data, tf.clip_by_value(offsets, 0, tf.size(data, tf.int64) - 1)), tf.int64)
    digits = tf.where(little_endian, tf.reverse(digits, [-1]), digits)
    return tf.reduce_sum(digits * [256**power for power in reversed(range(count))], axis=-1)


def text(numbers: tf.Tensor, count: int) -> tf.Tensor:
    """Return numbers as `count` bytes each, the lowest first: a string scalar."""
    digits = tf.bitwise.right_shift(tf.expand_dims(numbers, -1), 8 * tf.range(count, dtype=tf.int64))
    return tf.strings.reduce_join(tf.gather(_BYTES, tf.reshape(digits % 256, [-1])))


def where(condition: tf.Tensor, yes: tf.Tensor | int, no: tf.Tensor | int) -> tf.Tensor:
    """`tf.where` of int64."""
    return tf.where(condition, tf.cast(yes, tf.int64), tf.cast(no, tf.int64))


def masked(number: tf.Tensor, mask: tf.Tensor | int) -> tf.Tensor:
    """Return the bits of a number that are set in the mask."""
    return tf.bitwise.bitwise_and(number, tf.cast(mask, tf.int64))


def padded(size: tf.Tensor) -> tf.Tensor:
    """Return a size, or one more to make it even."""
    return size + masked(size, 1)


def is_named(data: tf.Tensor, at: tf.Tensor | int, *names: bytes) -> tf.Tensor:
    """Return whether one of these names of four bytes stands at each offset: bool of the shape of `at`."""
    return tf.reduce_any([number(data, at, 4) == int.from_bytes(name) for name in names], axis=0)
