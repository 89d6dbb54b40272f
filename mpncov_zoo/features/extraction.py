"""From a batch of images to their features: the one loop of the command line, of Python and of Ray Data."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.reading import read_all, read_batches
from mpncov_zoo.quiet import import_tensorflow

if TYPE_CHECKING:
    from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier

logger = logging.getLogger(__name__)

REPRESENTATION = ("representation",)
SOURCES = ("bytes", "image", "path")  # columns that hold images; the first of them that a batch has is read


@dataclass(frozen=True)
class Rows:
    """What came of a batch of images.

    Attributes:
        read: positions in the batch, counted from 0, of the images that could be read.
        features: {stage: (images, ...)}, a row for each of these images.
        unreadable: for each of the other images its error, which names it; in the order of the batch.
    """

    read: tuple[int, ...]
    features: dict[str, np.ndarray]
    unreadable: tuple[InputError, ...]


def extractor(
    model: str | PathLike[str] | ImageClassifier,
    stages: Sequence[str] | None = None,
    pool: str | None = None,
    *,
    hub: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
) -> tuple[ImageClassifier, FeatureExtractor]:
    """A pretrained network, and the same up to a stage or to pooled stages, made fast by `mpncov_zoo.optimize`.

    Args:
        model: its name or path, or the network.
        stages: a stage of the network, by default its representation; or stages of the trunk, for `pool`.
        pool: "mpncov", "gap", "bcnn" or "cbp", which joins these stages.
        hub: of `mpncov_zoo.load`, for a name.
        cache_dir: of `mpncov_zoo.load`.
        offline: of `mpncov_zoo.load`.

    Raises:
        InputError: the stages and the pooling do not fit together, or what computes them has random weights.
        UnknownModel, NoPretrainedWeights, FetchError, IntegrityError: of `mpncov_zoo.load`.
    """
    stages = (stages,) if isinstance(stages, str) else tuple(stages or REPRESENTATION)
    if pool is None and len(stages) > 1:
        raise InputError(f"{', '.join(stages)}: several stages need a pooling that joins them, such as mpncov.")
    if pool is not None and stages == REPRESENTATION:
        raise InputError(f"The pooling {pool} needs a stage of the trunk to stand on, such as stage2.")
    import_tensorflow()
    from mpncov_zoo.classifier import FeatureExtractor, ImageClassifier
    from mpncov_zoo.inference import optimize
    from mpncov_zoo.pretrained import require_pretrained
    from mpncov_zoo.zoo import load

    if isinstance(model, ImageClassifier):
        if pool is not None or any(value is not None for value in (hub, cache_dir, offline)):
            raise InputError(f"{model.name} is a network already: only a stage is left to say.")
        network = model
    else:
        how = {} if pool is None else {"num_classes": 0, "representation": pool, "stages": stages}
        network = load(os.fspath(model), True, hub=hub, cache_dir=cache_dir, offline=offline, **how)
        stages = stages if pool is None else REPRESENTATION
        require_pretrained(network, *stages)
    fast = network if network.folded or network.dtype_policy.name != "float32" else optimize(network)
    return network, FeatureExtractor(fast, stages)


class Extract:
    """Computes the features of images, a batch at a time; one network serves all batches.

    As a callable class it is what Ray Data's `map_batches` takes: each of its workers loads the network once.

    Args:
        model: a pretrained network by its name, an ImageClassifier, or a FeatureExtractor, which has its stages.
        stages: which features; names of `ImageClassifier.stages`.
        hub: the only place to look for the weights of a name, as `mpncov_zoo.load` takes it.
        skip_unreadable: leave images out that cannot be read, each with a warning in the log, instead of refusing
            the batch.

    Raises:
        InputError: an unknown stage.
        UnknownModel, NoPretrainedWeights, FetchError, IntegrityError: of `mpncov_zoo.load`, for a name.

    Example:
        >>> paths = ray.data.from_items([{"path": path} for path in find_images(["photos"])])
        >>> paths.map_batches(Extract, fn_constructor_args=("mpncov_resnet50",), batch_size=32, concurrency=2)
    """

    def __init__(
        self,
        model: str | ImageClassifier | FeatureExtractor,
        stages: Sequence[str] = REPRESENTATION,
        *,
        hub: str | PathLike[str] | None = None,
        skip_unreadable: bool = False,
    ):
        from mpncov_zoo.classifier import FeatureExtractor
        from mpncov_zoo.zoo import feature_extractor

        whole = isinstance(model, FeatureExtractor)
        if whole and (hub is not None or tuple(stages) not in (REPRESENTATION, model.stages)):
            raise InputError(f"{model.name} has its stages, {', '.join(model.stages)}: leave out stages and hub.")
        made = model if isinstance(model, FeatureExtractor) else feature_extractor(model, stages, hub=hub)
        self.network, self.skip_unreadable = made, skip_unreadable

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The features of the rows of a table.

        Args:
            batch: columns of equal length. One of them holds the images: "bytes" (the contents of files), "image"
                (uint8 arrays (height, width, channels)) or "path" (of files); "path" names the images in errors.

        Returns:
            The columns of the batch but for "bytes" and "image", and a column (images, ...) for each stage.

        Raises:
            InputError: the batch has no such column, or an image cannot be read.
        """
        source = next((name for name in SOURCES if name in batch), None)
        if source is None:
            raise InputError(f"A batch has one of the columns {', '.join(SOURCES)}. Received: {', '.join(batch)}.")
        names = [str(path) for path in batch["path"]] if "path" in batch else None
        rows = self.rows(names if source == "path" and names else list(batch[source]), names)
        for error in rows.unreadable:
            if not self.skip_unreadable:
                raise error
            logger.warning("left out: %s", error)
        kept = {name: np.asarray(batch[name])[[*rows.read]] for name in batch if name not in ("bytes", "image")}
        return kept | rows.features

    def rows(self, images: Sequence[Any], names: Sequence[str] | None = None) -> Rows:
        """The features of the images that can be read, and what is wrong with the others.

        Args:
            images: each a path, a PIL image, the bytes of a file or a uint8 array (height, width, channels).
            names: of the images, for errors; by default paths are their own names, and others are numbered.
        """
        names = names or [_named(image, index) for index, image in enumerate(images)]
        return self._rows(read_all(images, self.network.preprocess, names))

    def files(
        self, paths: Sequence[str], batch_size: int, images: Iterable[Any] | None = None
    ) -> Iterator[tuple[list[str], Rows]]:
        """The features of files, so many at a time, beside their paths; while some are computed, the next are read.

        Args:
            paths: of the files.
            batch_size: images at once.
            images: what `rows` takes, where the paths are names alone, or functions that give it and are called on
                the threads that decode; as many as paths.
        """
        for batch in read_batches(paths, self._preprocessed, batch_size, images):
            yield [path for path, _ in batch], self._rows([image for _, image in batch])

    def _preprocessed(self, image: Any) -> np.ndarray:
        return self.network.preprocess(image() if callable(image) else image)

    def _rows(self, found: Sequence[np.ndarray | InputError]) -> Rows:
        good = {index: image for index, image in enumerate(found) if not isinstance(image, InputError)}
        return Rows(
            read=tuple(good),
            features=self._features([*good.values()]),
            unreadable=tuple(image for image in found if isinstance(image, InputError)),
        )

    def _features(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        if images:
            return self.network.predict_on_batch(np.stack(images))
        shapes = {name: [size or 0 for size in output.shape[1:]] for name, output in self.network.output.items()}
        return {name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()}


def _named(image: Any, index: int) -> str:
    return os.fspath(image) if isinstance(image, str | PathLike) else f"image {index}"
