"""The page in a real browser: it is used as a visitor uses it, by mouse and by keyboard, on large and small screens."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.demo import browser
from tests.demo.browser import NARROW, WIDE, requested, set_screen, text_of, wait_until
from tests.photos import photo_image

Demo = tuple[str, subprocess.Popen[str]]
FIRST, SECOND = "mpncov_cifar_resnet20.fashion_mnist", "cifar_resnet20.fashion_mnist"
CONTROLS = "a[href], button, input, select, textarea, [tabindex]:not([tabindex='-1'])"


@pytest.fixture(scope="module", autouse=True)
def _chromium() -> None:
    browser.require_chromium()


@pytest.fixture(scope="module")
def visitor(demo: Demo, _chromium: None) -> Iterator[Any]:
    """A browser with the page open; requests and the console are looked at when all is done."""
    with browser.browser() as driver:
        set_screen(driver, WIDE)
        driver.get(demo[0])
        says(driver, "says: Ankle boot")
        yield driver
        hosts = {urlsplit(address).hostname for address in requested(driver) if address.startswith(("http", "ws"))}
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert (hosts, severe) == ({"127.0.0.1"}, [])


def says(driver: Any, pattern: str) -> str:
    """The status line as soon as it has this pattern."""
    return wait_until(driver, lambda: re.search(pattern, text_of(driver, "#status")) and text_of(driver, "#status"))


def start_again(driver: Any) -> None:
    driver.refresh()
    says(driver, f"^{FIRST} says: Ankle boot")


def upload(driver: Any, path: Path) -> None:
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
    upload(visitor, tmp_path / "photo.png")
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
    upload(visitor, tmp_path / "garbage.png")
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


def test_without_scripts_a_sentence_says_so(demo: Demo) -> None:
    with browser.browser(scripts=False) as driver:
        driver.get(demo[0])
        assert driver.find_element("tag name", "body").text.startswith("This page needs JavaScript.")
