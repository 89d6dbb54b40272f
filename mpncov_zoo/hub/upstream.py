"""Finds or fetches the published checkpoints that artifacts are converted from, and checks their digests.

Where only a few digits of a digest are published, or none, a file stays untrusted input to the readers of `conversion`,
which run nothing in it; the cache remembers its full digest, and takes no other file afterwards.
"""

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from mpncov_zoo.description import FileEntry
from mpncov_zoo.errors import FetchError, IntegrityError, OfflineError
from mpncov_zoo.hub import transport
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.download import LARGEST, NOTHING_KEPT, Expected, download
from mpncov_zoo.hub.transport import Address
from mpncov_zoo.hub.verification import REPAIR, sha256, verify_files
from mpncov_zoo.manifest import PythonPackage, Upstream
from mpncov_zoo.progress import progress_bar

LOCAL_VARIABLE = "MPNCOV_ZOO_UPSTREAM"  # a directory that holds published files under their names
DRIVE = "gdrive:"
GDOWN = 'pip install "mpncov-zoo[gdrive]"'
SLACK = 1.05  # a published size is rounded; a file beyond that is not it


def obtain(name: str, upstream: Upstream, cache: Cache, *, offline: bool = False) -> Path:
    """Return the path of a published checkpoint on this machine, verified.

    Looked for in this order: the directory in MPNCOV_ZOO_UPSTREAM, an installed package that carries it, the cache;
    then it is fetched from where it is published, one place after the other.

    Args:
        name: of the weights, for messages.
        upstream: the file.
        cache: where a fetched file is kept, and the digest of any.
        offline: forbid to fetch.

    Returns:
        Its path.

    Raises:
        FetchError, OfflineError: it is not here, and cannot or must not be fetched; the message says what to do.
        IntegrityError: it is not the published file, or not the one that was first used here.
    """
    for path in (_local(upstream), _packaged(upstream)):
        if path is not None and path.is_file():
            digest = _require_published(path, upstream, cache)
            _pin(upstream, cache, digest)
            return path
    with cache.lock(f"checkpoint-{upstream.file_name}"):
        return _cached(upstream, cache) or _fetched(name, upstream, cache, offline)


def whereabouts(upstream: Upstream, cache: Cache) -> str:
    """Say where a published checkpoint would come from now; nothing is read, verified or asked.

    Returns:
        Words that begin with "here" where it is on this machine, else what brings it.
    """
    if any(path is not None and path.is_file() for path in (_local(upstream), _packaged(upstream))):
        return "here, converted on first use"
    digest = upstream.sha256 or cache.recall("checkpoints", upstream.file_name)
    if digest is not None and cache.blob(digest).is_file():
        return "here, converted on first use"
    if upstream.package is not None:
        return _install(upstream.package).partition(" (or ")[0]
    if upstream.url is not None:
        return f"fetched from {urlsplit(upstream.url).hostname}, converted on first use"
    return "fetched from Google Drive, converted on first use" if find_spec("gdown") else GDOWN


def _require_published(path: Path, upstream: Upstream, cache: Cache) -> str:
    """Return the SHA-256 of a file, if it is the published one."""
    digest = sha256(path)
    _require_digest(str(path), digest, upstream, cache, f"Remove {path}, and obtain it again")
    return digest


def _require_digest(source: str, digest: str, upstream: Upstream, cache: Cache, remedy: str) -> None:
    if not digest.startswith(upstream.digest):
        expected = upstream.sha256 or f"{upstream.digest}..."
        raise IntegrityError(f"{source}: expected sha256 {expected}, got {digest}. {remedy}")
    pinned = None if upstream.sha256 else cache.recall("checkpoints", upstream.file_name)
    if pinned not in (None, digest):
        raise IntegrityError(
            f"{source}: expected sha256 {pinned}, which {upstream.file_name} had when it was first used here, got "
            f"{digest}. If this one is right, remove {cache.refs / 'checkpoints' / upstream.file_name}"
        )


def _pin(upstream: Upstream, cache: Cache, digest: str) -> None:
    """Remember the digest of a file whose publisher does not state it."""
    if upstream.sha256 is None and cache.recall("checkpoints", upstream.file_name) is None:
        cache.remember("checkpoints", upstream.file_name, digest)


def _local(upstream: Upstream) -> Path | None:
    given = os.environ.get(LOCAL_VARIABLE)
    return Path(os.path.expanduser(given)) / upstream.file_name if given else None


def _packaged(upstream: Upstream) -> Path | None:
    """Return the file's path in its installed package; no code of the package is run."""
    if upstream.package is None:
        return None
    try:
        files = importlib.metadata.files(upstream.package.name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == upstream.file_name), None)


