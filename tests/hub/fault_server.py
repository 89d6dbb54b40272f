"""A file server on 127.0.0.1 that can be told to misbehave, and that remembers what it was asked."""

import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Request:
    """One GET: its path, and its headers by lower-case name."""

    path: str
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the server's behaviour."""

    protocol_version = "HTTP/1.1"
    server: "FaultServer"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.requests.append(Request(self.path, headers))
            behaviour = self.server.queue.pop(0) if self.server.queue else self.server.behaviour
        with suppress(BrokenPipeError, ConnectionResetError):
            behaviour(self)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def content(self) -> bytes | None:
        """The file that is asked for."""
        path = self.server.root / self.path.lstrip("/")
        return path.read_bytes() if path.is_file() else None

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send everything; a header that is "" is left out."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


Behaviour = Callable[[Handler], None]


@dataclass
class FaultServer(ThreadingHTTPServer):
    """Serves the files below `root`.

    Attributes:
        root: the files.
        behaviour: what happens to a request.
        queue: what happens to the next ones, before that.
        requests: what was asked.
    """

    root: Path
    behaviour: Behaviour
    queue: list[Behaviour] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.block_on_close = False  # some behaviours never end by themselves

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [request.path for request in self.requests]


@contextmanager
def serving(root: Path, behaviour: Behaviour | None = None) -> Iterator[FaultServer]:
    """A server for the time of the context; well-behaved by default."""
    server = FaultServer(root, behaviour or well_behaved)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- behaviours -------------------------------------------------------------------------------------------------------


def etag(content: bytes) -> str:
    return f'"{zlib.crc32(content):08x}"'


def well_behaved(handler: Handler) -> None:
    """Files, ranges with If-Range, 404."""
    content = handler.content
    if content is None:
        return handler.answer(404)
    headers = {name.lower(): value for name, value in handler.headers.items()}
    asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if asked is None or headers.get("if-range", etag(content)) != etag(content):
        return handler.answer(200, content, {"ETag": etag(content)})
    start = int(asked[1])
    if start >= len(content):
        return handler.answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
    part = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return handler.answer(206, content[start:], {"ETag": etag(content), "Content-Range": part})


def status(code: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Only this status."""
    return lambda handler: handler.answer(code, headers=headers)


def redirect(location: str) -> Behaviour:
    """302 to a URL, or to the same path of one that ends with '/'."""

    def answer(handler: Handler) -> None:
        target = location + handler.path.lstrip("/") if location.endswith("/") else location
        handler.answer(302, headers={"Location": target})

    return answer


def cut(count: int, *, announced: bool = True, validator: bool = True) -> Behaviour:
    """The first `count` bytes of what should come, then the end of the connection."""

    def answer(handler: Handler) -> None:
        content = handler.content or b""
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        rest = content[start:]
        handler.send_response(206 if asked else 200)
        if announced:
            handler.send_header("Content-Length", str(len(rest)))
        if validator:
            handler.send_header("ETag", etag(content))
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(rest[:count])

    return answer


def endless(handler: Handler) -> None:
    """The file, then zeros until nobody listens."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(handler.content or b"")
    while True:
        handler.wfile.write(bytes(2**16))


def drip(seconds: float) -> Behaviour:
    """A byte at a time."""

    def answer(handler: Handler) -> None:
        content = handler.content or b""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for byte in content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(seconds)

    return answer


def drip_header(seconds: float) -> Behaviour:
    """A header that never ends, a byte at a time."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            handler.wfile.write(b"a")
            handler.wfile.flush()
            time.sleep(seconds)

    return answer


def endless_status(code: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    """A status whose body has no end."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(2**16))

    return answer


def _drip_after(beginning: bytes, seconds: float) -> Behaviour:
    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + beginning)
        while True:
            handler.wfile.write(b"0")
            handler.wfile.flush()
            time.sleep(seconds)

    return answer


def drip_chunk_size(seconds: float) -> Behaviour:
    """A chunk whose size is written down for ever."""
    return _drip_after(b"", seconds)


def drip_trailer(seconds: float) -> Behaviour:
    """A chunk, the last one, and a trailer without an end."""
    return _drip_after(b"3\r\nabc\r\n0\r\nX-Trailer: ", seconds)
