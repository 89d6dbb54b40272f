"""What a worker of a run over many images does: a chunk of images becomes a file of their features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mpncov_zoo.errors import InputError, IntegrityError
from mpncov_zoo.features.chunks import Chunk
from mpncov_zoo.features.compact import Compact
from mpncov_zoo.features.extraction import Extract, extractor
from mpncov_zoo.features.parts import Parts
from mpncov_zoo.features.sources import Encoded, Label
from mpncov_zoo.features.stored import weights_digest

if TYPE_CHECKING:
    from mpncov_zoo.classifier import FeatureExtractor


@dataclass(frozen=True)
class Work:
    """What is to be computed and where it goes; plain data, which any process can be given.

    Attributes:
        network: arguments of `extractor`; for other processes names and paths alone.
        weights_sha256: of the weights that it must have.
        batch_size: images at once.
        dtype: of the features, "float32" or "float16".
        compact: what makes them shorter, if anything.
        label_type: of `Listing`.
        output: of `Parts`, as any process finds it.
        unreadable: how many images may be left out.
    """

    network: dict[str, Any]
    weights_sha256: str
    batch_size: int
    dtype: str
    compact: Compact | None
    label_type: str | None
    output: str
    unreadable: int


@dataclass(frozen=True)
class Done:
    """What became of a chunk.

    Attributes:
        rows: how many images have features.
        unreadable: the other images, each with the reason.
    """

    rows: int
    unreadable: dict[str, str]


class Worker:
    """Computes the features of chunks and writes them; one network serves all.

    Args:
        work: what is to be done.
        network: by default loaded as the work says.

    Raises:
        IntegrityError: the network that is found here has other weights than the work is about.
        ZooError: of `extractor`.
    """

    def __init__(self, work: Work, network: FeatureExtractor | None = None):
        if network is None:
            whole, network = extractor(**work.network)
            if weights_digest(whole, network.stages) != work.weights_sha256:
                raise IntegrityError(f"{whole.name} has other weights on this machine than where the run was begun.")
        self.work, self.extract, self.parts = work, Extract(network), Parts(work.output)

    def __call__(self, chunk: Chunk, advance: Callable[[int], Any] = lambda images: None) -> Done:
        """Compute the features of a chunk and write them.

        Args:
            chunk: the images.
            advance: called with the number of images that are through, batch by batch.

        Returns:
            What became of it.

        Raises:
            InputError: more images cannot be read than may be left out, a source or the output fails, a feature is not
                a number that the dtype holds.
        """
        labels: list[Label] = []

        def images() -> Iterator[Encoded]:
            for image, label in chunk.source.read():
                labels.append(label)
                yield image

        read: list[int] = []
        errors: dict[str, str] = {}
        blocks: list[np.ndarray] = []
        first = 0
        for batch, rows in self.extract.files(chunk.names, self.work.batch_size, images()):
            unread = [name for at, name in enumerate(batch) if at not in rows.read]
            errors |= dict(zip(unread, map(str, rows.unreadable), strict=True))
            if len(errors) > self.work.unreadable:
                raise too_many(errors, self.work.unreadable)
            read += [first + at for at in rows.read]
            blocks.append(self._values([batch[at] for at in rows.read], *rows.features.values()))
            first += len(batch)
            advance(len(batch))
        names, known = [chunk.names[at] for at in read], [labels[at] for at in read]
        self.parts.write(chunk.key, names, known, np.concatenate(blocks), errors, self.work.label_type)
        return Done(len(names), errors)

    def _values(self, names: list[str], features: np.ndarray) -> np.ndarray:
        if self.work.compact is not None:
            short = self.work.compact
            features = short(features) if len(features) else np.zeros((0, short.facts["to"]), np.float32)
        with np.errstate(over="ignore"):
            values = features.astype(self.work.dtype)
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not finite.all():
            name = names[int(np.flatnonzero(~finite)[0])]
            raise InputError(f"{name!r}: its features are not numbers, or beyond what {self.work.dtype} holds.")
        return values


def too_many(errors: dict[str, str], allowed: int) -> InputError:
    """The error where more images cannot be read than may be left out."""
    reason = next(iter(errors.values()))
    count = f"{len(errors)} images cannot be read, {allowed} may be left out" if allowed else "An image cannot be read"
    return InputError(f"{count} (--max-unreadable, skip_unreadable=). The first: {reason}")
