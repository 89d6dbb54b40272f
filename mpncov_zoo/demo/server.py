"""Serves the demonstration page on 127.0.0.1, until it is interrupted; nothing leaves the machine."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from PIL import Image

from mpncov_zoo.demo.guard import MOST_BYTES, Guard
from mpncov_zoo.demo.uploads import UPLOADS
from mpncov_zoo.errors import InputError, ZooError

if TYPE_CHECKING:
    from mpncov_zoo.demo.neighbours import Neighbours
    from mpncov_zoo.demo.networks import Network

HOST = "127.0.0.1"


def require_gradio() -> None:
    """Refuse to begin without Gradio; it is imported later, when it knows where uploads belong.

    Raises:
        ZooError: it is not installed.
    """
    _without_telemetry()
    if find_spec("gradio") is None:
        raise ZooError("The demo needs Gradio: pip install 'mpncov-zoo[demo]'.")


def free_port(port: int) -> int:
    """A port of this machine that nothing listens on.

    Args:
        port: the one that is wanted, or 0 for any.

    Raises:
        InputError: it is taken, or not allowed.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--port {port}: {reason}. Give another, or 0 for any that is free.") from None
        return probe.getsockname()[1]


def serve(networks: Sequence[Network], neighbours: Neighbours | None, matched: set[str], port: int) -> None:
    """Serve the page until the process is interrupted, or told to terminate; then remove what was uploaded.

    Args:
        networks: to choose from.
        neighbours: of a features file, if there is one.
        matched: names of the networks to which it belongs.
        port: on which nothing listens.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of what is refused, before it is decoded
    with _uploads_removed():
        from mpncov_zoo.demo.page import SCRIPT, STYLE, build_page

        _fetch_nothing()
        page = build_page(networks, neighbours, matched)
        try:
            _launch(page, port, STYLE, SCRIPT)
            print(f"http://{HOST}:{port}/", flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _launch(page: Any, port: int, style: Path, script: Path) -> None:
    """Begin to listen."""
    from gradio.themes import Soft
    from starlette.middleware import Middleware

    fonts = ["system-ui", "sans-serif"]  # Gradio's own would come from Google
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        ssr_mode=False,
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
        max_file_size=MOST_BYTES,
        footer_links=[],
        run_history=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=Soft(font=fonts, font_mono=["monospace"]),
        css_paths=[style],
        js=script.read_text(encoding="utf-8"),
        app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None},
    )


def _without_telemetry() -> None:
    """Switch off what Gradio and its libraries would send or ask, before they are imported."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is there
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST)))


def _fetch_nothing() -> None:
    """Take from Gradio the function that fetches an image which a visitor names by an address.

    A subclass of its component could do that, too; but beside the module of each Gradio writes a .pyi file.
    """
    from gradio import Error, processing_utils

    name = "async_ssrf_protected_get"
    if not hasattr(processing_utils, name):
        raise ZooError("This Gradio fetches images in a way that the demo cannot refuse: pip install gradio==6.31.0")

    async def refuse(url: str) -> NoReturn:
        raise Error("The demo fetches nothing by an address: upload the image.", print_exception=False)

    setattr(processing_utils, name, refuse)


@contextmanager
def _uploads_removed() -> Iterator[None]:
    """Within this context uploads lie in a folder of their own, which is removed with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="mpncov-zoo-demo-") as folder:
        os.environ[UPLOADS] = folder
        yield
