"""From the arguments of a command to images: which files are meant, and reading them, some at a time."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from mpncov_zoo.errors import InputError

STANDARD_INPUT = "-"
IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FOLDERS = (
    "Folders are searched recursively, sorted by path, hidden ones left out, for " + ", ".join(IMAGE_SUFFIXES) + "."
)

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


def read_batches(paths: Iterable[str], read: Callable[[str], np.ndarray], batch_size: int) -> Iterator[list[ReadImage]]:
    """Read images, some at a time, each on a thread; an unreadable one comes as its error, in its place.

    Args:
        paths: of the images.
        read: path -> (1, height, width, channels), raising InputError: `ImageClassifier.preprocess`.
        batch_size: how many at a time; the last batch may be smaller.
    """

    def one(path: str) -> ReadImage:
        try:
            return path, read(path)[0]
        except InputError as error:
            named = str(error) if repr(path) in str(error) else f"{path!r}: {error}"
            return path, InputError(named)

    remaining = iter(paths)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(remaining, batch_size)):
            yield list(pool.map(one, batch))
