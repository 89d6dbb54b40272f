"""What INPUT means on the command line: files, folders, and '-' for paths on standard input."""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from mpncov_zoo.errors import InputError
from mpncov_zoo.features.reading import find_images as find_named_images
from mpncov_zoo.images import IMAGE_SUFFIXES

STANDARD_INPUT = "-"
FOLDERS = (
    "Folders are searched recursively, links to folders too, sorted by path, hidden ones left out, for\n"
    + ", ".join(IMAGE_SUFFIXES)
    + "."
)


def find_images(inputs: Sequence[str]) -> Iterable[str]:
    """Return the paths of images: a list, or an iterator where standard input is read as it comes.

    Args:
        inputs: paths of files or folders, or "-".

    Raises:
        InputError: a folder, or standard input, holds none.
    """
    found = [_from_stdin() if each == STANDARD_INPUT else find_named_images([each]) for each in inputs]
    return chain.from_iterable(found) if STANDARD_INPUT in inputs else [*chain.from_iterable(found)]


def _from_stdin() -> Iterator[str]:
    count = 0
    mark = BOM_UTF8.decode(sys.stdin.encoding or "utf-8", "surrogateescape")  # as this locale reads it
    for line in sys.stdin:
        if "\0" in line:
            raise InputError(
                "Standard input has zero bytes, as text in UTF-16 has, which PowerShell's > writes. It takes paths in "
                "UTF-8, one a line: ... | Out-File -Encoding utf8 paths.txt"
            )
        if path := line.rstrip("\r\n").removeprefix("" if count else mark):
            count += 1
            yield path
    if not count:
        raise InputError("No image: standard input named none. It takes paths, one a line.")
