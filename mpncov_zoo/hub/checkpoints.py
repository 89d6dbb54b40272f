"""The published checkpoints that artifacts are converted from: found or fetched, and held to their digest."""

import importlib.metadata
import os
from pathlib import Path

import requests

from mpncov_zoo.errors import FetchError, IntegrityError, OfflineError
from mpncov_zoo.hub.verification import CHUNK, sha256
from mpncov_zoo.manifest import PythonPackage, Upstream
from mpncov_zoo.progress import progress_bar

LOCAL_VARIABLE = "MPNCOV_ZOO_UPSTREAM"  # a directory that holds published files under their names
TIMEOUT = (10, 60)  # seconds: to connect, between two pieces
LARGEST = 4096  # MiB, of a file whose size is not published
SLACK = 1.05  # a published size is rounded; a file beyond that is not it


def obtain(name: str, upstream: Upstream, directory: Path, *, offline: bool = False) -> Path:
    """A published checkpoint on this machine, verified.

    Looked for in this order: the directory in MPNCOV_ZOO_UPSTREAM, an installed package that carries it, `directory`;
    then it is fetched.

    Args:
        name: of the weights, for messages.
        upstream: the file.
        directory: where a fetched file is kept.
        offline: forbid to fetch.

    Returns:
        Its path.

    Raises:
        FetchError, OfflineError: it is not here, and cannot or must not be fetched; the message says what to do.
        IntegrityError: it is not the published file.
    """
    fetched = directory / upstream.file_name
    for path in (_local(upstream), _packaged(upstream), fetched):
        if path is not None and path.is_file():
            require_published(path, upstream, remedy=f"Remove {path}, and obtain it again")
            return path
    if upstream.url is None or offline:
        error = OfflineError if offline and upstream.url else FetchError
        raise error(f"{name} is converted from {upstream.file_name}, which is not on this machine. {_remedy(upstream)}")
    _fetch(upstream.url, fetched, upstream)
    return fetched


def require_published(path: Path, upstream: Upstream, *, remedy: str, source: object = None) -> str:
    """The SHA-256 of a file.

    Args:
        path: the file.
        upstream: what it should be.
        remedy: what to do where it is not.
        source: what to call the file; by default its path.

    Raises:
        IntegrityError: it is not the one that was published.
    """
    digest = sha256(path)
    if not digest.startswith(upstream.digest):
        expected = upstream.sha256 or f"{upstream.digest}..."
        raise IntegrityError(f"{source or path}: expected sha256 {expected}, got {digest}. {remedy}")
    return digest


def _local(upstream: Upstream) -> Path | None:
    given = os.environ.get(LOCAL_VARIABLE)
    return Path(given).expanduser() / upstream.file_name if given else None


def _packaged(upstream: Upstream) -> Path | None:
    """The file in its installed package; no code of the package is run."""
    if upstream.package is None:
        return None
    try:
        files = importlib.metadata.files(upstream.package.name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == upstream.file_name), None)


def _remedy(upstream: Upstream) -> str:
    if upstream.package is not None:
        return f"It comes with a package: {_install(upstream.package)}"
    return (
        f"It is published at {' or '.join(upstream.locations)}: download it as {upstream.file_name}, and set "
        f"{LOCAL_VARIABLE} to its directory"
    )


def _install(package: PythonPackage) -> str:
    pinned = f"pip install {package.name}=={package.version}"
    return f'pip install "mpncov-zoo[{package.extra}]" (or {pinned})' if package.extra else pinned


def _fetch(url: str, target: Path, upstream: Upstream) -> None:
    """Stream a file beside its place, verify it, and move it there."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    limit = upstream.size_bytes or int(SLACK * (upstream.size_mib or LARGEST) * 2**20)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with requests.get(url, stream=True, timeout=TIMEOUT) as response, open(partial, "wb") as file:
            response.raise_for_status()
            with progress_bar(int(response.headers.get("Content-Length", 0)), "B") as bar:
                for piece in response.iter_content(CHUNK):
                    bar.update(file.write(piece))
                    if file.tell() > limit:
                        raise IntegrityError(f"{url} sends more than {limit:,} bytes; the published file has fewer")
        remedy = "Nothing was kept; try again, or obtain the file elsewhere"
        require_published(partial, upstream, remedy=remedy, source=url)
        partial.replace(target)
    except requests.RequestException as error:
        raise FetchError(f"{url} cannot be fetched ({error}). {_remedy(upstream)}") from error
    except OSError as error:
        raise FetchError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
