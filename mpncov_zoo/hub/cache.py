"""What is kept between runs, by content: blobs named by their sha256, and directories made of them.

    blobs/<sha256>                   a file's content, complete
    artifacts/<name>@<16 digits>/    a directory of such files, complete or absent; the digits are its list's digest
    refs/<kind>/<name>               the sha256 of a model.json or checkpoint that was found or made on this machine
    partial/                         downloads under way, or broken off
    locks/                           save double work; nothing depends on them

Everything appears by a rename, so any number of processes may work here, and may be killed at any time. What is here
is trusted no more than what comes over the network: whoever reads it verifies it.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Literal

from filelock import BaseFileLock, FileLock, Timeout
from platformdirs import user_cache_path

from mpncov_zoo.description import DESCRIPTION_FILE, ArtifactDescription, FileEntry, parse_description
from mpncov_zoo.errors import FetchError
from mpncov_zoo.hub.verification import describe_files, sha256

CACHE_VARIABLE = "MPNCOV_ZOO_CACHE"
FEATURES = "features"  # the folder of what `mpncov_zoo.features` computed
LONGEST_WAIT = 3600  # seconds for another process, before its work is done a second time
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of mpncov_zoo: see https://bford.info/cachedir/\n"

Kind = Literal["checkpoints", "converted", "exported", "hubs"]
logger = logging.getLogger(__name__)


def cache_root(cache_dir: str | PathLike[str] | None = None) -> Path:
    """Return the cache's directory: the argument, else MPNCOV_ZOO_CACHE, else the platform's own place."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    return Path(os.path.expanduser(chosen)).absolute() if chosen else user_cache_path("mpncov_zoo")


class Cache:
    """The cache in one directory. The directory need not exist; a read-only one serves what it has.

    Args:
        root: of `cache_root`.

    Attributes:
        root, blobs, artifacts, refs, partial, locks: its directories.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs, self.artifacts, self.refs = root / "blobs", root / "artifacts", root / "refs"
        self.partial, self.locks = root / "partial", root / "locks"

    def blob(self, digest: str) -> Path:
        """Return the path at which the content with this sha256 is kept, if it is in the cache."""
        return self.blobs / digest

    def holds(self, file: FileEntry) -> bool:
        """Say whether the content of a file is in the cache and undamaged."""
        path = self.blob(file.sha256)
        return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256

    def store(self, path: Path, digest: str) -> Path:
        """Move a complete file into the cache, as the blob of its sha256; return the blob's path."""
        with self.writing():
            self.blobs.mkdir(parents=True, exist_ok=True)
            try:
                path.chmod(0o444)
                path.replace(self.blob(digest))
            except FileNotFoundError:  # another process had the same content, and tidied up
                if not self.blob(digest).is_file():
                    raise
            _synchronize(self.blobs)
        return self.blob(digest)

    def store_bytes(self, data: bytes, digest: str) -> Path:
        """Write bytes into the cache, as the blob of their sha256; return the blob's path."""
        with self.scratch("bytes") as scratch, self.writing():
            (scratch / "content").write_bytes(data)
            return self.store(scratch / "content", digest)

    def tree(self, name: str, files: Iterable[FileEntry]) -> Path:
        """Return the path of the directory that is made of these files, whether it exists or not."""
        listed = json.dumps(sorted((file.path, file.sha256) for file in files))
        return self.artifacts / f"{name}@{hashlib.sha256(listed.encode()).hexdigest()[:16]}"

    def materialise(self, name: str, files: Iterable[FileEntry]) -> Path:
        """Make the directory of these files from their blobs, unless it exists; return its path."""
        files = list(files)
        tree = self.tree(name, files)
        if tree.is_dir():
            return tree
        with self.scratch(name) as scratch, self.writing():
            for file in files:
                place = scratch / tree.name / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                _link(self.blob(file.sha256), place)
            try:
                (scratch / tree.name).rename(tree)
            except OSError:  # another process was first
                if not tree.is_dir():
                    raise
            _synchronize(self.artifacts)
        return tree

    def adopt(self, directory: Path, name: str) -> Path:
        """Move the files of a directory that was made on this machine into the cache; return their new directory."""
        files = describe_files(directory, exclude=())
        for file in files:
            self.store(directory / file.path, file.sha256)
        return self.materialise(name, files)

    def description(self, digest: str) -> tuple[ArtifactDescription, list[FileEntry]] | None:
        """Return the `model.json` with this sha256 and its artifact's list of files; None if it is not in the cache.

        Raises:
            ManifestError: it is malformed.
        """
        path = self.blob(digest)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        description = parse_description(path, data)
        own = FileEntry(path=DESCRIPTION_FILE, size=len(data), sha256=digest)
        return description, [own, *description.files]

    def recall(self, kind: Kind, name: str) -> str | None:
        """Return the sha256 that was remembered under a name, or None."""
        try:
            text = self._ref(kind, name).read_text().strip()
        except OSError:
            return None
        return text if re.fullmatch("[0-9a-f]{64}", text) else None

    def remember(self, kind: Kind, name: str, digest: str) -> None:
        """Remember a sha256 under a name, in place of an earlier one."""
        with self.scratch(kind) as scratch, self.writing():
            (scratch / "ref").write_text(f"{digest}\n")
            self._ref(kind, name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "ref").replace(self._ref(kind, name))

    def _ref(self, kind: Kind, name: str) -> Path:
        return self.refs / kind / name

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Provide a temporary directory inside the cache; it is removed when the context ends."""
        with self.writing():
            self.artifacts.mkdir(parents=True, exist_ok=True)
            if not (self.root / "CACHEDIR.TAG").exists():
                (self.root / "CACHEDIR.TAG").write_text(TAG)
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.artifacts))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Let one process at a time do a piece of work. Where the file system has no locks, all may do it."""
        lock = None
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.locks / f"{name}.lock")
            _acquire(lock, name)
        except (OSError, NotImplementedError, Timeout) as error:
            logger.info("%s: no lock (%s); going on without", name, error)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of the file system into one that names the cache and says what to do.

        Raises:
            FetchError: in its place.
        """
        try:
            yield
        except OSError as error:
            raise FetchError(
                f"the cache {self.root} cannot be written: {error.strerror}. Nothing there was changed; make room, or "
                f"give another cache_dir, or set {CACHE_VARIABLE}"
            ) from error


def _acquire(lock: BaseFileLock, name: str) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another process that works on it", name)
        lock.acquire(timeout=LONGEST_WAIT)


def _link(blob: Path, place: Path) -> None:
    """Give a blob a second name; copy it where the file system has no hard links."""
    try:
        os.link(blob, place)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(blob, place)


def _synchronize(directory: Path) -> None:
    """Write the renames in a directory to the disk, so that they outlive a power cut, where the system can."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
