"""One part of a data set, such as its training images, which are in memory or in one file each.

TensorFlow is imported when images are read, not when data sets are listed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.datasets.decoding import decode_by_pillow

if TYPE_CHECKING:
    import tensorflow as tf


class Split(ABC):
    """Labelled images that pipelines read.

    Attributes:
        labels: int32 (count,), the class of each image.
        class_names: in the order of the labels' numbers.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def take(self, indices: np.ndarray) -> Self:
        """The images at these positions; the classes stay."""

    @abstractmethod
    def examples(self, shuffle: tf.Tensor | None = None) -> tf.data.Dataset:
        """(item, label int32, index int64) of each image once; the item is what `decode` takes.

        Args:
            shuffle: int64 (2,), which alone decides on the order; without it the order is that of `labels`.
        """

    @abstractmethod
    def decode(self, item: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
        """An item's pixels, uint8 (height, width, spec.channels), of static or dynamic height and width.

        It is traced without AutoGraph.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of an image in messages and records, which no other image of the split has."""

    def fingerprint(self) -> str:
        """A digest of the images, labels and classes, 64 hex digits: equal digests mean equal data."""
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        digest.update(np.asarray(self.labels, "<i4").tobytes())
        for part in self._identity():
            digest.update(part)
        return digest.hexdigest()

    def summary(self) -> str:
        """How many images there are, and the beginning of their digest, as records state it."""
        return f"{len(self)} images, {self.fingerprint()[:16]}"

    @abstractmethod
    def _identity(self) -> Iterator[bytes]:
        """The bytes that tell these images from others."""


@dataclass(frozen=True)
class Images(Split):
    """Images in memory: pixels uint8 (count, height, width, channels), labels int32 (count,), class names."""

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def take(self, indices: np.ndarray) -> Images:
        return Images(self.pixels[indices], self.labels[indices], self.class_names)

    def examples(self, shuffle: tf.Tensor | None = None) -> tf.data.Dataset:
        import tensorflow as tf

        pixels = held(self.pixels)
        return _numbered(self.labels, shuffle).map(lambda label, index: (tf.gather(pixels, index), label, index))

    def decode(self, item: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
        if item.shape[2] == spec.channels:
            return item
        import tensorflow as tf

        from mpncov_zoo.graph_images import luma

        return luma(item) if spec.channels == 1 else tf.image.grayscale_to_rgb(item)

    def _identity(self) -> Iterator[bytes]:
        yield f"{self.pixels.shape}".encode()
        yield self.pixels.tobytes()

    def name(self, index: int) -> str:
        return f"image {index}"

    def encoded(self, index: int) -> bytes:
        """An image as a PNG file."""
        pixels, stream = self.pixels[index], io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PNG")
        return stream.getvalue()


@dataclass(frozen=True)
class Files(Split):
    """Images in files, read when they are needed: paths below a directory, labels int32 (count,), class names."""

    root: Path
    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]

    def take(self, indices: np.ndarray) -> Files:
        paths = tuple(self.paths[index] for index in indices)
        return Files(self.root, paths, self.labels[indices], self.class_names)

    def examples(self, shuffle: tf.Tensor | None = None) -> tf.data.Dataset:
        import tensorflow as tf

        paths = held([os.fsencode(path) for path in self.paths])
        return _numbered(self.labels, shuffle).map(lambda label, index: (tf.gather(paths, index), label, index))

    def decode(self, item: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
        return decode_by_pillow(item, spec, lambda path: self.root / os.fsdecode(path))

    def _identity(self) -> Iterator[bytes]:
        """The names and sizes of the files, since to read all files would take as long as an epoch."""
        for path in self.paths:
            yield os.fsencode(path) + b"\0%d\0" % _size(self.root / path)

    def name(self, index: int) -> str:
        return self.paths[index]  # below `root`

    def encoded(self, index: int) -> bytes:
        """The content of an image's file."""
        return (self.root / self.paths[index]).read_bytes()


def held(values: Any) -> tf.Tensor:
    """A constant outside of the graph that is being traced, since graphs are copied, rewritten and limited in size."""
    import tensorflow as tf

    with tf.init_scope():
        return tf.constant(values)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _numbered(labels: np.ndarray, shuffle: tf.Tensor | None) -> tf.data.Dataset:
    """Pairs (label int32, index int64), in order or shuffled."""
    import tensorflow as tf

    from mpncov_zoo.training.augmentation import stateless

    order: Any = tf.range(len(labels), dtype=tf.int64)
    if shuffle is not None:
        order = stateless.stateless_shuffle(order, seed=shuffle)
    return tf.data.Dataset.from_tensor_slices((tf.gather(held(labels), order), order))


def split_holdout(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """Divide a split by a seeded shuffle into the images to train on and `count` others.

    Raises:
        InputError: nothing is left to train on.
    """
    if count >= len(split):
        raise InputError(f"holdout={count} leaves nothing to train on: there are {len(split)} images.")
    order = np.random.default_rng(seed).permutation(len(split))
    first = len(split) - count
    return split.take(np.sort(order[:first])), split.take(np.sort(order[first:]))


def require_usable(split: Split, *, training: bool) -> None:
    """Refuse a split that nothing can be learned from.

    Raises:
        InputError: no image, fewer than two classes, or (in training) a class without images.
    """
    if not len(split):
        raise InputError("There is no image.")
    if len(split.class_names) < 2:
        raise InputError(f"There is one class only, {''.join(split.class_names)!r}; a classifier needs two or more.")
    counts = np.bincount(split.labels, minlength=len(split.class_names))
    empty = [name for name, images in zip(split.class_names, counts, strict=True) if not images]
    if training and empty:
        raise InputError(f"{len(empty)} of {len(counts)} classes have no training image: {', '.join(empty[:5])}.")
