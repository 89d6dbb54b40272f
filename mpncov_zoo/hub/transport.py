"""HTTP for files that nobody trusts yet: one request for one file, within limits of time, redirects and retries.

Nothing is decided here about content. `download` does, on top of this.
"""

import ipaddress
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from mpncov_zoo.errors import FetchError, InputError
from mpncov_zoo.hub.watch import LIMITS as LIMITS
from mpncov_zoo.hub.watch import Limits as Limits
from mpncov_zoo.hub.watch import Watch

OFFLINE_VARIABLE = "MPNCOV_ZOO_OFFLINE"
PIECE = 2**20  # bytes
RETRIED = frozenset({429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class NotFound(FetchError):
    """The server does not have the file."""


class Broken(FetchError):
    """The transfer broke off; another attempt may succeed."""


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


@dataclass(frozen=True)
class Answer:
    """The header of an answer, and its body while it comes."""

    response: requests.Response
    watch: Watch

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, undecoded.

        Raises:
            Broken: the connection was lost, or the body ended before its announced length.
            FetchError: the server compresses though it was asked not to, or is slower than the limits allow.
        """
        url = self.response.url
        encoding = self.response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise FetchError(f"{url}: expected the file as it is, got it with Content-Encoding {printable(encoding)!r}")
        try:
            while piece := self.response.raw.read1(PIECE, decode_content=False):
                self.watch.count(len(piece))
                yield piece
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self._require_in_time(error)
            raise Broken(f"{url}: the transfer broke off ({reason(error)})") from error
        self._require_in_time(None)

    def _require_in_time(self, error: Exception | None) -> None:
        if self.watch.problem:
            raise FetchError(f"{self.response.url}: {self.watch.problem}") from error


def is_offline(offline: bool | None = None) -> bool:
    """Say whether the network is switched off, by the argument, MPNCOV_ZOO_OFFLINE, or HF_HUB_OFFLINE.

    Raises:
        InputError: the variable is neither yes nor no.
    """
    value = os.environ.get(OFFLINE_VARIABLE, "").strip().lower()
    if value not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
        raise InputError(f"{OFFLINE_VARIABLE}={value!r}; allowed: 1 or 0.")
    if offline or value in ("1", "true", "yes", "on"):
        return True
    from huggingface_hub import constants  # late: `import mpncov_zoo` needs none of it

    return constants.HF_HUB_OFFLINE


@contextmanager
def request(address: Address, limits: Limits = LIMITS, *, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
    """Send a GET and return the answer; its body is not read yet.

    Args:
        address: of the file.
        limits: of time and repetition.
        headers: besides those of the address.

    Raises:
        NotFound: 404 or 410.
        FetchError: any other status but 200, 206 and 416, a redirect that must not be followed, or no answer.
    """
    asked = {**address.headers, **(headers or {})}
    with (
        Watch(limits) as watch,
        closing(_session(limits, watch)) as session,
        _answered(session, address, asked, limits, watch) as response,
    ):
        if response.status_code not in (200, 206, 416):
            raise _refused(address.url, response)
        yield Answer(response, watch)


def reason(error: BaseException) -> str:
    """Return what the deepest cause of an error says, in one line."""
    cause: Any = error
    for _ in range(10):
        inner = getattr(cause, "reason", None) or next((a for a in cause.args if isinstance(a, Exception)), None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = getattr(cause, "strerror", None) or str(cause).strip() or type(cause).__name__
    return printable(text.splitlines()[0].rpartition(": ")[2])


def printable(text: str) -> str:
    """Return a server's text without control characters, and cut to a readable length."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def require_safe(url: str, *, plain_http: bool = False) -> SplitResult:
    """Return the parts of a URL that may be requested: https, or http on this machine, without a password in it.

    Raises:
        FetchError: it may not.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"{printable(url)!r} is no URL: {error}") from None
    if parts.username is not None:
        raise FetchError(f"a URL of {host} has a user name in it; put it into ~/.netrc instead")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and (plain_http or _is_loopback(host)))):
        raise FetchError(f"{printable(url)}: allowed are https://, and http:// on this machine (127.0.0.1, localhost)")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _answered(
    session: requests.Session, address: Address, headers: dict[str, str], limits: Limits, watch: Watch
) -> requests.Response:
    """Return the first answer that is neither a redirect nor a temporary refusal."""
    for attempt in range(limits.retries + 1):
        response = _followed(session, address, headers, limits, watch)
        if response.status_code not in RETRIED or attempt == limits.retries:
            return response
        watch.end()
        response.close()  # its body is not read, which might never end
        time.sleep(_pause(response, attempt, limits))
    raise AssertionError("unreachable")


def _pause(response: requests.Response, attempt: int, limits: Limits) -> float:
    """Return the seconds until the next request: what the server asks for, within limits, else more each time."""
    asked = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", asked):
        return min(int(asked[:9]), limits.retry_after)
    return backoff(attempt, limits)


def backoff(attempt: int, limits: Limits) -> float:
    """Return the seconds until the next attempt."""
    return limits.backoff * (2**attempt - 1 + random.random())


def _followed(
    session: requests.Session, address: Address, headers: dict[str, str], limits: Limits, watch: Watch
) -> requests.Response:
    """Return the first answer that is not a redirect."""
    place = address.url
    before = require_safe(place, plain_http=address.plain_http)
    for _ in range(limits.redirects + 1):
        response = _ask(session, place, headers, limits, watch)
        target = response.headers.get("Location")
        if response.status_code not in REDIRECTS or target is None:
            return response
        watch.end()
        response.close()
        place, after = _redirected(address, place, target)
        if (after.scheme, after.hostname, after.port) != (before.scheme, before.hostname, before.port):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        before = after
    raise FetchError(f"{address.url}: more than {limits.redirects} redirects")


def _redirected(address: Address, place: str, target: str) -> tuple[str, SplitResult]:
    """Return the address that a redirect leads to, if it may be followed."""
    try:
        joined = urljoin(place, target)
        if place.startswith("https:") and not joined.startswith("https:"):
            raise FetchError("from https to something else")
        return joined, require_safe(joined, plain_http=address.plain_http)
    except (FetchError, ValueError) as error:
        said = f"{address.url}: redirected to {printable(target)!r}, which is not followed: {printable(str(error))}"
        raise FetchError(said) from None


def _refused(url: str, response: requests.Response) -> FetchError:
    status = f"{response.status_code} {printable(response.reason or '')[:60]}".strip()
    if response.status_code in (404, 410):
        return NotFound(f"{url}: no such file there ({status})")
    if response.status_code in (401, 403):
        return FetchError(
            f"{url}: access denied ({status}). For Hugging Face: hf auth login; for another server: ~/.netrc"
        )
    return FetchError(f"{url}: the server answers {status}")


def _session(limits: Limits, watch: Watch) -> requests.Session:
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(limits, watch))
    return session


def _ask(
    session: requests.Session, url: str, headers: Mapping[str, str], limits: Limits, watch: Watch
) -> requests.Response:
    """Send one GET and leave the body unread; `Session.send` would read the whole body of a redirect."""
    try:
        prepared = session.prepare_request(
            requests.Request(
                "GET",
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "mpncov-zoo", **headers},
                auth=_as_is if "authorization" in map(str.lower, headers) else None,  # else requests asks ~/.netrc
            )
        )
        settings = session.merge_environment_settings(url, {}, True, None, None)
        return session.get_adapter(url).send(prepared, timeout=(limits.connect, limits.read), **settings)
    except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:  # requests' own are of OSError
        raise FetchError(f"{printable(url)}: cannot be reached ({watch.problem or reason(error)})") from error


def _as_is(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    return prepared


class _Adapter(HTTPAdapter):
    """Repeats requests that get no answer, and lets connections be watched."""

    def __init__(self, limits: Limits, watch: Watch) -> None:
        self._watch = watch
        super().__init__(
            max_retries=Retry(
                total=limits.retries,
                connect=min(2, limits.retries),
                redirect=False,
                status=0,  # an answer is an answer: urllib3 would read its body to the end
                allowed_methods=frozenset({"GET"}),
                backoff_factor=limits.backoff,
                backoff_jitter=limits.backoff,
                respect_retry_after_header=False,
                raise_on_status=False,
            )
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._let_watch(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._let_watch(manager)
        return manager

    def _let_watch(self, manager: urllib3.PoolManager) -> None:
        classes = manager.pool_classes_by_scheme.items()
        manager.pool_classes_by_scheme = {scheme: _watched(pool, self._watch) for scheme, pool in classes}


def _watched(pool: Any, watch: Watch) -> Any:
    """A pool of connections; the one that waits for an answer is handed to a watch."""

    class Connection(pool.ConnectionCls):
        def getresponse(self) -> Any:
            watch.begin(self.sock)
            response = super().getresponse()
            watch.answered()
            return response

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
