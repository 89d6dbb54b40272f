"""Files by the path or the URL that names them: on disks, and where fsspec finds them, as in s3://, gs:// and hf://."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpncov_zoo.complete import complete
from mpncov_zoo.errors import InputError

URL_MARK = "://"
EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}  # what pip installs for a scheme


class Place:
    """A file or a directory.

    Args:
        name: a path, or a URL whose scheme fsspec knows.

    Raises:
        InputError: what this URL needs is not installed, or the place does not answer.
    """

    def __init__(self, name: str | os.PathLike[str]):
        self.name = os.fspath(name)
        from fsspec.implementations.local import LocalFileSystem

        if URL_MARK in self.name:
            from fsspec.core import url_to_fs

            scheme = self.name.partition(URL_MARK)[0]
            with self._answering():
                try:
                    self.files, self.inner = url_to_fs(self.name)
                except ImportError as error:
                    raise InputError(
                        f"{self.name}: {scheme}{URL_MARK} needs another package: pip install "
                        f"{EXTRAS.get(scheme, 'what fsspec names')} ({error})."
                    ) from None
        else:
            self.files, self.inner = LocalFileSystem(), os.path.abspath(self.name)
        self.is_local = isinstance(self.files, LocalFileSystem)

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.name.rstrip('/')}/{name}")

    @property
    def location(self) -> str:
        """The name as another process finds it, whatever its directory."""
        return self.inner if self.is_local else self.name

    def is_directory(self) -> bool:
        """Whether it is there and a directory."""
        with self._answering():
            return self.files.isdir(self.inner)

    def is_file(self) -> bool:
        """Whether it is there and a file."""
        with self._answering():
            return self.files.isfile(self.inner)

    def names(self) -> list[str]:
        """What a directory holds, sorted; nothing if it is not there."""
        with self._answering():
            self.files.invalidate_cache()  # of what another process has changed
            if not self.files.isdir(self.inner):
                return []
            return sorted(os.path.basename(path.rstrip("/")) for path in self.files.ls(self.inner, detail=False))

    def below(self) -> list[str]:
        """The names of all files in a directory and below it, sorted.

        Raises:
            InputError: there is no such directory.
        """
        try:
            with self._answering():
                return sorted(self._named(path) for path in self.files.find(self.inner))
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: there is no such directory ({error}).") from None

    def matches(self) -> list[str]:
        """The names of the files that fit the name, which has the wildcards of a shell; `**` is any depth."""
        with self._answering():
            return sorted(self._named(path) for path in self.files.glob(self.inner))

    def _named(self, path: str) -> str:
        if URL_MARK in self.name:
            return str(self.files.unstrip_protocol(path))
        return path if os.path.isabs(self.name) else os.path.relpath(path)

    def read(self) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
            InputError: it cannot be read.
        """
        with self._answering():
            return self.files.cat_file(self.inner)

    def open(self) -> Any:
        """A file object to read bytes from."""
        with self._answering():
            return self.files.open(self.inner, "rb")

    def write(self, content: bytes) -> None:
        """Make the file of this content; it appears complete or not at all.

        Raises:
            InputError: the disk, the file system or the store refuses.
        """
        if self.is_local:
            with complete(Path(self.inner)) as partial:
                partial.write_bytes(content)
        else:
            with self._answering("written"):
                self.files.pipe_file(self.inner, content)

    def take(self, file: Path) -> None:
        """Make the file of the content of one on this machine; it appears complete or not at all."""
        if self.is_local:
            with complete(Path(self.inner)) as partial:
                file.replace(partial)
        else:
            with self._answering("written"):
                self.files.put_file(str(file), self.inner)

    def remove(self) -> None:
        """Remove a file, or a directory with all in it; nothing happens if it is not there."""
        with self._answering("removed"):
            if self.files.exists(self.inner):
                self.files.rm(self.inner, recursive=True)

    @contextmanager
    def _answering(self, done: str = "read") -> Iterator[None]:
        """Turn what the libraries of stores raise, each its own kind, into one line; a missing file stays one."""
        try:
            yield
        except (InputError, FileNotFoundError):
            raise
        except Exception as error:
            raise InputError(f"{self.name} cannot be {done}: {reason(error)}.") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
