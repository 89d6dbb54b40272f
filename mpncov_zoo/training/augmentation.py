"""Random changes of training images: stateless, so that neither order nor number of threads plays a part."""

import math

import tensorflow as tf

from mpncov_zoo.graph_images import resample
from mpncov_zoo.preprocessing import geometry, resize_and_crop_tensor
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.recipes import Augmentation, RandomResizedCrop

ATTEMPTS = 10  # of torchvision's RandomResizedCrop, before it takes the centre

stateless = tf.random.experimental  # pyright: ignore[reportAttributeAccessIssue]


def augment(image: tf.Tensor, spec: InputSpecification, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """One image, as a network is to see it in training.

    Args:
        image: uint8 (height, width, channels), of any dynamic height and width.
        spec: the network's input specification.
        augmentation: what may change.
        seed: int64 (2,); the same seed gives the same image.

    Returns:
        uint8 (*spec.size, channels).
    """
    where, change = tf.unstack(stateless.stateless_split(seed, 2))
    if augmentation.random_resized_crop:
        image = _random_resized(image, spec, augmentation.random_resized_crop, where)
    elif augmentation.crop == "random":
        image = _resized_and_cropped_anywhere(image, spec, where)
    else:
        image = to_size(image, spec)
    return augment_batch(image[tf.newaxis], augmentation, change)[0]


def augment_batch(images: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Pad, crop and mirror images that have the network's size already: (batch, height, width, channels).

    Args:
        images: the originals, uint8.
        augmentation: what may change; only `pad_crop` and `flip` are looked at.
        seed: int64 (2,); the same seed gives the same images.

    Returns:
        uint8, of the same shape.
    """
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = stateless.stateless_split(seed, 3)
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


def to_size(image: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
    """Resize and crop as the specification says: uint8 (height, width, channels) -> (*spec.size, channels)."""
    if tuple(image.shape[:2]) == spec.size and spec.crop_fraction == 1:
        return image
    return resize_and_crop_tensor(image, spec)


def random_box(
    height: tf.Tensor | int, width: tf.Tensor | int, settings: RandomResizedCrop, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """A random part of an image of that size, by torchvision's rule: (top, left, height, width), int32 scalars.

    The first of ten draws that fits into the image; if none does, the largest centred part of an allowed ratio.
    """
    draws = tf.unstack(stateless.stateless_split(seed, 4))
    area = tf.cast(height, tf.float32) * tf.cast(width, tf.float32)
    areas = area * tf.random.stateless_uniform((ATTEMPTS,), draws[0], *settings.scale)
    least, most = (math.log(ratio) for ratio in settings.ratio)
    ratios = tf.exp(tf.random.stateless_uniform((ATTEMPTS,), draws[1], least, most))
    widths = tf.cast(tf.round(tf.sqrt(areas * ratios)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(areas / ratios)), tf.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    central_height, central_width = _central_size(height, width, settings)
    first = tf.argmax(tf.cast(fits, tf.int32))
    found = tf.reduce_any(fits)
    box_height = tf.where(found, heights[first], central_height)
    box_width = tf.where(found, widths[first], central_width)
    top = tf.random.stateless_uniform((), draws[2], 0, height - box_height + 1, tf.int32)
    left = tf.random.stateless_uniform((), draws[3], 0, width - box_width + 1, tf.int32)
    top = tf.where(found, top, (height - box_height) // 2)
    left = tf.where(found, left, (width - box_width) // 2)
    return top, left, box_height, box_width


def _central_size(
    height: tf.Tensor | int, width: tf.Tensor | int, settings: RandomResizedCrop
) -> tuple[tf.Tensor, tf.Tensor]:
    """The size (height, width), at least 1x1, of an image whose longer side is cut to the nearest allowed ratio."""
    least, most = settings.ratio
    tallest = tf.cast(tf.round(tf.cast(width, tf.float32) / least), tf.int32)
    widest = tf.cast(tf.round(tf.cast(height, tf.float32) * most), tf.int32)
    return tf.maximum(tf.minimum(height, tallest), 1), tf.maximum(tf.minimum(width, widest), 1)


def _random_resized(
    image: tf.Tensor, spec: InputSpecification, settings: RandomResizedCrop, seed: tf.Tensor
) -> tf.Tensor:
    top, left, height, width = random_box(tf.shape(image)[0], tf.shape(image)[1], settings, seed)
    part = image[top : top + height, left : left + width]
    return resample(part, spec.size, (0, 0), spec.size, spec.interpolation)


def _resized_and_cropped_anywhere(image: tf.Tensor, spec: InputSpecification, seed: tf.Tensor) -> tf.Tensor:
    """Resize an image as in evaluation, and crop it at a uniformly random place."""
    resized, _ = geometry(tf.shape(image)[0], tf.shape(image)[1], spec, maximum=tf.maximum)
    draws = tf.unstack(stateless.stateless_split(seed, 2))
    top, left = (
        tf.random.stateless_uniform((), draw, 0, new - size + 1, tf.int32)
        for draw, new, size in zip(draws, resized, spec.size, strict=True)
    )
    return resample(image, resized, (top, left), spec.size, spec.interpolation)
