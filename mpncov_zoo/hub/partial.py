"""Downloads that are not complete: each process writes its own file, which can begin with what another one left."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mpncov_zoo.errors import FetchError, IntegrityError
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.transport import PIECE

SUFFIX = ".partial"
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')  # a weak one (W/"...") does not vouch for bytes


class PartialFile:
    """A context in which a file grows. At its end it is a blob of the cache, or can be continued, or is removed.

    Args:
        cache: where.
        key: the same for downloads of the same file.
        progress: is told how many bytes more there are, or fewer.

    Attributes:
        size: bytes so far.
        etag: the server's name for this version of the file; "" where it cannot be continued.
    """

    def __init__(self, cache: Cache, key: str, progress: Callable[[int], object]) -> None:
        self.size, self.etag = 0, ""
        self._cache, self._key, self._progress = cache, key, progress
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        with self._cache.writing():
            self._cache.partial.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f"{self._key}.", suffix=SUFFIX, dir=self._cache.partial)
        self._path, self._file = Path(name), os.fdopen(descriptor, "wb", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None or issubclass(kind, IntegrityError) or not (self.size and self.etag):
            _remove(self._path)

    @property
    def digest(self) -> str:
        """The sha256 of what was written so far."""
        return self._hash.hexdigest()

    def begin(self, etag: str = "") -> None:
        """Begin with an empty file; an etag that does not identify the bytes is ignored."""
        self._progress(-self.size)
        self.size, self.etag, self._hash = 0, etag if STRONG_ETAG.fullmatch(etag) else "", hashlib.sha256()
        with self._cache.writing():
            self._file.seek(0)
            self._file.truncate()
            _note(self._path).write_text(self.etag)

    def write(self, piece: bytes) -> None:
        """Append bytes to the file.

        Raises:
            FetchError: the disk is full, say; nothing is kept then.
        """
        try:
            with self._cache.writing():
                rest = memoryview(piece)
                while rest:
                    rest = rest[self._file.write(rest) :]
        except FetchError:
            self.etag = ""
            raise
        self._hash.update(piece)
        self.size += len(piece)
        self._progress(len(piece))

    def inherit(self, limit: int) -> None:
        """Begin with a copy of the longest interrupted download of the same file.

        A copy, for it may be that of a process that is alive, where locks do not work.
        """
        for path in sorted(self._others(), key=_size, reverse=True):
            etag = _read_note(path)
            if etag and 0 < _size(path) <= limit:
                self.begin(etag)
                with open(path, "rb") as file:
                    while self.size < limit and (piece := file.read(min(PIECE, limit - self.size))):
                        self.write(piece)
                return

    def complete(self) -> None:
        """Move the file into the cache, and remove what other processes left of it."""
        with self._cache.writing():
            os.fsync(self._file.fileno())
        self._file.close()
        self._cache.store(self._path, self.digest)
        for path in self._others():
            _remove(path)

    def _others(self) -> list[Path]:
        return [path for path in self._cache.partial.glob(f"{self._key}.*{SUFFIX}") if path != self._path]


def _note(path: Path) -> Path:
    """Return the path of the note that holds a partial file's etag."""
    return path.with_name(f"{path.name}.etag")


def _read_note(path: Path) -> str:
    try:
        etag = _note(path).read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return etag if STRONG_ETAG.fullmatch(etag) else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _remove(path: Path) -> None:
    for name in (path, _note(path)):
        with contextlib.suppress(OSError):  # another process has it open, on Windows
            name.unlink(missing_ok=True)
