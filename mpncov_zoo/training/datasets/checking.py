"""Finds the images that cannot be decoded before a training run begins.

In the middle of a run a damaged file could only stop the run, or leave a gap that moves every later batch. So each file
is decoded once beforehand, by `read_image` as in the pipelines, on all cores. The result is kept on file, so that a
resumed run sees the same images without decoding them again. Packed shards hold only images that can be decoded.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError
from mpncov_zoo.images import read_image
from mpncov_zoo.progress import progress_bar
from mpncov_zoo.training.datasets.listings import SHOWN
from mpncov_zoo.training.datasets.splits import Files, Split, require_usable

logger = logging.getLogger(__name__)

TOLERANCE = 0.001  # of the images may be corrupt,
TOLERATED = 10  # and this many always
_AT_ONCE = 256  # files that are handed to the threads


@dataclass(frozen=True)
class Corrupt:
    """An image that cannot be decoded: its position in the split, its path, and why."""

    index: int
    name: str
    reason: str


def problem(encoded: bytes) -> str | None:
    """Why the content of an image's file cannot be decoded; None where it can."""
    try:
        read_image(encoded)
    except InputError as error:
        return str(error)
    return None


def find_corrupt(split: Split, *, progress: bool = False) -> Iterator[Corrupt]:
    """The images of a split that cannot be decoded, in order, as they are found.

    Args:
        split: only files are looked at; in memory there is nothing to decode, and shards hold what could be decoded.
        progress: show a bar on standard error.
    """
    if not isinstance(split, Files):
        return
    remaining = iter(range(len(split)))
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress_bar(len(split), "image", show=progress) as bar:
        while indices := list(islice(remaining, _AT_ONCE)):
            for index, reason in zip(indices, pool.map(lambda i: _problem_of_file(split, i), indices), strict=True):
                if reason:
                    yield Corrupt(index, split.name(index), reason)
            bar.update(len(indices))


def without_corrupt(
    split: Split, *, tolerance: float = TOLERANCE, record: Path | None = None, progress: bool = False
) -> Split:
    """The split without the images that cannot be decoded; each of them is named in the log.

    Args:
        split: the images.
        tolerance: the share of them that may be corrupt; ten may always be.
        record: file to read the result from, if it is of these images, and else to write it to.
        progress: show a bar on standard error.

    Raises:
        InputError: more than that are corrupt, or a class consists of nothing else.
    """
    if not isinstance(split, Files):
        return split
    digest = split.fingerprint()
    known = _read_record(record, digest)
    corrupt = known if known is not None else _few_corrupt(split, tolerance, progress)
    if record is not None and known is None:
        with complete(record) as partial:
            partial.write_text(json.dumps({"images": digest, "corrupt": [vars(image) for image in corrupt]}) + "\n")
    for image in corrupt:
        logger.warning("left out: %s: %s", image.name, image.reason)
    if not corrupt:
        return split
    kept = split.take(np.delete(np.arange(len(split)), [image.index for image in corrupt]))
    _require_classes(split, kept)
    return kept


def require_few(corrupt: Mapping[str, str], count: int, tolerance: float) -> None:
    """Refuse a data set of which too much is corrupt.

    Args:
        corrupt: what was found so far, name -> reason.
        count: of all its images.
        tolerance: the share of them that may be corrupt; ten may always be.

    Raises:
        InputError: naming some of them.
    """
    allowed = max(TOLERATED, int(tolerance * count))
    if len(corrupt) > allowed:
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(corrupt.items())[:SHOWN])
        raise InputError(
            f"More than {allowed} of {count} images cannot be decoded, among them {shown}. `mpncov-zoo data check` "
            "lists all; obtain them again, remove them, or tolerate more."
        )


def _few_corrupt(split: Files, tolerance: float, progress: bool) -> list[Corrupt]:
    corrupt: list[Corrupt] = []
    for image in find_corrupt(split, progress=progress):
        corrupt.append(image)
        require_few({image.name: image.reason for image in corrupt}, len(split), tolerance)
    return corrupt


def _problem_of_file(split: Files, index: int) -> str | None:
    try:
        return problem(split.encoded(index))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _read_record(record: Path | None, digest: str) -> list[Corrupt] | None:
    """What an earlier check found; None if there was none of these images."""
    if record is None or not record.exists():
        return None
    try:
        stored = json.loads(record.read_text())
        return [Corrupt(**image) for image in stored["corrupt"]] if stored["images"] == digest else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{record} is damaged: {error}. Delete it; the images will be checked again.") from error


def _require_classes(split: Files, kept: Split) -> None:
    lost = set(split.labels.tolist()) - set(kept.labels.tolist())
    if lost:
        raise InputError(f"No image of the class {split.class_names[min(lost)]!r} can be decoded.")
    require_usable(kept, training=False)
