"""Lists what the cache holds, what in it is damaged, and what nothing needs any more; and removes it."""

import contextlib
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mpncov_zoo.description import FileEntry
from mpncov_zoo.errors import IntegrityError, ManifestError
from mpncov_zoo.hub.cache import FEATURES, Cache
from mpncov_zoo.hub.verification import describe_files, sha256
from mpncov_zoo.manifest import Manifest

STALE = 24 * 3600  # seconds after which what is under way is taken for abandoned
UNUSED = 30 * 24 * 3600  # seconds after which features that nobody asked for again are let go
YOUNG = 3600  # seconds in which a blob may belong to a download whose other files are still under way


@dataclass(frozen=True)
class Held:
    """A directory in the cache.

    Attributes:
        name: of the weights, `<model>.<tag>`, or of a checkpoint's file.
        directory: where it is.
        size: bytes.
    """

    name: str
    directory: Path
    size: int


@dataclass(frozen=True)
class Removal:
    """A file or directory that is to be removed, and the reason.

    Attributes:
        path: of it.
        size: bytes of its content; a file of a directory and its blob may be one content under two names.
        reason: for people.
    """

    path: Path
    size: int
    reason: str


def held(cache: Cache) -> list[Held]:
    """List every directory of the cache, sorted by name, and that of the features of images, if there are any."""
    features = cache.root / FEATURES
    kept = [Held("features of images", features, _size(features))] if _children(features) else []
    return [*(Held(tree.name.rpartition("@")[0], tree, _size(tree)) for tree in _trees(cache)), *kept]


def unneeded(cache: Cache, manifest: Manifest, *, everything: bool = False) -> list[Removal]:
    """List what can be removed without a loss: interrupted downloads, and files that nothing needs or has used lately.

    Args:
        cache: to look at.
        manifest: of this installation.
        everything: all else that can be fetched or converted again, too. Digests of first use stay.
    """
    needed = {} if everything else _needed(cache, manifest)
    blobs = {file.sha256 for files in needed.values() for file in files}
    because = "can be had again" if everything else "nothing of this version needs it"
    found = [Removal(tree, _size(tree), because) for tree in _trees(cache) if tree not in needed]
    for path in _children(cache.blobs):
        if path.name not in blobs and (everything or _age(path) > YOUNG):
            found.append(Removal(path, _size(path), because))
    for path in (*_children(cache.partial), *_hidden(cache)):
        if everything or _age(path) > STALE:
            found.append(Removal(path, _size(path), "broken off"))
    for path in _children(cache.root / FEATURES):
        is_whole = not path.name.startswith(".")
        if everything or _age(path) > (UNUSED if is_whole else STALE):
            because = "features, which can be computed again" if is_whole else "broken off"
            found.append(Removal(path, _size(path), because))
    return found


def damaged(cache: Cache) -> Iterator[Removal]:
    """List the damaged files, after reading every byte. Once they are removed, the next load fetches them again."""
    for path in _children(cache.blobs):
        problem = _problem_of_blob(path)
        if problem:
            yield Removal(path, _size(path), problem)
    for tree in _trees(cache):
        problem = _problem_of_tree(cache, tree)
        if problem:
            yield Removal(tree, _size(tree), problem)


def total(removals: Iterable[Removal]) -> int:
    """Return the number of bytes that the removals free."""
    statuses = [status for removal in removals for status in _statuses(removal.path)]
    names = Counter((s.st_dev, s.st_ino) for s in statuses)
    return sum({(s.st_dev, s.st_ino): s.st_size for s in statuses if names[s.st_dev, s.st_ino] >= s.st_nlink}.values())


def remove(cache: Cache, removals: list[Removal]) -> None:
    """Carry out removals; a directory disappears as a whole.

    Raises:
        FetchError: the cache cannot be written.
    """
    for removal in removals:
        with cache.writing():
            if removal.path.is_dir() and not removal.path.is_symlink():
                hidden = removal.path.with_name(f".{removal.path.name.lstrip('.')}.{os.getpid()}.removed")
                removal.path.rename(hidden)
                shutil.rmtree(hidden)
            else:
                removal.path.unlink(missing_ok=True)


def _needed(cache: Cache, manifest: Manifest) -> dict[Path, list[FileEntry]]:
    """Return the directories that this version may load from, each with its list of files."""
    lists = [(entry.name, entry.files) for entry in manifest.entries if entry.files]
    converted = set()
    for kind in ("converted", "exported", "hubs"):
        for path in _children(cache.refs / kind):
            name = path.name.partition("@")[0]
            files = _files(cache, cache.recall(kind, path.name))
            if files is not None:
                lists.append((name, files))
                converted |= {name} if kind == "converted" else set()
    for entry in manifest.entries:
        digest = entry.upstream and (entry.upstream.sha256 or cache.recall("checkpoints", entry.upstream.file_name))
        if entry.upstream and digest and entry.name not in converted and cache.blob(digest).is_file():
            file = FileEntry(path=entry.upstream.file_name, size=cache.blob(digest).stat().st_size, sha256=digest)
            lists.append((entry.upstream.file_name, [file]))
    return {cache.tree(name, files): files for name, files in lists}


def _files(cache: Cache, digest: str | None) -> list[FileEntry] | None:
    try:
        found = None if digest is None else cache.description(digest)
    except ManifestError:
        return None
    return None if found is None else found[1]


def _problem_of_blob(path: Path) -> str:
    if not re.fullmatch("[0-9a-f]{64}", path.name) or not stat.S_ISREG(path.lstat().st_mode):
        return "no file of the cache"
    digest = sha256(path)
    return "" if digest == path.name else f"expected sha256 {path.name}, got {digest}"


def _problem_of_tree(cache: Cache, tree: Path) -> str:
    """Say what is wrong with a directory: its name holds the digest of its list of files, so any change shows."""
    try:
        files = describe_files(tree, exclude=())
    except IntegrityError as error:
        return str(error)
    found = cache.tree(tree.name.rpartition("@")[0], files).name
    return "" if found == tree.name else f"expected files that make it {tree.name}, got {found}"


def _trees(cache: Cache) -> list[Path]:
    return [path for path in _children(cache.artifacts) if not path.name.startswith(".")]


def _hidden(cache: Cache) -> list[Path]:
    """List the temporary directories, which processes that were killed leave behind."""
    return [path for path in _children(cache.artifacts) if path.name.startswith(".")]


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _size(path: Path) -> int:
    return sum(status.st_size for status in _statuses(path))


def _files_of(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if not file.is_dir()] if path.is_dir() else [path]


def _statuses(path: Path) -> list[os.stat_result]:
    """Return the status of each file that still exists; another process may have removed some."""
    found = []
    for file in _files_of(path):
        with contextlib.suppress(FileNotFoundError):
            found.append(file.lstat())
    return found


def _age(path: Path) -> float:
    return min((time.time() - status.st_mtime for status in _statuses(path)), default=0.0)
