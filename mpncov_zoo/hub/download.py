"""Fetches a file from a URL into the cache: hashes it as it comes, checks size and digest, resumes what broke off."""

import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from mpncov_zoo.errors import FetchError, IntegrityError
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.partial import PartialFile
from mpncov_zoo.hub.transport import LIMITS, Address, Answer, Broken, Limits, backoff, request

LARGEST = 2**32  # bytes, of a file whose size nobody says
NOTHING_KEPT = "Nothing of it was kept"


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is fetched.

    Attributes:
        name: for messages.
        digest: how its sha256 begins: 64 digits, or as many as are known.
        size: bytes; None where it is not known.
        largest: bytes, where the size is not known.
    """

    name: str
    digest: str = ""
    size: int | None = None
    largest: int = LARGEST

    @property
    def limit(self) -> int:
        """The number of bytes after which a download is stopped."""
        return self.largest if self.size is None else self.size

    @property
    def is_pinned(self) -> bool:
        """Whether the content is known beforehand, so that a download can be continued from any server."""
        return len(self.digest) == 64

    def differs(self, size: int, digest: str) -> str:
        """Say how a file differs from what is expected; "" if it does not."""
        if self.size not in (None, size):
            return f"expected {self.size} bytes, got {size}"
        known = self.digest if self.is_pinned else f"{self.digest}..."
        return "" if digest.startswith(self.digest) else f"expected sha256 {known}, got {digest}"


class Stopped(FetchError):
    """The download was stopped because another file of the same artifact failed."""


def download(
    address: Address,
    expected: Expected,
    cache: Cache,
    *,
    limits: Limits = LIMITS,
    progress: Callable[[int], object] = lambda count: None,
    stop: threading.Event | None = None,
) -> str:
    """Fetch a file into the cache's blobs.

    Args:
        address: where it is.
        expected: what it has to be.
        cache: where it goes; a download of the same digest that broke off there is continued.
        limits: of the server.
        progress: is told how many bytes more there are (or fewer, where a download begins anew).
        stop: ends the download when it is set.

    Returns:
        Its sha256.

    Raises:
        FetchError: it cannot be fetched, or not be written. What came so far is kept for the next attempt.
        IntegrityError: it is not the file expected; nothing of it is kept.
    """
    stop = stop or threading.Event()
    key = expected.digest if expected.is_pinned else uuid.uuid4().hex
    with PartialFile(cache, key, progress) as partial:
        if expected.is_pinned:
            partial.inherit(expected.limit)
        inherited = partial.size > 0
        _transfer(address, expected, partial, limits, stop)
        if inherited and expected.differs(partial.size, partial.digest):
            partial.begin()  # the beginning may have been of another version
            _transfer(address, expected, partial, limits, stop)
        difference = expected.differs(partial.size, partial.digest)
        if difference:
            raise IntegrityError(f"{address.url}: {expected.name!r}: {difference}. {NOTHING_KEPT}")
        partial.complete()
        return partial.digest


def _transfer(
    address: Address, expected: Expected, partial: PartialFile, limits: Limits, stop: threading.Event
) -> None:
    """Repeat requests until the download is complete, as often as the limits allow."""
    until = time.monotonic() + limits.deadline
    for attempt in range(limits.retries + 1):
        left = replace(limits, deadline=max(0.1, until - time.monotonic()))
        try:
            return _receive(address, expected, partial, left, stop)
        except Broken:
            if attempt == limits.retries:
                raise
            stop.wait(backoff(attempt, limits))


def _receive(address: Address, expected: Expected, partial: PartialFile, limits: Limits, stop: threading.Event) -> None:
    """Request the bytes that are still missing, once."""
    if 0 < partial.size == expected.size:
        return
    if stop.is_set():
        raise Stopped(f"{address.url}: stopped, because another file failed")
    headers = {"Range": f"bytes={partial.size}-", "If-Range": partial.etag} if partial.size and partial.etag else {}
    with request(address, limits, headers=headers) as answer:
        _find_place(answer, expected, partial)
        _require_length(address, answer, expected, partial)
        for piece in answer.pieces():
            if stop.is_set():
                raise Stopped(f"{address.url}: stopped, because another file failed")
            if partial.size + len(piece) > expected.limit:
                raise _not_it(address, expected, "more")
            partial.write(piece)
    if partial.size < (expected.size or 0):
        raise Broken(f"{address.url}: {expected.name!r}: expected {expected.size} bytes, it ended after {partial.size}")


def _find_place(answer: Answer, expected: Expected, partial: PartialFile) -> None:
    """Return the offset in the file at which an answer begins: 0 unless it continues the partial file."""
    response = answer.response
    if response.status_code == 200:
        partial.begin(response.headers.get("ETag", ""))
        return
    part = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", response.headers.get("Content-Range", ""))
    start, total = (int(part[1]), part[2]) if part else (0, "*")
    known = {"*", str(expected.size)} if expected.size is not None else {total}
    if not start == partial.size > 0 or total not in known:
        size = partial.size
        partial.begin()
        raise Broken(f"{response.url}: asked for what follows byte {size}, got another part ({response.status_code})")


def _require_length(address: Address, answer: Answer, expected: Expected, partial: PartialFile) -> None:
    """Stop before the body is read if the server announces another size."""
    announced = answer.response.headers.get("Content-Length", "")
    if not re.fullmatch(r"\d{1,15}", announced):
        return
    size = partial.size + int(announced)
    if size > expected.limit or expected.size not in (None, size):
        raise _not_it(address, expected, str(size))


def _not_it(address: Address, expected: Expected, size: str) -> IntegrityError:
    most = "" if expected.size is not None else "at most "
    return IntegrityError(
        f"{address.url}: {expected.name!r}: expected {most}{expected.limit} bytes, got {size}. {NOTHING_KEPT}"
    )
