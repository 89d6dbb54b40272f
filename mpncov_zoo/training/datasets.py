"""Data sets as they are published, and the tf.data pipelines that feed them to a network."""

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from mpncov_zoo.errors import InputError
from mpncov_zoo.graph_images import luma
from mpncov_zoo.manifest import InputSpecification
from mpncov_zoo.preprocessing import normalize_tensor, resize_and_crop_tensor
from mpncov_zoo.training.recipes import Augmentation

FASHION_MNIST_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_IDX_FILES = {"train": "train", "test": "t10k"}
_WHERE = (
    "On Debian `apt install dataset-fashion-mnist` puts them into /usr/share/datasets/fashion-mnist; elsewhere "
    "`python -c 'import keras; keras.datasets.fashion_mnist.load_data()'` into ~/.keras/datasets/fashion-mnist."
)


_stateless = tf.random.experimental  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class Images:
    """A data set in memory: pixels uint8 (count, height, width, channels), labels int32 (count,), class names."""

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Images":
        """The images at these positions."""
        return Images(self.pixels[indices], self.labels[indices], self.class_names)


def fashion_mnist(directory: str | Path, split: str) -> Images:
    """Fashion-MNIST (Xiao et al., 2017; MIT licence) from its four idx.gz files.

    Args:
        directory: holds train-images-idx3-ubyte.gz and its three siblings.
        split: "train" (60,000 images of 28x28x1) or "test" (10,000).

    Raises:
        InputError: a file is missing or not what it should be, or there is no such split.
    """
    if split not in _IDX_FILES:
        raise InputError(f"Fashion-MNIST has the splits {', '.join(_IDX_FILES)}. Received: {split!r}.")
    prefix = Path(directory) / _IDX_FILES[split]
    pixels = read_idx(prefix.with_name(f"{prefix.name}-images-idx3-ubyte.gz"), dimensions=3)
    labels = read_idx(prefix.with_name(f"{prefix.name}-labels-idx1-ubyte.gz"), dimensions=1)
    if len(pixels) != len(labels):
        raise InputError(f"{prefix}-*: {len(pixels)} images but {len(labels)} labels.")
    if labels.max(initial=0) >= len(FASHION_MNIST_LABELS):
        raise InputError(f"{prefix}-labels: a label of {labels.max()}; Fashion-MNIST has 0 to 9.")
    return Images(pixels[..., None], labels.astype(np.int32), FASHION_MNIST_LABELS)


DATASETS: Mapping[str, Callable[[str | Path, str], Images]] = {"fashion_mnist": fashion_mnist}


def read_dataset(name: str, directory: str | Path, split: str) -> Images:
    """A data set of `DATASETS` from its directory.

    Raises:
        InputError: no such data set or split, or its files cannot be used.
    """
    if name not in DATASETS:
        raise InputError(f"No reader for the data set {name!r}; allowed are {', '.join(DATASETS)}.")
    return DATASETS[name](directory, split)


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """A gzipped idx file of unsigned bytes as a uint8 array.

    Raises:
        InputError: missing, damaged, or of another kind.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. {_WHERE}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a readable gzip file: {error}.") from error
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{path} is not an idx file of bytes in {dimensions} dimensions.")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != np.prod(shape, dtype=np.int64):
        raise InputError(f"{path} holds {len(data) - header} bytes, its header says {shape}: a truncated download?")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def split_holdout(images: Images, count: int, seed: int) -> tuple[Images, Images]:
    """The images to train on and `count` others, by a seeded shuffle."""
    if count >= len(images):
        raise InputError(f"holdout={count} leaves nothing to train on: there are {len(images)} images.")
    order = np.random.default_rng(seed).permutation(len(images))
    first = len(images) - count
    return images.take(np.sort(order[:first])), images.take(np.sort(order[first:]))


def evaluation_batches(images: Images, spec: InputSpecification, batch_size: int = 250) -> tf.data.Dataset:
    """(images float32 (batch, height, width, channels), labels int32 (batch,)), in order, each once.

    The images become what `preprocess` makes of them, also where they are not of the network's size or colours.
    """
    examples = tf.data.Dataset.from_tensor_slices((images.pixels, images.labels))
    shape = images.pixels.shape[1:]
    if shape[2] != spec.channels:
        change = luma if spec.channels == 1 else tf.image.grayscale_to_rgb
        examples = examples.map(lambda x, y: (change(x), y), num_parallel_calls=tf.data.AUTOTUNE)
    if shape[:2] != spec.size or spec.crop_fraction != 1:
        examples = examples.map(lambda x, y: (resize_and_crop_tensor(x, spec), y), num_parallel_calls=tf.data.AUTOTUNE)
    return examples.batch(batch_size).map(lambda x, y: (normalize_tensor(x, spec), y)).prefetch(2)


def training_batches(
    images: Images, spec: InputSpecification, augmentation: Augmentation, *, batch_size: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """Augmented full batches without end, from an epoch on: order and augmentation depend on seed and epoch alone.

    So a run that resumes after an epoch sees the same batches as one that was never interrupted.
    """
    pixels, labels = tf.constant(images.pixels), tf.constant(images.labels)
    count = len(images)

    def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.cast(seed, tf.int64), number])
        order = _stateless.stateless_shuffle(tf.range(count), seed=epoch_seed)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True).enumerate()
        return batches.map(lambda index, chosen: batch(epoch_seed, index, chosen), num_parallel_calls=2)

    def batch(epoch_seed: tf.Tensor, index: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_seed = epoch_seed + tf.stack([tf.constant(0, tf.int64), index * 2**32])
        x = augment(tf.gather(pixels, chosen), augmentation, batch_seed)
        return normalize_tensor(x, spec), tf.gather(labels, chosen)

    return tf.data.Dataset.range(epoch, tf.int64.max).flat_map(one_epoch).prefetch(4)


def augment(images: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Random crops and mirror images: uint8 (batch, height, width, channels) -> the same shape.

    Args:
        images: the originals.
        augmentation: what may change.
        seed: int64 (2,); the same seed gives the same images.
    """
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = _stateless.stateless_split(seed, 3)
    if augmentation.pad_crop:
        pad = augmentation.pad_crop
        top = tf.random.stateless_uniform(tf.stack([batch, 1]), draws[0], 0, 2 * pad + 1, tf.int32)
        left = tf.random.stateless_uniform(tf.stack([batch, 1]), draws[1], 0, 2 * pad + 1, tf.int32)
        images = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        images = tf.gather(images, top + tf.range(height)[None], axis=1, batch_dims=1)
        images = tf.gather(images, left + tf.range(width)[None], axis=2, batch_dims=1)
    if augmentation.flip:
        mirrored = tf.random.stateless_uniform(tf.stack([batch, 1, 1, 1]), draws[2]) < 0.5
        images = tf.where(mirrored, tf.reverse(images, [2]), images)
    return images
