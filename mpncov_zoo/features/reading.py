"""Finds the images in folders, and reads images some at a time."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from mpncov_zoo.errors import InputError
from mpncov_zoo.images import IMAGE_SUFFIXES, has_image_suffix
from mpncov_zoo.preprocessing import on_threads

logger = logging.getLogger(__name__)

Read = Callable[[Any], np.ndarray]
Item = TypeVar("Item")
ReadImage = tuple[str, np.ndarray | InputError]  # path, (height, width, channels) or what is wrong with it


def find_images(inputs: Sequence[str]) -> list[str]:
    """Return the paths of images: files as they are given, and those in folders.

    Folders are searched recursively; links to folders are followed, unless they lead back into a folder above them.

    Args:
        inputs: paths of files or folders.

    Raises:
        InputError: a folder holds no image, or cannot be searched.
    """
    return [path for given in inputs for path in (images_in(given) if os.path.isdir(given) else [given])]


def images_in(folder: str) -> list[str]:
    """Return the paths of the images in a folder, sorted; raises InputError as `find_images` does."""
    found = sorted(_walk(folder, frozenset()))
    if not found:
        raise InputError(f"No image in the folder {folder!r}. Looked for {', '.join(IMAGE_SUFFIXES)}.")
    return found


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Yield the images in a folder and below it; `above` are the folders that it lies in, by device and inode."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not _is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"{folder!r} cannot be searched: {error.strerror}.") from error
    if (status.st_dev, status.st_ino) in above:
        logger.warning("%s is a link to a folder that it lies in: it is not searched again", folder)
        return
    for entry in entries:
        if os.path.isdir(entry.path):  # a link into nothing is none, and refused when it is read
            yield from _walk(entry.path, above | {(status.st_dev, status.st_ino)})
        elif has_image_suffix(entry.name):
            yield entry.path


def _is_hidden(name: str) -> bool:
    """Thumbnails, and the halves of files that macOS leaves on other file systems."""
    return name.startswith(".")


def batches(paths: Iterable[str], batch_size: int) -> Iterator[list[str]]:
    """So many paths at a time; the last batch may be smaller."""
    remaining = iter(paths)
    while batch := list(islice(remaining, batch_size)):
        yield batch


def read_all(images: Sequence[Any], read: Read, names: Sequence[str]) -> list[np.ndarray | InputError]:
    """Read the images of a batch on threads; an unreadable one comes as its error, which names it, in its place.

    Args:
        images: what `read` takes.
        read: image -> (1, height, width, channels), raising InputError: `ImageClassifier.preprocess`.
        names: of the images, for the errors.
    """

    def one(index: int) -> np.ndarray | InputError:
        try:
            return read(images[index])[0]
        except InputError as error:
            name = names[index]
            return InputError(str(error) if repr(name) in str(error) else f"{name!r}: {error}")

    return on_threads(one, images)


def read_batches(
    paths: Iterable[str], read: Read, batch_size: int, images: Iterable[Any] | None = None
) -> Iterator[list[ReadImage]]:
    """Read the images of files in batches; an unreadable image is replaced by its error.

    While a batch is used, the next one is read on a thread. This is not done if the paths come one by one, as from
    standard input, since the next path may take long to come.

    Args:
        paths: of the images.
        read: image -> (1, height, width, channels), raising InputError: `ImageClassifier.preprocess`.
        batch_size: images at once.
        images: what `read` gets of each instead of its path.
    """
    given = None if images is None else iter(images)

    def read_one(names: list[str]) -> list[ReadImage]:
        batch = names if given is None else list(islice(given, len(names)))
        if len(batch) < len(names):
            raise InputError(f"{names[len(batch)]!r} is no longer there: the input has changed since it was listed.")
        return list(zip(names, read_all(batch, read, names), strict=True))

    found = (read_one(batch) for batch in batches(paths, batch_size))
    return _ahead(found) if isinstance(paths, Sequence) else found


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made on a thread while the one before it is used."""
    end: Any = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item
