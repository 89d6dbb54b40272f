"""Writes one TFRecord file of a packed data set, and reads it back."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError, IntegrityError
from mpncov_zoo.hub.verification import sha256
from mpncov_zoo.images import read_image
from mpncov_zoo.training.datasets.checking import problem
from mpncov_zoo.training.datasets.shards import Shard
from mpncov_zoo.training.datasets.splits import Files, Images

JPEG_QUALITY = 95  # of images that were shrunk; without subsampling of colours
_STORED = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/class/label": tf.io.FixedLenFeature((), tf.int64),
}


def write_shard(split: Files | Images, indices: Iterable[int], path: Path, short_side: int | None) -> Shard:
    """Write the images at these positions, except those that cannot be decoded, and read the file back.

    Args:
        split: the images.
        indices: positions in it, in the order of writing.
        path: of the shard; it appears complete or not at all.
        short_side: larger images are shrunk to it, in pixels, by `shrink`; None keeps the bytes of every file.

    Raises:
        InputError: the disk refuses.
        IntegrityError: what was written reads back as something else.
    """
    with complete(path) as partial:
        labels, corrupt = _write_records(split, indices, partial, short_side)
        size, digest = partial.stat().st_size, sha256(partial)
        shard = Shard(file=path.name, size=size, sha256=digest, labels=tuple(labels), corrupt=corrupt)
        verify_shard(partial, shard)
    return shard


def _write_records(
    split: Files | Images, indices: Iterable[int], path: Path, short_side: int | None
) -> tuple[list[int], dict[str, str]]:
    """The labels of the images that were written; and of the others, by name, why they were not."""
    labels: list[int] = []
    corrupt: dict[str, str] = {}
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index in indices:
                encoded, reason = _content(split, index)
                if reason:
                    corrupt[split.name(index)] = reason
                    continue
                labels.append(int(split.labels[index]))
                writer.write(_record(split, index, encoded if short_side is None else shrink(encoded, short_side)))
    except tf.errors.OpError as error:  # of the disk: it is full, or gone
        raise InputError(f"{path} cannot be written: {error.message}.") from error
    return labels, corrupt


def _content(split: Files | Images, index: int) -> tuple[bytes, str | None]:
    """The bytes of an image's file, and what is wrong with them."""
    try:
        encoded = split.encoded(index)
    except OSError as error:
        return b"", f"it cannot be read: {error.strerror}"
    return encoded, problem(encoded)


def _record(split: Files | Images, index: int, encoded: bytes) -> bytes:
    label = int(split.labels[index])
    features = {
        "image/encoded": _bytes(encoded),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/class/text": _bytes(os.fsencode(split.class_names[label])),
        "image/filename": _bytes(os.fsencode(split.name(index))),
    }
    example: Any = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _bytes(value: bytes) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def shrink(encoded: bytes, short_side: int) -> bytes:
    """The bytes of an image, turned upright and shrunk to a short side in pixels; smaller images stay unchanged."""
    with Image.open(io.BytesIO(encoded)) as opened:
        grey, jpeg, size = opened.mode == "L", opened.format == "JPEG", opened.size
    if min(size) <= short_side:
        return encoded
    image = read_image(encoded, "L" if grey else "RGB")
    width, height = image.size
    shortest = min(width, height)
    resized = image.resize((short_side * width // shortest, short_side * height // shortest), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    if jpeg:
        resized.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        resized.save(stream, "PNG")
    return stream.getvalue()


def verify_shard(path: Path, shard: Shard) -> None:
    """Read every byte and every record of a shard, and decode every image.

    Raises:
        IntegrityError: the file is not what was written.
    """
    if not path.is_file() or path.stat().st_size != shard.size or sha256(path) != shard.sha256:
        raise IntegrityError(f"{path} is not the shard that was packed. Delete it and pack again.")
    labels = []
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            stored = tf.io.parse_single_example(record, _STORED)
            labels.append(int(stored["image/class/label"]))
            reason = problem(stored["image/encoded"].numpy())
            if reason:
                raise IntegrityError(f"{path}, record {len(labels) - 1}: {reason}.")
    except tf.errors.OpError as error:
        raise IntegrityError(f"{path} cannot be read: {error.message}.") from error
    if tuple(labels) != shard.labels:
        raise IntegrityError(f"{path} holds other labels than its index says.")
