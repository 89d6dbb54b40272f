"""Makes batches of a split: images are decoded, resized, augmented and normalised, in an order that the seed decides.

No more images are in memory than those of the batches under way and those of a split in memory. Images are decoded in
parallel. Their order and augmentation depend neither on the number of threads nor on what was computed before.

AutoGraph is off (`do_not_convert`), also in what is called from here: splits, augmentation and views. It would rewrite
each function, which takes long, and finds nothing to do: no Python `if` or `for` in them depends on a tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from mpncov_zoo.description import Views
from mpncov_zoo.errors import InputError
from mpncov_zoo.preprocessing import normalize_tensor
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.augmentation import augment, augment_batch, stateless
from mpncov_zoo.training.datasets.splits import Images, Split, held
from mpncov_zoo.training.epochs import batch_sizes
from mpncov_zoo.training.recipes import Augmentation
from mpncov_zoo.training.views import views

PREFETCH = 4  # training batches


@dataclass(frozen=True)
class Share:
    """Which part of every batch a worker reads: the `index`-th of `workers` equal ones."""

    index: int = 0
    workers: int = 1


WHOLE = Share()


@tf.autograph.experimental.do_not_convert
def evaluation_batches(split: Split, spec: InputSpecification, batch_size: int = 250) -> tf.data.Dataset:
    """(images float32 (batch, height, width, channels), labels int32 (batch,)), in order, each once.

    The images become what `preprocess` makes of them, also where they are not of the network's size or colours.
    """
    batches = view_batches(split, spec, batch_size, "single")
    return batches.map(lambda x, y: (tf.squeeze(x, 1), y))


@tf.autograph.experimental.do_not_convert
def view_batches(split: Split, spec: InputSpecification, batch_size: int, kind: Views) -> tf.data.Dataset:
    """(images float32 (batch, views, height, width, channels), labels int32 (batch,)), in order, each once.

    Args:
        split: the images.
        spec: the network's input specification.
        batch_size: images at once, each with all its views.
        kind: which views, see `views`.
    """

    def seen(item: tf.Tensor, label: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return views(split.decode(item, spec), spec, kind), label

    batches = split.examples().map(seen, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return batches.map(lambda x, y: (normalize_tensor(x, spec), y)).prefetch(2)


@tf.autograph.experimental.do_not_convert
def training_batches(
    split: Split,
    spec: InputSpecification,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    share: Share = WHOLE,
    all_images: bool = False,
) -> tf.data.Dataset:
    """Augmented batches without end, from an epoch on: order and augmentation depend on seed and epoch alone.

    So a run that resumes after an epoch sees the same batches as one that was never interrupted. Without `all_images`
    what does not fill a batch is left out of an epoch, which has len(split) // batch_size of them. These images are the
    last ones of the epoch's shuffle, so they are others in each epoch.

    Args:
        split: the images.
        spec: the network's input specification.
        augmentation: random changes.
        batch_size: images of all workers together.
        seed: of order and augmentation.
        epoch: the first one to give.
        first: the batch of that epoch to begin with, counted from 0; nothing is decoded of those before.
        share: of each batch, for one of several workers.
        all_images: an epoch has batches of the sizes of `epochs.batch_sizes`, so that none is left out.

    Returns:
        (images float32 (batch_size / workers, height, width, channels), labels int32 (batch_size / workers,)).

    Raises:
        InputError: the batches cannot be shared equally.
    """
    sizes = batch_sizes(len(split), batch_size, all_images=all_images)
    uneven = bool((sizes != batch_size).any())
    if batch_size % share.workers or (uneven and share != WHOLE):
        raise InputError(f"batch_size={batch_size} cannot be shared equally by {share.workers} workers.")

    def batches(number: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.cast(seed, tf.int64), number])
        skipped = tf.where(number == epoch, tf.constant(first, tf.int64), 0)
        in_memory = isinstance(split, Images) and _fits(split, spec, augmentation)
        if uneven:
            make: Any = _uneven_epoch_in_memory if in_memory else _uneven_epoch
            return make(split, spec, augmentation, sizes, epoch_seed, skipped)
        make = _epoch_in_memory if in_memory else _epoch
        return make(split, spec, augmentation, batch_size, epoch_seed, skipped, share)

    return tf.data.Dataset.range(epoch, tf.int64.max).flat_map(batches).prefetch(PREFETCH)


def _fits(split: Images, spec: InputSpecification, augmentation: Augmentation) -> bool:
    """Do the images need no change of size or colours, so that whole batches can be augmented at once?"""
    as_they_are = split.pixels.shape[1:] == (*spec.size, spec.channels) and spec.crop_fraction == 1
    return as_they_are and augmentation.random_resized_crop is None


def _epoch_in_memory(
    split: Images,
    spec: InputSpecification,
    augmentation: Augmentation,
    batch_size: int,
    seed: tf.Tensor,
    skipped: tf.Tensor,
    share: Share,
) -> tf.data.Dataset:
    part = batch_size // share.workers
    own = slice(share.index * part, (share.index + 1) * part)
    chosen = tf.data.Dataset.from_tensor_slices(_shuffled(split, seed)).batch(batch_size, drop_remainder=True)
    batch = _batch_in_memory(split, spec, augmentation, seed, own)
    return chosen.enumerate().skip(skipped).map(batch, num_parallel_calls=2)


def _uneven_epoch_in_memory(
    split: Images,
    spec: InputSpecification,
    augmentation: Augmentation,
    sizes: np.ndarray,
    seed: tf.Tensor,
    skipped: tf.Tensor,
) -> tf.data.Dataset:
    chosen = tf.data.Dataset.from_tensor_slices(_shuffled(split, seed)).batch(len(split)).rebatch(sizes)
    batch = _batch_in_memory(split, spec, augmentation, seed, slice(None))
    return chosen.enumerate().skip(skipped).map(batch, num_parallel_calls=2)


def _shuffled(split: Split, seed: tf.Tensor) -> tf.Tensor:
    return stateless.stateless_shuffle(tf.range(len(split)), seed=seed)


def _batch_in_memory(
    split: Images, spec: InputSpecification, augmentation: Augmentation, seed: tf.Tensor, own: slice
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function of a batch's number and the positions of its images."""
    pixels, labels = held(split.pixels), held(split.labels)

    def batch(index: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_seed = seed + tf.stack([tf.constant(0, tf.int64), index * 2**32])
        x = augment_batch(tf.gather(pixels, chosen), augmentation, batch_seed)
        return normalize_tensor(x[own], spec), tf.gather(labels, chosen)[own]

    return batch


def _epoch(
    split: Split,
    spec: InputSpecification,
    augmentation: Augmentation,
    batch_size: int,
    seed: tf.Tensor,
    skipped: tf.Tensor,
    share: Share,
) -> tf.data.Dataset:
    examples = split.examples(seed).take(len(split) // batch_size * batch_size)
    examples = examples.skip(skipped * batch_size)
    part = batch_size // share.workers
    if share != WHOLE:
        own = examples.enumerate().filter(lambda number, _: number % batch_size // part == share.index)  # pyright: ignore
        examples = own.map(lambda _, example: example)
    augmented = _augmented(examples, split, spec, augmentation, seed)
    return _normalized(augmented.batch(part, drop_remainder=True), spec)


def _uneven_epoch(
    split: Split,
    spec: InputSpecification,
    augmentation: Augmentation,
    sizes: np.ndarray,
    seed: tf.Tensor,
    skipped: tf.Tensor,
) -> tf.data.Dataset:
    counts = held(sizes)
    examples = split.examples(seed).skip(tf.reduce_sum(counts[:skipped]))
    augmented = _augmented(examples, split, spec, augmentation, seed)
    return _normalized(augmented.batch(int(sizes.max())).rebatch(counts[skipped:]), spec)


def _augmented(
    examples: tf.data.Dataset, split: Split, spec: InputSpecification, augmentation: Augmentation, seed: tf.Tensor
) -> tf.data.Dataset:
    def augmented(item: tf.Tensor, label: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image_seed = stateless.stateless_fold_in(seed, index)
        return augment(split.decode(item, spec), spec, augmentation, image_seed), label

    return examples.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)


def _normalized(batches: tf.data.Dataset, spec: InputSpecification) -> tf.data.Dataset:
    return batches.map(lambda x, y: (normalize_tensor(x, spec), y), num_parallel_calls=2)
