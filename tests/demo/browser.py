"""Chromium without a window, driven by Selenium: emulates screens and colour schemes, and records what it asks for."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
REQUIRED = "MPNCOV_ZOO_REQUIRE_BROWSER"  # set where a missing browser is an error, as in CI
SECONDS = 60  # that a page may take on a busy machine
WIDE, NARROW = 1280, 390  # pixels


def require_chromium() -> None:
    """Skip without Chromium and its driver; fail where the environment says that they must be there."""
    if CHROMIUM is None or DRIVER is None or find_spec("selenium") is None:
        _missing("needs Selenium, Chromium and its driver: apt-get install chromium chromium-driver")


def require_gradio() -> None:
    """Skip without the extra demo; fail where the environment says that it must be there."""
    if find_spec("gradio") is None:
        _missing("needs the extra demo")


def _missing(reason: str) -> None:
    pytest.fail(reason) if os.environ.get(REQUIRED) else pytest.skip(reason)


@contextmanager
def browser(*, scripts: bool = True) -> Iterator[Any]:
    """A fresh Chromium with a profile of its own, which logs its requests and the console."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "lang=en",
        "hide-scrollbars",
    ):
        options.add_argument(f"--{argument}")
    for argument in ("disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{argument}")  # what the browser itself would ask, and the page would not
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def wait_until(driver: Any, condition: Callable[[], Any]) -> Any:
    """What a condition returns as soon as it is true."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    waiting = WebDriverWait(driver, SECONDS, 0.1, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(lambda _: condition())


def text_of(driver: Any, selector: str) -> str:
    """The text of the first element, or none."""
    found = driver.find_elements("css selector", selector)
    return found[0].text if found else ""


def set_screen(driver: Any, width: int, *, dark: bool = False, height: int = 900) -> None:
    """Emulate a screen of that width in pixels, and a preference for light or dark."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def requested(driver: Any) -> list[str]:
    """The addresses that were asked for since the last call."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def screenshot(driver: Any) -> bytes:
    """The whole page as a PNG file, also what lies below the screen."""
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    area = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": area})
    return base64.b64decode(taken["data"])
