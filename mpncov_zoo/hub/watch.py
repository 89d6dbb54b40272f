"""Limits of time for a server, and the thread that ends a connection which exceeds them."""

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Limits:
    """How much time and how many attempts a server gets.

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


class Watch:
    """A context in which a thread ends the present connection when it exceeds a limit.

    Reads of a socket have a limit each, which says nothing of a header, a body or a trailer that comes byte by byte.

    Args:
        limits: of the server.

    Attributes:
        problem: which limit was passed; "" while none is.
    """

    def __init__(self, limits: Limits) -> None:
        self.problem = ""
        self._limits = limits
        self._socket: socket.socket | None = None
        self._began = self._since = time.monotonic()
        self._in_body, self._received = False, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def begin(self, connected: socket.socket) -> None:
        """Note that a request was sent."""
        self._since, self._in_body, self._socket = time.monotonic(), False, connected

    def end(self) -> None:
        """Note that nothing is read any more until the next request."""
        self._socket = None

    def answered(self) -> None:
        """Note that the header of the answer has arrived.

        Raises:
            TimeoutError: it is only the part that came in time, which http.client takes for one.
        """
        if self.problem:
            raise TimeoutError(self.problem)
        self._received, self._since, self._in_body = 0, time.monotonic(), True

    def count(self, received: int) -> None:
        """Note that so many more bytes of the body have arrived."""
        self._received += received

    def _run(self) -> None:
        limits = self._limits
        while not self._over.wait(min(1.0, limits.answer / 4, limits.window / 4, limits.deadline / 4)):
            connected = self._socket
            problem = "" if connected is None else self._past(time.monotonic())
            if connected is not None and problem:
                self.problem = problem
                _shut(connected)

    def _past(self, now: float) -> str:
        limits, elapsed = self._limits, now - self._since
        if now - self._began > limits.deadline:
            return f"not complete after {limits.deadline:g} s"
        if not self._in_body:
            return f"no complete answer in {limits.answer:g} s" if elapsed > limits.answer else ""
        if elapsed <= limits.window:
            return ""
        if self._received < limits.slowest * elapsed:
            return f"slower than {limits.slowest:g} bytes/s over {limits.window:g} s"
        self._received, self._since = 0, now
        return ""


def _shut(connected: Any) -> None:
    """End a connection at its socket; another thread may be reading its TLS layer."""
    while not isinstance(connected, socket.socket):  # TLS within the TLS of a proxy is a class of urllib3
        connected = connected.socket
    with suppress(OSError):  # closed already
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
