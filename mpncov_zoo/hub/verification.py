"""Is an artifact directory exactly the files that were published? No TensorFlow: this runs before it sees a byte."""

import hashlib
import io
import os
import stat
from collections.abc import Collection, Iterable
from os import PathLike
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from mpncov_zoo.description import DESCRIPTION_FILE, FileEntry
from mpncov_zoo.errors import IntegrityError

OBTAIN_AGAIN = "Obtain the artifact again (weights that came with mpncov-zoo: reinstall it)"
REPAIR = "Something changed it in the cache: mpncov-zoo cache repair"
REPLACE = "Replace it by a copy of the file that it stands for"
MOVE = "If the file is yours, move it elsewhere"
RENAME = "Rename or remove it"


CHUNK = 2**24  # bytes; long steps outside the interpreter lock, so that another thread can work meanwhile


def sha256(path: str | PathLike[str]) -> str:
    """The SHA-256 of a file's content, 64 lower-case hex digits."""
    with open(path, "rb", buffering=0) as file:
        return _digest_of(file)


def _digest_of(file: io.FileIO) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    return digest.hexdigest()


def describe_files(directory: str | PathLike[str], exclude: Collection[str] = (DESCRIPTION_FILE,)) -> list[FileEntry]:
    """List every file below a directory with its size and digest, sorted by path.

    Args:
        directory: the artifact directory.
        exclude: paths to leave out. By default `model.json`, whose own list this becomes; for a published entry of the
            manifest pass `()`, since there `model.json` is listed too.

    Returns:
        One entry a file: POSIX path below the directory, bytes, SHA-256.

    Raises:
        IntegrityError: the directory is missing, or holds a link, a device, or a file that no artifact may hold.

    Example:
        >>> files = describe_files("mpncov_zoo/bundled/mpncov_cifar_resnet20.fashion_mnist", exclude=())
        >>> print([file.model_dump() for file in files])
    """
    root = Path(directory)
    sizes = _regular_files(root)
    return [_entry(root, path, sizes[path]) for path in sorted(sizes) if path not in exclude]


def verify_files(
    directory: str | PathLike[str],
    files: Iterable[FileEntry],
    *,
    ignore: Collection[str] = (),
    later: Collection[FileEntry] = (),
    remedy: str = OBTAIN_AGAIN,
) -> None:
    """Check that a directory holds exactly the given files: the set first, then the sizes, then the digests.

    Args:
        directory: the artifact directory.
        files: what it must hold.
        ignore: paths that may be there without being listed; they too must be regular files.
        later: of the files, those whose digests the caller checks by `verify_digests` before it uses them.
        remedy: what to do where a file is missing or another.

    Raises:
        IntegrityError: naming the directory, the file, what was expected and what was found.
    """
    root = Path(directory)
    expected = {file.path: file for file in files}
    found = _regular_files(root)
    _check_set(root, expected, found, ignore, remedy)
    for path, file in expected.items():
        if found[path] != file.size:
            _refuse(root, path, f"expected {file.size} bytes, got {found[path]}", remedy)
    verify_digests(root, [file for file in expected.values() if file not in later], remedy=remedy)


def verify_digests(directory: str | PathLike[str], files: Iterable[FileEntry], *, remedy: str = OBTAIN_AGAIN) -> None:
    """Check the digests of files whose presence and sizes `verify_files` has checked.

    Raises:
        IntegrityError: naming the directory, the file, what was expected and what was found.
    """
    root = Path(directory)
    for file in files:
        digest = _digest(root, file.path)
        if digest != file.sha256:
            _refuse(root, file.path, f"expected sha256 {file.sha256}, got {digest}", remedy)


def _check_set(
    root: Path, expected: dict[str, FileEntry], found: dict[str, int], ignore: Collection[str], remedy: str
) -> None:
    for path in sorted(set(expected) - set(found)):
        _refuse(root, path, f"expected {expected[path].size} bytes, got no such file", remedy)
    for path in sorted(set(found) - set(expected) - set(ignore)):
        _refuse(root, path, f"expected no such file, got {found[path]} bytes", MOVE)


def _regular_files(root: Path) -> dict[str, int]:
    """POSIX path below `root` -> bytes. Anything but directories and regular files is refused, never followed."""
    if not root.is_dir():
        raise IntegrityError(f"{root}: expected an artifact directory, got none")
    sizes: dict[str, int] = {}
    pending = [root]
    while pending:
        for item in _children(root, pending.pop()):
            path = Path(item.path).relative_to(root).as_posix()
            status = _status(root, path, item)
            if stat.S_ISDIR(status.st_mode):
                pending.append(root / path)
            elif stat.S_ISREG(status.st_mode):
                sizes[path] = status.st_size
            else:
                _refuse(root, path, "expected a regular file, got a link or device", REPLACE)
    return sizes


def _status(root: Path, path: str, item: os.DirEntry[str]) -> os.stat_result:
    try:
        return item.stat(follow_symlinks=False)
    except OSError as error:
        _refuse(root, path, f"expected a readable file, got: {error.strerror}")


def _children(root: Path, directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as items:
            return list(items)
    except OSError as error:
        _refuse(root, directory.relative_to(root).as_posix(), f"expected a readable directory, got: {error.strerror}")


def _digest(root: Path, path: str) -> str:
    """The SHA-256 of a file that was seen to be a regular one, and is not followed or waited for if it is no longer."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(root / path, "rb", buffering=0, opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                _refuse(root, path, "expected a regular file, got a link or device", REPLACE)
            return _digest_of(file)
    except OSError as error:
        _refuse(root, path, f"expected a readable file, got: {error.strerror}")


def _entry(root: Path, path: str, size: int) -> FileEntry:
    try:
        return FileEntry(path=path, size=size, sha256=_digest(root, path))
    except ValidationError as error:
        _refuse(root, path, f"expected a portable name; {error.errors()[0]['msg']}", RENAME)


def _refuse(root: Path, path: str, difference: str, remedy: str = OBTAIN_AGAIN) -> NoReturn:
    raise IntegrityError(f"{root}: {path!r}: {difference}. {remedy}")
