"""Files by the path or the URL that names them: on disks, and where fsspec finds them, as in s3://, gs:// and hf://."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError, ZooError

URL_MARK = "://"
WILDCARDS = frozenset("*?[")


class Place:
    """A file or a directory.

    What a library of a store raises, each its own kind, becomes an InputError of one line in every method.

    Args:
        name: a path, or a URL whose scheme fsspec knows.

    Raises:
        InputError: what this URL needs is not installed, or the place does not answer.

    Attributes:
        filesystem: fsspec's.
        path: absolute, as the file system has it.
        is_local: whether it is on this machine's disks.
    """

    def __init__(self, name: str | os.PathLike[str]):
        self.name = os.fspath(name)
        from fsspec import get_filesystem_class
        from fsspec.implementations.local import LocalFileSystem

        if URL_MARK in self.name:
            with self._answering():  # `url_to_fs` would take `::` in a name for a chain of file systems
                kind = get_filesystem_class(self.name.partition(URL_MARK)[0])
                self.filesystem = kind(**kind._get_kwargs_from_urls(self.name))
                self.path = str(kind._strip_protocol(self.name))
        else:
            self.filesystem, self.path = LocalFileSystem(), os.path.abspath(self.name)
        self.is_local = isinstance(self.filesystem, LocalFileSystem)

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.name.rstrip('/')}/{name}")

    @property
    def location(self) -> str:
        """The name as another process finds it, whatever its directory."""
        return self.path if self.is_local else self.name

    def is_directory(self) -> bool:
        """Whether it is there and a directory."""
        with self._answering():
            return self.filesystem.isdir(self.path)

    def is_file(self) -> bool:
        """Whether it is there and a file."""
        with self._answering():
            return self.filesystem.isfile(self.path)

    def names(self) -> list[str]:
        """What a directory holds, sorted; nothing if it is not there."""
        with self._answering():
            self.filesystem.invalidate_cache()  # else fsspec answers from before another process wrote
            if not self.filesystem.isdir(self.path):
                return []
            return sorted(os.path.basename(path.rstrip("/")) for path in self.filesystem.ls(self.path, detail=False))

    def below(self) -> list[str]:
        """The URLs of all files in the directory that a URL names and below it, sorted.

        Raises:
            InputError: there is no such directory.
        """
        try:
            with self._answering():
                return sorted(self.filesystem.unstrip_protocol(path) for path in self.filesystem.find(self.path))
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: there is no such directory ({error}).") from None

    def matches(self) -> list[str]:
        """The files that fit the name, which has the wildcards of a shell; `**` is any depth. Hidden ones do not."""
        if URL_MARK not in self.name:
            return sorted(path for path in glob.glob(self.name, recursive=True) if os.path.isfile(path))
        with self._answering():
            found = self.filesystem.glob(self.path, detail=True)
            fixed = min(self.path.index(each) for each in WILDCARDS if each in self.path)
            files = [path for path, facts in found.items() if facts["type"] == "file" and not hidden(path[fixed:])]
            return sorted(self.filesystem.unstrip_protocol(path) for path in files)

    def read(self) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._answering():
            return self.filesystem.cat_file(self.path)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A file to read bytes from; whatever fails within the context counts as the file's failure.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._answering(), self.filesystem.open(self.path, "rb") as file:
            yield file

    def write(self, content: bytes | memoryview) -> None:
        """Make the file of this content; on a disk and in an object store it appears complete or not at all."""
        if self.is_local:
            with complete(Path(self.path)) as partial:
                partial.write_bytes(content)
        else:
            with self._answering("written"):
                self.filesystem.pipe_file(self.path, bytes(content))

    def take(self, file: Path) -> None:
        """Make the file of the content of one on this machine, as `write` does."""
        if self.is_local:
            with complete(Path(self.path)) as partial:
                file.replace(partial)
        else:
            with self._answering("written"):
                self.filesystem.put_file(str(file), self.path)

    def remove(self) -> None:
        """Remove a file, or a directory with all in it; nothing happens if it is not there."""
        with self._answering("removed"):
            if not self.is_local:
                for path in self.filesystem.find(self.path):
                    self.filesystem.rm_file(path)  # `rm` would take wildcards in a name for wildcards
            elif os.path.isdir(self.path):
                shutil.rmtree(self.path, ignore_errors=True)
            elif os.path.lexists(self.path):
                Path(self.path).unlink(missing_ok=True)

    @contextmanager
    def _answering(self, done: str = "read") -> Iterator[None]:
        try:
            yield
        except ZooError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and done == "read":
                raise
            raise InputError(f"{self.name} cannot be {done}: {reason(error)}.") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def hidden(path: str) -> bool:
    """Whether a file or a folder on the way to it begins with a dot."""
    return any(part.startswith(".") and part.strip(".") for part in path.split("/"))
