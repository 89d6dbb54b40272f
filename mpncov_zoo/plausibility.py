"""Refuses images with the channels in front, and warns once in a process of raw pixels and of such features."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.specification import InputSpecification

logger = logging.getLogger(__name__)

SAMPLED = 32  # rows and columns of the first image that are looked at, at most
FAR = 4  # times what white is after normalisation

_said: set[str] = set()


def check_images(images: Any, specification: InputSpecification) -> None:
    """Look at concrete images for a network; nothing is done while a graph is traced.

    Args:
        images: what the network was called with, (batch, height, width, channels).
        specification: how its images are normalised.

    Raises:
        InputError: an array has the channels in front, and no others behind, or is one image without a batch.
    """
    if not isinstance(images, np.ndarray) and type(images).__name__ != "EagerTensor":  # TensorFlow is not imported
        return
    shape = tuple(images.shape)
    if len(shape) == 3:
        raise InputError(
            f"Images are (batch, height, width, {specification.channels}). Received: {shape}; one image is images[None]"
        )
    if len(shape) != 4 or 0 in shape:
        return
    if shape[3] != specification.channels == shape[1]:
        raise InputError(
            f"Images are (batch, height, width, {specification.channels}). Received: {shape}, which has the channels "
            "in front: images.transpose(0, 2, 3, 1)"
        )
    if "raw" not in _said:
        sample = np.asarray(images[0, :: -(-shape[1] // SAMPLED), :: -(-shape[2] // SAMPLED)])
        white = max((1 - mean) / std for mean, std in zip(specification.mean, specification.std, strict=True))
        if sample.max(initial=0) > FAR * max(white, 1):
            _say_once(
                "raw",
                f"Images with values up to {sample.max():g} were given to a network that wants them normalised, mostly "
                f"within +-{max(white, 1):.1f}; its answers are worse then. Take model.preprocess(images), which gets "
                "uint8 pixels",
            )


def check_layout(shape: Sequence[int | None]) -> None:
    """Look at the shape (batch, height, width, channels) of features that are pooled over their positions."""
    if len(shape) != 4 or None in shape[1:]:
        return
    _, first, second, last = shape
    if second == last and first is not None and last is not None and first > 4 * last:
        _say_once(
            "layout",
            f"Features of {first}x{second} positions and {last} channels were given to a pooling layer. If they are "
            f"{second}x{last} positions with {first} channels in front, as PyTorch has them: x.transpose(0, 2, 3, 1)",
        )


def _say_once(key: str, message: str) -> None:
    if key not in _said:
        _said.add(key)
        logger.warning("%s", message)