def _cached(upstream: Upstream, cache: Cache) -> Path | None:
    digest = upstream.sha256 or cache.recall("checkpoints", upstream.file_name)
    if digest is None or not cache.blob(digest).is_file():
        return None
    entry = FileEntry(path=upstream.file_name, size=cache.blob(digest).stat().st_size, sha256=digest)
    tree = cache.tree(upstream.file_name, [entry])
    if not tree.is_dir():
        if not cache.holds(entry):
            return None
        cache.materialise(upstream.file_name, [entry])
    verify_files(tree, [entry], remedy=REPAIR)
    return tree / upstream.file_name


def _fetched(name: str, upstream: Upstream, cache: Cache, offline: bool) -> Path:
    """Fetch the file from the first place that has it."""
    if offline:
        raise OfflineError(f"{_absent(name, upstream)}, and the network is switched off. {_remedy(upstream)}")
    problems: list[FetchError | IntegrityError] = []
    for fetch in _places(upstream, cache):
        try:
            _pin(upstream, cache, fetch())
            path = _cached(upstream, cache)
            if path is not None:
                return path
        except (FetchError, IntegrityError) as error:
            problems.append(error)
    kind = IntegrityError if any(isinstance(problem, IntegrityError) for problem in problems) else FetchError
    met = f" ({'; '.join(map(str, problems))})" if problems else ""
    raise kind(f"{_absent(name, upstream)}, and cannot be fetched{met}. {_remedy(upstream)}")


def _places(upstream: Upstream, cache: Cache) -> Iterator[Callable[[], str]]:
    """Yield a function for each place where the file is published; it fetches the file and returns its digest."""
    for place in upstream.locations:
        if place.startswith(DRIVE):
            yield partial(_from_drive, place.removeprefix(DRIVE), upstream, cache)
        elif place.startswith(("http://", "https://")):
            yield partial(_from_url, place, upstream, cache)


def _from_url(url: str, upstream: Upstream, cache: Cache) -> str:
    address = Address(url, plain_http=bool(upstream.digest))
    digest = upstream.sha256 or cache.recall("checkpoints", upstream.file_name) or upstream.digest
    expected = Expected(upstream.file_name, digest, upstream.size_bytes, _limit(upstream))
    with progress_bar(_size(upstream), "B", label=upstream.file_name) as bar:
        return download(address, expected, cache, limits=transport.LIMITS, progress=bar.update)


def _from_drive(identifier: str, upstream: Upstream, cache: Cache) -> str:
    """Fetch the file by gdown, which knows the confirmation pages of Google Drive."""
    try:
        import gdown  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise FetchError(f"{DRIVE}{identifier} needs gdown: {GDOWN}") from None
    place, limit = f"{DRIVE}{identifier}", _limit(upstream)
    with (
        cache.scratch(upstream.file_name) as scratch,
        progress_bar(_size(upstream), "B", label=upstream.file_name) as bar,
    ):
        path = scratch / upstream.file_name

        def advance(received: int, _: int | None) -> None:
            bar.update(received - bar.n)
            if received > limit:
                raise IntegrityError(f"{place}: expected at most {limit} bytes, got more. {NOTHING_KEPT}")

        try:
            waits = (transport.LIMITS.connect, transport.LIMITS.read)
            gdown.download(
                id=identifier, output=str(path), quiet=True, use_cookies=False, timeout=waits, progress=advance
            )
        except IntegrityError:
            raise
        except Exception as error:  # gdown's own, of requests, of the file system: all of them mean no file
            raise FetchError(f"{place}: {transport.reason(error)}") from error
        return _stored(place, path, upstream, cache)


def _stored(place: str, path: Path, upstream: Upstream, cache: Cache) -> str:
    """Move a downloaded file into the cache and return its digest."""
    size = path.stat().st_size
    if upstream.size_bytes not in (None, size):
        raise IntegrityError(f"{place}: expected {upstream.size_bytes} bytes, got {size}. {NOTHING_KEPT}")
    digest = sha256(path)
    _require_digest(place, digest, upstream, cache, NOTHING_KEPT)
    cache.store(path, digest)
    return digest


def _size(upstream: Upstream) -> int | None:
    return upstream.size_bytes or (int(upstream.size_mib * 2**20) if upstream.size_mib else None)


def _limit(upstream: Upstream) -> int:
    return upstream.size_bytes or int(SLACK * upstream.size_mib * 2**20 if upstream.size_mib else LARGEST)


def _absent(name: str, upstream: Upstream) -> str:
    return f"{name} is converted from {upstream.file_name}, which is not on this machine"


def _remedy(upstream: Upstream) -> str:
    if upstream.package is not None:
        return f"It comes with a package: {_install(upstream.package)}"
    given = os.environ.get(LOCAL_VARIABLE)
    there = f" (it is {given}, which holds no such file)" if given else ""
    return (
        f"It is published at {' or '.join(upstream.locations)}: download it as {upstream.file_name}, and set "
        f"{LOCAL_VARIABLE} to its directory{there}"
    )


def _install(package: PythonPackage) -> str:
    pinned = f"pip install {package.name}=={package.version}"
    return f'pip install "mpncov-zoo[{package.extra}]" (or {pinned})' if package.extra else pinned
