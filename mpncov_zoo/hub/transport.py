"""HTTP for files that nobody trusts yet: one request for one file, within limits of time, redirects and retries.

Nothing is decided here about content. `download` does, on top of this.
"""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from mpncov_zoo.errors import FetchError, InputError

OFFLINE_VARIABLE = "MPNCOV_ZOO_OFFLINE"
PIECE = 2**20  # bytes
RETRIED = frozenset({429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Limits:
    """What a server may take.

    Attributes:
        connect: seconds to connect.
        read: seconds between two pieces.
        answer: seconds from a request to the end of its answer's header.
        deadline: seconds for a file.
        slowest: bytes/s, on average over any `window`.
        window: seconds.
        retries: of a request that fails or is answered by 429 or 5xx, and of a body that breaks off.
        backoff: seconds before the second retry; doubled for each further one, and as much again at random.
        retry_after: seconds, of those that a server asks to wait.
        redirects: in a row.
    """

    connect: float = 10
    read: float = 30
    answer: float = 60
    deadline: float = 6 * 3600
    slowest: float = 2048
    window: float = 30
    retries: int = 4
    backoff: float = 0.5
    retry_after: int = 60
    redirects: int = 5


LIMITS = Limits()


@dataclass(frozen=True)
class Address:
    """Where a file is, and how to ask for it.

    Attributes:
        url: https, or http on this machine.
        headers: to send; Authorization among them goes to this host alone.
        plain_http: allow http to other machines: for a published file that is pinned by a digest.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    plain_http: bool = False


class NotFound(FetchError):
    """The server does not have the file."""


class Broken(FetchError):
    """The transfer broke off; another attempt may do."""


def is_offline(offline: bool | None = None) -> bool:
    """Whether the network is switched off: by the argument, MPNCOV_ZOO_OFFLINE, or huggingface_hub's HF_HUB_OFFLINE.

    Raises:
        InputError: the variable is neither yes nor no.
    """
    value = os.environ.get(OFFLINE_VARIABLE, "").strip().lower()
    if value not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
        raise InputError(f"{OFFLINE_VARIABLE}={value!r}; allowed: 1 or 0.")
    if offline or value in ("1", "true", "yes", "on"):
        return True
    from huggingface_hub import constants  # late: it takes a while, and a bundled artifact needs none of it

    return constants.HF_HUB_OFFLINE


@contextmanager
def request(
    address: Address, limits: Limits = LIMITS, *, headers: Mapping[str, str] | None = None
) -> Iterator[requests.Response]:
    """The answer to a GET, its body unread.

    Args:
        address: of the file.
        limits: of time and repetition.
        headers: besides those of the address.

    Raises:
        NotFound: 404 or 410.
        FetchError: any other status but 200, 206 and 416, a redirect that must not be followed, or no answer.
    """
    with (
        _session(limits) as session,
        _follow(session, address, {**address.headers, **(headers or {})}, limits) as response,
    ):
        if response.status_code not in (200, 206, 416):
            raise _refused(address.url, response)
        yield response


def pieces(response: requests.Response, limits: Limits = LIMITS) -> Iterator[bytes]:
    """The body as it arrives, undecoded.

    Raises:
        Broken: the connection was lost, or the body ended before its announced length.
        FetchError: the server compresses though it was asked not to, or is slower than the limits allow.
    """
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise FetchError(f"{response.url}: expected the file as it is, got it with Content-Encoding {encoding[:40]!r}")
    began = since = time.monotonic()
    received = 0
    try:
        while piece := response.raw.read1(PIECE, decode_content=False):
            yield piece
            received += len(piece)
            now = time.monotonic()
            if now - since > limits.window:
                if received < limits.slowest * (now - since):
                    raise FetchError(f"{response.url}: slower than {limits.slowest:g} bytes/s over {limits.window:g} s")
                since, received = now, 0
            if now - began > limits.deadline:
                raise FetchError(f"{response.url}: not complete after {limits.deadline:g} s")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Broken(f"{response.url}: the transfer broke off ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """What the deepest cause of an error says, in one line."""
    cause: Any = error
    for _ in range(10):
        inner = getattr(cause, "reason", None) or next((a for a in cause.args if isinstance(a, Exception)), None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = getattr(cause, "strerror", None) or str(cause).strip() or type(cause).__name__
    return text.splitlines()[0].rpartition(": ")[2][:200]


def require_safe(url: str, *, plain_http: bool = False) -> SplitResult:
    """The parts of a URL that may be asked: https, or http on this machine, without a password inside.

    Raises:
        FetchError: it may not.
    """
    parts = urlsplit(url)
    allowed = parts.scheme == "https" or (parts.scheme == "http" and (plain_http or _is_loopback(parts.hostname)))
    if not allowed or not parts.hostname:
        raise FetchError(f"{url}: allowed are https://, and http:// on this machine (127.0.0.1, localhost)")
    if parts.username is not None:
        raise FetchError(f"a URL of {parts.hostname} has a user name in it; put it into ~/.netrc instead")
    return parts


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _follow(session: requests.Session, address: Address, headers: dict[str, str], limits: Limits) -> requests.Response:
    """The first answer that is no redirect."""
    url = place = address.url
    for _ in range(limits.redirects + 1):
        before = require_safe(place, plain_http=address.plain_http)
        response = _ask(session, place, headers, limits)
        target = response.headers.get("Location")
        if response.status_code not in REDIRECTS or target is None:
            return response
        response.close()
        place = urljoin(place, target)
        after = urlsplit(place)
        if before.scheme == "https" and after.scheme != "https":
            raise FetchError(f"{url}: redirected from https to {after.scheme}, which is not followed")
        if (after.scheme, after.hostname, after.port) != (before.scheme, before.hostname, before.port):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    raise FetchError(f"{url}: more than {limits.redirects} redirects")


def _refused(url: str, response: requests.Response) -> FetchError:
    status = f"{response.status_code} {response.reason}"[:80]
    if response.status_code in (404, 410):
        return NotFound(f"{url}: no such file there ({status})")
    if response.status_code in (401, 403):
        return FetchError(
            f"{url}: access denied ({status}). For Hugging Face: hf auth login; for another server: ~/.netrc"
        )
    return FetchError(f"{url}: the server answers {status}")


def _session(limits: Limits) -> requests.Session:
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(limits))
    return session


def _ask(session: requests.Session, url: str, headers: Mapping[str, str], limits: Limits) -> requests.Response:
    """The answer to one GET, redirects unfollowed."""
    try:
        return session.get(
            url,
            headers={"Accept-Encoding": "identity", "User-Agent": "mpncov-zoo", **headers},
            auth=_as_is if "authorization" in map(str.lower, headers) else None,  # else requests asks ~/.netrc
            stream=True,
            allow_redirects=False,
            timeout=(limits.connect, limits.read),
        )
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise FetchError(f"{url}: cannot be reached ({reason(error)})") from error


def _as_is(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    return prepared


class _Adapter(HTTPAdapter):
    """Repeats requests, and bounds the time that the header of an answer may take, which requests does not."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        super().__init__(max_retries=_retries(limits))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._bound(manager)
        return manager

    def _bound(self, manager: urllib3.PoolManager) -> None:
        classes = manager.pool_classes_by_scheme.items()
        manager.pool_classes_by_scheme = {scheme: _bounded(pool, self._limits.answer) for scheme, pool in classes}


def _retries(limits: Limits) -> Retry:
    return Retry(
        total=limits.retries,
        connect=min(2, limits.retries),
        redirect=False,
        status_forcelist=RETRIED,
        allowed_methods=frozenset({"GET"}),
        backoff_factor=limits.backoff,
        backoff_jitter=limits.backoff,
        retry_after_max=limits.retry_after,
        raise_on_status=False,
    )


def _bounded(pool: Any, seconds: float) -> Any:
    """A pool whose connections are shut where an answer's header takes too long, however steadily it drips."""

    class Connection(pool.ConnectionCls):
        def getresponse(self) -> Any:
            late = threading.Event()
            watch = threading.Timer(seconds, _shut, [self.sock, late])
            watch.daemon = True
            watch.start()
            try:
                response = super().getresponse()
            finally:
                watch.cancel()
            if late.is_set():  # the header that was cut short would do for http.client
                raise TimeoutError(f"no complete answer in {seconds:g} s")
            return response

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _shut(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):  # closed already
        connected.shutdown(socket.SHUT_RDWR)
