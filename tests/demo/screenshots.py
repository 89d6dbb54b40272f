"""Takes the pictures of the demo that README and docs/ show.

python -m tests.demo.screenshots
"""

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tests.demo.browser import NARROW, WIDE, browser, screenshot, set_screen, text_of, wait_until

DOCS = Path(__file__).parents[2] / "docs"
FIRST, SECOND = "mpncov_cifar_resnet20.fashion_mnist", "cifar_resnet20.fashion_mnist"
HEIGHT = 1400  # of the screen, in pixels
BELOW = 14  # pixels below the last element that a picture shows


def main() -> None:
    command = [sys.executable, "-m", "mpncov_zoo", "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with browser() as driver:
                take(driver, address, WIDE, "demo_light.png", ".mz-pair")
                take(driver, address, NARROW, "demo_narrow.png", ".mz-card:nth-child(2)")
                take(driver, address, WIDE, "demo_dark.png", ".mz-card:nth-child(3)", dark=True)
        finally:
            process.terminate()


def take(driver: Any, address: str, width: int, name: str, last: str, *, dark: bool = False) -> None:
    """Take one picture, down to the last element that is named; in the dark, of two networks side by side."""
    set_screen(driver, width, dark=dark, height=HEIGHT)
    driver.get(address)
    wait_until(driver, lambda: "Ankle boot" in text_of(driver, "#status"))
    if dark:
        driver.find_element("css selector", '#examples button[aria-label="Example: bag"]').click()
        wait_until(driver, lambda: "Bag" in text_of(driver, "#status"))
        driver.find_element("css selector", "#beside input").click()
        option = f'[role=option][aria-label="{SECOND}"]'
        wait_until(driver, lambda: driver.find_elements("css selector", option))
        driver.find_element("css selector", option).click()
        wait_until(driver, lambda: f"{SECOND} says" in text_of(driver, "#status").partition(" ")[2])
        driver.execute_script("document.activeElement.blur()")
    wait_until(driver, lambda: not driver.find_elements("css selector", "#answer .progress-text, [role=option]"))
    picture = Image.open(BytesIO(screenshot(driver))).convert("RGB")
    script = f"return document.querySelector('{last}').getBoundingClientRect().bottom + scrollY"
    bottom = int(driver.execute_script(script)) + BELOW
    picture.crop((0, 0, picture.width, bottom)).save(DOCS / name, optimize=True)


if __name__ == "__main__":
    main()
