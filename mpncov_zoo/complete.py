"""A file or directory that appears complete or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpncov_zoo.errors import InputError


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A path of the same name, in a new directory beside the given one, which takes its place at the end.

    Directories above it are made.

    Raises:
        InputError: the disk or the file system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """What `complete` does in a directory that exists, for callers who say in their own words what went wrong.

    Raises:
        OSError: the disk or the file system refuses.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        partial = Path(scratch) / path.name
        yield partial
        partial.replace(path)
