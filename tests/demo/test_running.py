"""A running demo: by plain HTTP what it sends and refuses, in a real browser the page as a visitor uses it; its end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image

import mpncov_zoo
from mpncov_zoo.demo.guard import NOSCRIPT
from mpncov_zoo.demo.uploads import LIMITS, MOST_MEGABYTES
from tests.demo import browser
from tests.demo.browser import NARROW, WIDE, requested, require_gradio, set_screen, text_of, wait_until
from tests.demo.test_uploads import png_bomb
from tests.photos import encode, photo_image

Demo = tuple[str, subprocess.Popen[str]]
FIRST, SECOND = "mpncov_cifar_resnet20.fashion_mnist", "cifar_resnet20.fashion_mnist"
CONTROLS = "a[href], button, input, select, textarea, [tabindex]:not([tabindex='-1'])"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
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


# --- by plain HTTP ----------------------------------------------------------------------------------------------------


def upload(address: str, content: bytes, name: str = "photo.png") -> requests.Response:
    return requests.post(f"{address}gradio_api/upload", files={"files": (name, content)}, timeout=60)


def ask(address: str, path: str) -> str:
    """The status line and the panels of an uploaded file, or the error."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    url = f"{address}gradio_api/call/answer"
    event = requests.post(url, json={"data": [file, FIRST, "none"]}, timeout=60).json()["event_id"]
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
    model = mpncov_zoo.load(FIRST)
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


# --- in a browser, by mouse and by keyboard, on large and small screens -----------------------------------------------


@pytest.fixture(scope="module")
def visitor(demo: Demo) -> Iterator[Any]:
    """A browser with the page open."""
    browser.require_chromium()
    with browser.browser() as driver:
        set_screen(driver, WIDE)
        driver.get(demo[0])
        says(driver, "says: Ankle boot")
        yield driver


def says(driver: Any, pattern: str) -> str:
    """The status line as soon as it has this pattern."""
    return wait_until(driver, lambda: re.search(pattern, text_of(driver, "#status")) and text_of(driver, "#status"))


def start_again(driver: Any) -> None:
    driver.refresh()
    says(driver, f"^{FIRST} says: Ankle boot")


def choose_file(driver: Any, path: Path) -> None:
    driver.find_element("css selector", "#image input[type=file]").send_keys(str(path))


def choose(driver: Any, control: str, name: str) -> None:
    """Choose from a list as with a mouse."""
    driver.find_element("css selector", f"#{control} input").click()
    wait_until(driver, lambda: driver.find_elements("css selector", f'[role=option][aria-label="{name}"]'))
    driver.find_element("css selector", f'[role=option][aria-label="{name}"]').click()


def test_a_photo_two_networks_and_a_file_that_is_no_image(visitor: Any, tmp_path: Path) -> None:
    photo_image(90, 120).save(tmp_path / "photo.png")
    start_again(visitor)
    before = text_of(visitor, "#status")
    choose_file(visitor, tmp_path / "photo.png")
    wait_until(visitor, lambda: text_of(visitor, "#status") != before)
    bars = visitor.find_elements("css selector", "#answer .mz-bars li")
    shares = [float(bar.text.split()[-2]) for bar in bars]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.3
    choose(visitor, "network", SECOND)
    says(visitor, f"^{SECOND} says: ")
    choose(visitor, "beside", FIRST)
    says(visitor, f"^{SECOND} says: .*{FIRST} says: ")
    assert len(visitor.find_elements("css selector", "#answer section")) == 2
    (tmp_path / "garbage.png").write_bytes(b"garbage")
    choose_file(visitor, tmp_path / "garbage.png")
    says(visitor, "The image cannot be used.")
    assert "'garbage.png': not an image" in text_of(visitor, "#answer [role=alert]")


def test_the_keyboard_alone_is_enough(visitor: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key: str) -> None:
        ActionChains(visitor).send_keys(key).perform()

    def highlighted() -> str:
        found = [one.text for one in visitor.find_elements("css selector", "[role=option].active")]
        return found[-1] if found else ""

    start_again(visitor)
    reached = [""]
    while reached[-1] != "Network beside it" and len(reached) < 25:
        press(Keys.TAB)
        reached.append(visitor.switch_to.active_element.accessible_name)
        if reached[-1] == "Example: bag":
            press(Keys.ENTER)
            says(visitor, "says: Bag")
    assert {"Upload file", "Paste from clipboard", "Example: bag", "Network", "Network beside it"} <= {*reached}
    while (before := highlighted()) != SECOND:
        press(Keys.ARROW_DOWN)
        wait_until(visitor, lambda before=before: highlighted() != before)
    press(Keys.ENTER)
    says(visitor, f"^{FIRST} says: Bag.* {SECOND} says: Bag")


def test_every_control_has_a_name(visitor: Any) -> None:
    shown = [one for one in visitor.find_elements("css selector", CONTROLS) if one.is_displayed()]
    assert len(shown) >= 10
    assert [one.get_attribute("outerHTML")[:200] for one in shown if not one.accessible_name.strip()] == []
    script = "return [...document.images].filter(image => !image.alt && !image.closest('[aria-label]')).length"
    assert visitor.execute_script(script) == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_it_fits_the_screen_in_light_and_dark(visitor: Any, width: int, dark: bool) -> None:
    set_screen(visitor, width, dark=dark)
    start_again(visitor)
    script = """
        const wide = [...document.querySelectorAll("gradio-app *")].filter(one => {
            const box = one.getBoundingClientRect();
            return box.width > 1 && box.right > innerWidth + 1 && getComputedStyle(one).visibility !== "hidden";
        });
        const lightness = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
        const style = getComputedStyle(document.querySelector("#answer h2"));
        return JSON.stringify({
            scroll: document.documentElement.scrollWidth, wide: wide.map(one => one.outerHTML.slice(0, 99)),
            text: lightness(style.color), page: lightness(getComputedStyle(document.body).backgroundColor),
        });"""
    found = json.loads(visitor.execute_script(script))
    assert (found["scroll"] <= width, found["wide"]) == (True, [])
    assert (found["page"] < 150 and found["text"] > 600) if dark else (found["page"] > 600 and found["text"] < 200)


def test_it_asked_nobody_else_and_logged_no_error(visitor: Any) -> None:
    """In all of the tests above."""
    hosts = {urlsplit(address).hostname for address in requested(visitor) if address.startswith(("http", "ws"))}
    severe = [entry["message"] for entry in visitor.get_log("browser") if entry["level"] == "SEVERE"]
    assert (hosts, severe) == ({"127.0.0.1"}, [])


def test_without_scripts_a_sentence_says_so(demo: Demo) -> None:
    browser.require_chromium()
    with browser.browser(scripts=False) as driver:
        driver.get(demo[0])
        assert driver.find_element("tag name", "body").text.startswith("This page needs JavaScript.")


# --- its end ----------------------------------------------------------------------------------------------------------


def test_an_interruption_ends_it_and_removes_the_uploads(demo: Demo) -> None:
    """The last test of this file, since it ends the demo, whose page is still open."""
    address, process = demo
    path = Path(upload(address, b"left behind").json()[0])
    folder = next(parent for parent in path.parents if parent.name.startswith("mpncov-zoo-demo-"))
    assert path.is_file()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not folder.exists()
    log = (folder.parent / "log").read_text()
    assert "KeyboardInterrupt" not in log and "Warning" not in log and log.endswith("\nmpncov-zoo: interrupted\n")
