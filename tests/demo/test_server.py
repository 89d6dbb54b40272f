"""A running demo by plain HTTP: what it sends, what it refuses, ten visitors at once, and its end."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image

import mpncov_zoo
from mpncov_zoo.demo.guard import NOSCRIPT
from mpncov_zoo.demo.uploads import LIMITS, MOST_MEGABYTES
from tests.demo.test_uploads import png_bomb
from tests.photos import encode, photo_image

Demo = tuple[str, subprocess.Popen[str]]
NETWORK = "mpncov_cifar_resnet20.fashion_mnist"


def upload(address: str, content: bytes, name: str = "photo.png") -> requests.Response:
    return requests.post(f"{address}gradio_api/upload", files={"files": (name, content)}, timeout=60)


def ask(address: str, path: str) -> str:
    """The status line and the panels of an uploaded file, or the error."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    url = f"{address}gradio_api/call/answer"
    event = requests.post(url, json={"data": [file, NETWORK, "none"]}, timeout=60).json()["event_id"]
    lines = requests.get(f"{url}/{event}", timeout=60).text.splitlines()
    found: Any = json.loads(next(line for line in reversed(lines) if line.startswith("data: ")).removeprefix("data: "))
    return found["error"] if isinstance(found, dict) else " ".join(found)


def test_the_page_states_its_limits_and_does_without_other_hosts(demo: Demo) -> None:
    page = requests.get(demo[0], timeout=60)
    assert NOSCRIPT.decode() in page.text and int(page.headers["Content-Length"]) == len(page.content)
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert LIMITS in page.text and '"analytics_enabled":false' in page.text
    assert "fonts.googleapis" not in requests.get(f"{demo[0]}theme.css", timeout=60).text


def test_it_listens_on_this_machine_alone(demo: Demo) -> None:
    port = urlsplit(demo[0]).port
    ends = {
        line.split()[1] for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]
    }
    assert [end for end in ends if end.endswith(f":{port:04X}") and not end.startswith("0100007F:")] == []


def test_ten_visitors_at_once(demo: Demo) -> None:
    images = [photo_image(40 + size, 40) for size in range(10)]
    model = mpncov_zoo.load(NETWORK)
    expected = [model.decode(model(model.preprocess(image)))[0][0] for image in images]

    def visit(image: Image.Image) -> str:
        return ask(demo[0], upload(demo[0], encode(image, "PNG")).json()[0])

    with ThreadPoolExecutor(10) as visitors:
        answers = [*visitors.map(visit, images)]
    for answer, (label, probability) in zip(answers, expected, strict=True):
        assert f"says: {label.replace('&', '&amp;')}, {100 * probability:.1f} %" in answer


def large_file(megabytes: int) -> Iterator[bytes]:
    """A request of so many megabytes, whose length is not stated."""
    yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.png"\r\n\r\n'
    for _ in range(megabytes):
        yield bytes(10**6)


def test_a_foreign_name_is_refused(demo: Demo) -> None:
    """As of a page elsewhere whose name was made to lead to this machine."""
    assert requests.get(demo[0], headers={"Host": "example.org"}, timeout=60).status_code == 403
    assert requests.get(demo[0], headers={"Host": "localhost:1"}, timeout=60).status_code == 200
    for origin in ("http://example.org", "null"):
        assert requests.post(f"{demo[0]}gradio_api/upload", headers={"Origin": origin}, timeout=60).status_code == 403


def test_large_files_are_not_taken(demo: Demo) -> None:
    url, headers = f"{demo[0]}gradio_api/upload", {"Content-Type": "multipart/form-data; boundary=x"}
    with socket.create_connection((urlsplit(demo[0]).hostname, urlsplit(demo[0]).port), timeout=60) as stream:
        stream.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert b" 413 " in stream.recv(100)  # without waiting for any of it
    try:
        refused = requests.post(url, large_file(2 * MOST_MEGABYTES), headers=headers, timeout=60)
        assert refused.status_code == 413
    except requests.ConnectionError:
        pass  # the server hung up while we were sending
    assert upload(demo[0], b"small").ok


def test_what_cannot_be_used_is_said(demo: Demo) -> None:
    bomb = ask(demo[0], upload(demo[0], png_bomb(10_000, 10_000), "bomb.png").json()[0])
    assert "bomb.png&#x27; has 100 megapixels. Up to 40 are taken." in bomb
    assert "not an image" in ask(demo[0], upload(demo[0], b"garbage", "garbage.png").json()[0])


def test_other_files_and_addresses_are_not_opened(demo: Demo) -> None:
    assert "fetches nothing" in ask(demo[0], "http://127.0.0.1:9/photo.png")
    assert "not uploaded" in ask(demo[0], "/etc/hostname")
    assert requests.get(f"{demo[0]}gradio_api/file=/etc/hostname", timeout=60).status_code == 403


def test_an_interruption_ends_it_and_removes_the_uploads(demo: Demo) -> None:
    """The last test of this file, since it ends the demo."""
    address, process = demo
    path = Path(upload(address, b"left behind").json()[0])
    folder = next(parent for parent in path.parents if parent.name.startswith("mpncov-zoo-demo-"))
    assert path.is_file()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not folder.exists()
    log = (folder.parent / "log").read_text()
    assert "KeyboardInterrupt" not in log and "Warning" not in log and log.endswith("\nmpncov-zoo: interrupted\n")
