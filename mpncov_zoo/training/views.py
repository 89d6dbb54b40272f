"""Cuts out what a network is shown of one image in evaluation: one view, or several that are averaged."""

import tensorflow as tf

from mpncov_zoo.description import Views
from mpncov_zoo.errors import InputError
from mpncov_zoo.graph_images import resample
from mpncov_zoo.preprocessing import geometry
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.training.augmentation import to_size

COUNT: dict[Views, int] = {"single": 1, "mirror": 2, "ten_crops": 10}


def require_views(kind: str) -> None:
    """Refuse views that do not exist.

    Raises:
        InputError: saying which do.
    """
    if kind not in COUNT:
        raise InputError(f"received the views {kind!r}; allowed: {', '.join(COUNT)}")


def views(image: tf.Tensor, spec: InputSpecification, kind: Views) -> tf.Tensor:
    """The views of an image.

    Args:
        image: uint8 (height, width, channels), of any dynamic height and width.
        spec: the network's input specification.
        kind: "single" is the view that `preprocess` takes. "mirror" is that view and its mirror image. "ten_crops" are
            the four corners and the centre of the resized image, then those of its mirror image, as in torchvision.

    Returns:
        uint8 (views, *spec.size, channels), which `normalize_tensor` normalises.

    Raises:
        InputError: there is no such kind.
    """
    require_views(kind)
    if kind == "ten_crops":
        return _ten_crops(image, spec)
    single = to_size(image, spec)[tf.newaxis]
    return single if kind == "single" else tf.concat([single, tf.reverse(single, [2])], axis=0)


def _ten_crops(image: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
    resized, centre = geometry(tf.shape(image)[0], tf.shape(image)[1], spec, maximum=tf.maximum)
    bottom, right = (new - size for new, size in zip(resized, spec.size, strict=True))
    starts = ((0, 0), (0, right), (bottom, 0), (bottom, right), centre)
    crops = tf.stack([resample(image, resized, start, spec.size, spec.interpolation) for start in starts])
    # The left corners of the mirror image are the mirrored right ones; the centre may be a pixel off its own mirror.
    mirrored_centre = (centre[0], right - centre[1])
    mirrored = [*tf.unstack(tf.gather(crops, [1, 0, 3, 2]))]
    mirrored.append(resample(image, resized, mirrored_centre, spec.size, spec.interpolation))
    return tf.concat([crops, tf.reverse(tf.stack(mirrored), [2])], axis=0)
