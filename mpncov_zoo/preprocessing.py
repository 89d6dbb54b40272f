"""One input specification, two executions, the same pixels: Pillow (what users call) and TensorFlow (inside a graph).

An image is resized, cropped from the centre and normalised. Resizing is Pillow's antialiased one as every published
network saw it: width first, rounded to whole levels, then height, rounded again. Pillow itself chooses the order by
shape since version 13; here it is always the same, so results don't depend on the version of Pillow.

The graph's arithmetic is Pillow's own, in fixed point, so its pixels are equal, not close. Artifacts that take encoded
images decode and resize in the graph; training and evaluation decode with Pillow. What remains different:
- formats: the graph decodes JPEG, PNG, WebP and the first frame of a GIF, Pillow many more;
- damage: beside the pixels, in a comment or in a frame after the first, one of the two may see what the other does not;
- errors: a graph raises TensorFlow's errors, and refuses no elongated image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.images import ImageSource, count_pixels, read_image

if TYPE_CHECKING:
    import tensorflow as tf

    from mpncov_zoo.specification import InputSpecification

__all__ = [
    "decode_image",
    "geometry",
    "normalize",
    "normalize_tensor",
    "on_threads",
    "preprocess",
    "preprocess_encoded",
    "read_image",
    "resize_and_crop",
    "resize_and_crop_tensor",
]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CORES = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # by which Ray and Slurm say how many are this process'
THREADS = min(8, int(CORES if CORES.isdecimal() else os.cpu_count() or 1) + 4)  # more, since reading waits for disks
LARGE = 2**24  # pixels, which take 150 MB while they are decoded and resized
_MAX_INTERMEDIATE_PIXELS = 2**28  # 1 GB in Pillow: a square input of 256 up to an aspect ratio of 4096


Result = TypeVar("Result")


def preprocess(images: ImageSource | list[ImageSource], spec: InputSpecification) -> np.ndarray:
    """Read, resize, crop and normalise images into a batch for a network; those of a list on several threads.

    Args:
        images: one source of `read_image`, a list or tuple of them, or a uint8 array (batch, height, width, channels).
            A 3-D array is always one image (height, width, channels); a batch of greys is (batch, height, width, 1).
        spec: the network's input specification.

    Returns:
        float32 (batch, height, width, channels), normalised; one source gives a batch of 1.

    Raises:
        InputError: there is no image, or one cannot be used; in a batch the message begins with its index.

    Example:
        >>> preprocess(["bird.jpg", "boat.png"], spec).shape
        (2, 224, 224, 3)
    """
    if not isinstance(images, (list, tuple)) and getattr(images, "ndim", None) != 4:
        return normalize(_pixels(images, spec)[np.newaxis], spec)
    if len(images) == 0:
        raise InputError("received no images (an empty list or batch); allowed: at least one image")

    def read(index: int) -> np.ndarray:
        try:
            return _pixels(images[index], spec)
        except InputError as error:
            raise InputError(f"images[{index}]: {error}") from None

    return normalize(np.stack(on_threads(read, images)), spec)


def on_threads(function: Callable[[int], Result], images: Sequence[Any]) -> list[Result]:
    """What a function returns for the place of each image in a list, in their order.

    PIL images, which may be one object twice and are decoded when they are read, and images of more than LARGE pixels
    are worked on one after the other, on the caller's thread, so that the memory does not grow with the threads.

    Args:
        function: takes 0, 1, ... and reads that image.
        images: what `preprocess` takes.

    Raises:
        Exception: the first one that the function raises, in order; what is not begun then is left.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        begun: list[Future[Result] | None] = [
            None if isinstance(image, Image.Image) or count_pixels(image) > LARGE else pool.submit(function, index)
            for index, image in enumerate(images)
        ]
        try:
            return [function(index) if future is None else future.result() for index, future in enumerate(begun)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _pixels(source: ImageSource, spec: InputSpecification) -> np.ndarray:
    """Return uint8 (height, width, channels)."""
    return resize_and_crop(read_image(source, spec.mode), spec)


def resize_and_crop(image: Image.Image, spec: InputSpecification) -> np.ndarray:
    """Resize an image with Pillow and cut the network's input from its centre.

    Args:
        image: PIL image of mode `spec.mode`, as `read_image` returns it.
        spec: the network's input specification.

    Returns:
        uint8 (height, width, channels).

    Raises:
        InputError: the image has another mode, or is so elongated that resizing it would take gigabytes.
    """
    if image.mode != spec.mode:
        advice = f"read_image(image, {spec.mode!r}) converts it"
        raise InputError(f"received an image of mode {image.mode}; allowed: {spec.mode}; {advice}")
    height, width = spec.size
    (new_height, new_width), (top, left) = geometry(image.height, image.width, spec)
    if max(image.height * new_width, new_height * width) > _MAX_INTERMEDIATE_PIXELS:
        received = f"received an image of {image.width}x{image.height} pixels"
        raise InputError(f"{received}: too elongated to resize it to {new_width}x{new_height}; crop it first")
    filter_ = _RESAMPLING[spec.interpolation]
    columns = image.resize((new_width, image.height), filter_).crop((left, 0, left + width, image.height))
    pixels = columns.resize((width, new_height), filter_).crop((0, top, width, top + height))
    return np.asarray(pixels).reshape(height, width, spec.channels)


def geometry(height: Any, width: Any, spec: InputSpecification, maximum: Callable = max) -> tuple[tuple, tuple]:
    """Return ((height, width) after resizing, (top, left) of the crop), in pixels, of ints or of int32 tensors.

    Short side: the smallest size of that aspect ratio which covers the target on both sides, the longer one truncated;
    for a square target, torchvision's Resize. The crop is its CenterCrop: round((size - crop) / 2), half to even.
    """
    target_height, target_width = (int(np.floor(size / spec.crop_fraction + 0.5)) for size in spec.size)
    resized = (target_height, target_width)
    if spec.resize == "short_side":
        resized = (
            maximum(target_height, target_width * height // width),
            maximum(target_width, target_height * width // height),
        )
    excess = [new - size for new, size in zip(resized, spec.size, strict=True)]
    top, left = ((pixels + pixels // 2 % 2) // 2 for pixels in excess)
    return resized, (top, left)


def normalize(pixels: np.ndarray, spec: InputSpecification) -> np.ndarray:
    """Return (pixels / 255 - mean) / std as float32, for uint8 pixels (..., channels), in the network's order."""
    pixels = pixels[..., ::-1] if spec.channel_order == "BGR" else pixels
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def normalize_tensor(pixels: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
    """Return what `normalize` does, as a float32 tensor, for a uint8 tensor (..., channels)."""
    import tensorflow as tf

    # Looked up, not computed: TensorFlow's optimiser turns divisions into multiplications, which round differently.
    levels = np.tile(np.arange(256, dtype=np.uint8)[:, np.newaxis], spec.channels)
    table = normalize(levels, spec).ravel()
    pixels = tf.reverse(pixels, [-1]) if spec.channel_order == "BGR" else pixels
    return tf.gather(table, tf.cast(pixels, tf.int32) * spec.channels + tf.range(spec.channels))


def preprocess_encoded(encoded: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
    """Decode, resize, crop and normalise encoded images inside a TensorFlow graph; the numbers of `preprocess`.

    Args:
        encoded: string (batch,), the content of one image file each; see `decode_image`.
        spec: the network's input specification.

    Returns:
        float32 (batch, height, width, channels), normalised.
    """
    import tensorflow as tf

    def one(item: tf.Tensor) -> tf.Tensor:
        return resize_and_crop_tensor(decode_image(item, spec), spec)

    signature = tf.TensorSpec((*spec.size, spec.channels), tf.uint8)
    # On the CPU, as all decoders are; and a 12-megapixel photo takes about 0.3 GB meanwhile, so only a few at once.
    with tf.device("/CPU:0"):
        pixels = tf.map_fn(one, encoded, fn_output_signature=signature, parallel_iterations=4)
    return normalize_tensor(pixels, spec)


def decode_image(encoded: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
    """Decode an image file inside a TensorFlow graph, to the pixels that `read_image` gives.

    The EXIF orientation is applied, alpha is dropped.

    Args:
        encoded: string scalar, the content of a JPEG, PNG (8 or 16 bit), WebP or GIF file; of an
            animation the first frame is taken.
        spec: the network's input specification.

    Returns:
        uint8 (height, width, channels), of dynamic height and width.

    Raises:
        tf.errors.InvalidArgumentError: where it runs on anything else, or on a damaged file.
    """
    from mpncov_zoo.graph_images import decode_rgb, luma

    rgb = decode_rgb(encoded)
    return rgb if spec.mode == "RGB" else luma(rgb)


def resize_and_crop_tensor(image: tf.Tensor, spec: InputSpecification) -> tf.Tensor:
    """Resize an image inside a TensorFlow graph and cut the network's input from its centre, as `resize_and_crop` does.

    Args:
        image: uint8 (height, width, channels), of static or dynamic height and width.
        spec: the network's input specification.

    Returns:
        uint8 (height, width, channels) of the network's static size.
    """
    import tensorflow as tf

    from mpncov_zoo.graph_images import resample

    image = tf.ensure_shape(image, (None, None, spec.channels))
    size = tf.shape(image)
    resized, start = geometry(size[0], size[1], spec, maximum=tf.maximum)
    return resample(image, resized, start, spec.size, spec.interpolation)
