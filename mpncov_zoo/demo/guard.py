"""What stands before Gradio: too large and foreign requests are refused, and a browser is told to ask no other host."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mpncov_zoo.demo.uploads import MOST_MEGABYTES

MOST_BYTES = MOST_MEGABYTES * 10**6
POLICY = (  # the browser itself refuses to load anything from another host
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'; "
    "frame-ancestors 'none'"
)
NOSCRIPT = (
    b"<noscript><p>This page needs JavaScript. Allow it for this address, or use the command `mpncov-zoo predict`, "
    b"which needs no browser.</p></noscript>"
)
HOSTS = (b"127.0.0.1", b"localhost")  # another name is that of a foreign page, which leads its visitors here
_BODY = b"<gradio-app"  # what the sentence comes before


class Guard:
    """What stands before Gradio: refuses too large and foreign requests unread, and adds to the page's answers.

    Args:
        app: what it stands before, an ASGI application.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = urlsplit(headers[b"origin"]).hostname if b"origin" in headers else HOSTS[0]
        if headers.get(b"host", b"").partition(b":")[0] not in HOSTS or origin not in HOSTS:
            await _refuse(send, 403, b"This page is for this machine alone, under its address http://127.0.0.1.")
        elif int(headers.get(b"content-length", b"0")) > MOST_BYTES + 2**16:
            await _refuse(send, 413, b"The file is larger than %d MB." % MOST_MEGABYTES)
        else:
            await self.app(scope, receive, _Answer(send).send)


class _Answer:
    """Adds the policy to an answer's headers, and the sentence for browsers without JavaScript to the page.

    Args:
        send: of ASGI, towards the browser.
    """

    def __init__(self, send: Any):
        self.towards, self.start = send, {}

    async def send(self, part: Any) -> None:
        """Send a part: the headers wait for the first part of the body, whose length they state."""
        if part["type"] == "http.response.start":
            self.start = part
            return
        if self.start:
            body = part.get("body", b"")
            found = _BODY in body and dict(self.start["headers"]).get(b"content-type", b"").startswith(b"text/html")
            if found:
                part = {**part, "body": body.replace(_BODY, NOSCRIPT + _BODY, 1)}
            await self.towards({**self.start, "headers": _headers(self.start["headers"], len(NOSCRIPT) * found)})
            self.start = {}
        await self.towards(part)


def _headers(headers: Sequence[tuple[bytes, bytes]], longer: int) -> list[tuple[bytes, bytes]]:
    """Headers with the policy, and the length of a body that is so much longer."""
    corrected = [
        (name, b"%d" % (int(value) + longer) if name.lower() == b"content-length" else value) for name, value in headers
    ]
    return [*corrected, (b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]


async def _refuse(send: Any, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
