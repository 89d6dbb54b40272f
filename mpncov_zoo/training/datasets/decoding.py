"""Decodes the images of a pipeline by Pillow, and lets the process end while it does.

TensorFlow's graph that decodes as Pillow does has some 3,000 nodes, which it would look through whenever an epoch or an
evaluation begins.
"""

from __future__ import annotations

import atexit
import gc
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mpncov_zoo.images import ImageSource, read_image
from mpncov_zoo.specification import InputSpecification

if TYPE_CHECKING:
    import tensorflow as tf

_ITERATOR = re.compile(r"tensorflow\.python\.(data|distribute)\..*Iterator")


def decode_by_pillow(
    item: tf.Tensor, spec: InputSpecification, source: Callable[[bytes], ImageSource] = bytes
) -> tf.Tensor:
    """The pixels that `read_image` gives, uint8 (height, width, spec.channels): a tensor of the graph being traced.

    Args:
        item: a string scalar.
        spec: the network's input specification.
        source: from the item to what `read_image` takes; by default the item is the content of a file.
    """
    import tensorflow as tf

    _free_iterators_at_the_end()

    def read(item: bytes) -> np.ndarray:
        pixels = np.asarray(read_image(source(item), spec.mode))
        return pixels.reshape(*pixels.shape[:2], spec.channels)

    pixels = tf.numpy_function(read, [item], tf.uint8, stateful=False)
    return tf.ensure_shape(pixels, (None, None, spec.channels))


@cache
def _free_iterators_at_the_end() -> None:
    """See to it that TensorFlow's iterators are freed while Python runs.

    An iterator that is freed while Python ends waits for the images that are being read, whose threads Python has
    stopped: the process would never end. After an error one is usually left, in the frames of the traceback.
    """

    def free() -> None:
        objects = gc.get_objects()
        kinds = {kind for kind in {*map(type, objects)} if _ITERATOR.fullmatch(f"{kind.__module__}.{kind.__name__}")}
        for each in objects:
            if type(each) in kinds:
                vars(each).clear()

    atexit.register(free)
