"""Features of images that were computed before, found again by the content of the images and of the network."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError
from mpncov_zoo.features.extraction import Extract
from mpncov_zoo.hub.cache import FEATURES, cache_root
from mpncov_zoo.progress import progress_bar

if TYPE_CHECKING:
    from mpncov_zoo.architectures import Architecture
    from mpncov_zoo.classifier import ImageClassifier
    from mpncov_zoo.specification import InputShape, InputSpecification
    from mpncov_zoo.training.datasets import Files, Images

# To be raised when images are read in another way, or features written: float16 (images, features), in the order of the
# images' digests.
FORMAT = 2
logger = logging.getLogger(__name__)


def stored_features(
    identity: bytes,
    network: Callable[[], ImageClassifier],
    images: Sequence[Files | Images],
    *,
    cache_dir: str | PathLike[str] | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The representation of every image, computed or taken from the cache.

    The same images are found again in another order, and under other names.

    Args:
        identity: of the network, as `identity_of` gives it; the features are found by it and by the images.
        network: makes that network; it is called only where there is something to compute.
        images: splits, one after the other; the contents of all of them count.
        cache_dir: as `mpncov_zoo.load` takes it.
        batch_size: images at once.
        progress: show a bar on standard error.

    Returns:
        float16 (images, features), on disk: rows are read when they are needed; and int64 (images,), of each image its
        row there.

    Raises:
        InputError: an image cannot be read; the cache cannot be written.
    """
    every = [(split, index) for split in images for index in range(len(split))]
    digests = [hashlib.sha256(split.encoded(index)).digest() for split, index in every]
    order = sorted(range(len(every)), key=digests.__getitem__)
    found_by = hashlib.sha256(identity + b"".join(digests[number] for number in order))
    path = Path(cache_root(cache_dir)) / FEATURES / f"{found_by.hexdigest()}.npy"
    if path.is_file():
        logger.info("the features are in the cache: %s", path)
        with suppress(OSError):  # of a cache that cannot be written
            os.utime(path)  # `mpncov-zoo cache gc` removes what has not been used for long
    else:
        _write(path, network(), [every[number] for number in order], batch_size, progress)
    return np.load(path, mmap_mode="r"), np.argsort(order)


def identity_of(
    architecture: Architecture, input_shape: InputShape, specification: InputSpecification, network: ImageClassifier
) -> bytes:
    """What decides on the features of an image: the network up to its representation, and how images are read.

    Args:
        architecture: of the network that computes them.
        input_shape: its (height, width, channels).
        specification: how images become its input.
        network: another one with the same weights up to the representation.
    """
    import keras

    parts = architecture.to_dict()
    del parts["classifier_options"]
    read = specification.model_dump(mode="json")
    policy = keras.config.dtype_policy().name  # under which the network will be built
    facts = [FORMAT, policy, parts, [None, *input_shape], read]  # None: any number of images
    return json.dumps([*facts, weights_digest(network)]).encode()


def weights_digest(network: ImageClassifier, stages: Sequence[str] = ()) -> str:
    """The sha256 of the names and values of the weights up to the representation; of all for the stage "logits"."""
    digest = hashlib.sha256()
    for name, variable in network.named_variables().items():
        if not name.startswith("classifier/") or "logits" in stages:
            digest.update(name.encode())
            digest.update(np.asarray(variable.value).tobytes())
    return digest.hexdigest()


def _write(
    path: Path, network: ImageClassifier, images: Sequence[tuple[Files | Images, int]], batch_size: int, progress: bool
) -> None:
    from mpncov_zoo.classifier import FeatureExtractor

    count, dimension = len(images), network.representation.output_shape[1]
    extract = Extract(FeatureExtractor(network, ["representation"]))
    with complete(path) as partial, progress_bar(count, "image", show=progress) as bar:
        rows = np.lib.format.open_memmap(partial, "w+", np.float16, (count, dimension))
        for first in range(0, count, batch_size):
            batch = images[first : first + batch_size]
            encoded = [split.encoded(index) for split, index in batch]
            found = extract.rows(encoded, [split.name(index) for split, index in batch])
            if found.unreadable:
                raise found.unreadable[0]
            block = found.features["representation"].astype(np.float16)
            if not np.isfinite(block).all():
                raise InputError(f"{network.name}: its features are beyond what 16 bits hold: normalise them.")
            rows[first : first + len(batch)] = block
            bar.update(len(batch))
        rows.flush()
        del rows
