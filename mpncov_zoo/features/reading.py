"""Finds the images that are meant, in files, folders and on standard input, and reads them, some at a time."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mpncov_zoo.errors import InputError

STANDARD_INPUT = "-"
IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FOLDERS = (
    "Folders are searched recursively, sorted by path, hidden ones left out, for " + ", ".join(IMAGE_SUFFIXES) + "."
)

Read = Callable[[Any], np.ndarray]
ReadImage = tuple[str, np.ndarray | InputError]  # path, (height, width, channels) or what is wrong with it


def find_images(inputs: Sequence[str]) -> Iterator[str]:
    """Paths of images: files as given, those in folders, and those named on standard input.

    Folders are searched at once, standard input is read as it comes.

    Args:
        inputs: paths of files or folders, or "-".

    Raises:
        InputError: a folder, or standard input, holds none.
    """
    return chain.from_iterable([_from_stdin() if given == STANDARD_INPUT else _files(given) for given in inputs])


def _files(given: str) -> list[str]:
    if not os.path.isdir(given):
        return [given]
    found = []
    for folder, folders, names in os.walk(given, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        images = (name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(name))
        found += [os.path.join(folder, name) for name in images]
    if not found:
        raise InputError(f"No image in the folder {given!r}. Looked for {', '.join(IMAGE_SUFFIXES)}.")
    return sorted(found)


def _is_hidden(name: str) -> bool:
    """Thumbnails, and the halves of files that macOS leaves on other file systems."""
    return name.startswith(".")


def _refuse_folder(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename!r} cannot be searched: {error.strerror}.") from error


def _from_stdin() -> Iterator[str]:
    count = 0
    for line in sys.stdin:
        if path := line.rstrip("\r\n"):
            count += 1
            yield path
    if not count:
        raise InputError("No image: standard input named none. It takes paths, one a line.")


def batches(paths: Iterable[str], batch_size: int) -> Iterator[list[str]]:
    """So many paths at a time; the last batch may be smaller."""
    remaining = iter(paths)
    while batch := list(islice(remaining, batch_size)):
        yield batch


def read_all(images: Sequence[Any], read: Read, names: Sequence[str]) -> list[np.ndarray | InputError]:
    """Read the images of a batch, each on a thread; an unreadable one comes as its error, which names it, in its place.

    Args:
        images: what `read` takes.
        read: image -> (1, height, width, channels), raising InputError: `ImageClassifier.preprocess`.
        names: of the images, for the errors.
    """

    def one(image: Any, name: str) -> np.ndarray | InputError:
        try:
            return read(image)[0]
        except InputError as error:
            return InputError(str(error) if repr(name) in str(error) else f"{name!r}: {error}")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, images, names))


def read_batches(paths: Iterable[str], read: Read, batch_size: int) -> Iterator[list[ReadImage]]:
    """Read the images of files, so many at a time; an unreadable one comes as its error, in its place."""
    for batch in batches(paths, batch_size):
        yield list(zip(batch, read_all(batch, read, batch), strict=True))
