"""The demo, started by its command as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.demo.browser import require_gradio


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a running demo of the bundled networks, and its process; its folder of uploads is in TMPDIR."""
    require_gradio()
    folder = tmp_path_factory.mktemp("uploads")
    command = [sys.executable, "-m", "mpncov_zoo", "demo", "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:9"}  # which must not matter
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which what a script starts with & ignores
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, preexec_fn=heeding
        ) as process,
    ):
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            assert address.startswith("http://127.0.0.1:"), Path(log.name).read_text()
            yield address, process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
