"""The charts as a reader and a screen reader get them."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mpncov_zoo.demo.charts import bars, shares, spectrum_chart


def test_bars_have_words_and_lengths() -> None:
    html = bars([("T-shirt & <top>", 0.923), ("Bag", 0.0012)])
    items = ElementTree.fromstring(html)
    assert [[part.text for part in item][:2] for item in items] == [["T-shirt & <top>", "92.3 %"], ["Bag", "0.1 %"]]
    assert re.findall("width:(.*?)%", html) == ["92.30", "0.12"]


def test_a_spectrum_falls_by_decades() -> None:
    values = np.array([1.0, 0.1, 0.0, 0.0])
    chart = ElementTree.fromstring(f"<div>{spectrum_chart({'before': values, 'after': values**0.5}, 'a <b>')}</div>")
    picture = chart[0]
    assert picture.get("aria-label") == "a <b>" and picture.get("role") == "img"
    first, second = (line.get("points", "").split() for line in picture.findall("polyline"))
    assert len(first) == len(second) == 2  # zeros have no logarithm
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in first)
    grid = [float(line.get("y1", "")) for line in picture.findall("line")]
    assert x1 > x0 and (y1 - y0) == pytest.approx(grid[1] - grid[0], abs=0.15)
    assert [item[0].tail for item in chart[1]] == ["before", "after"]


def test_shares() -> None:
    assert shares(np.array([3.0, 1.0])).tolist() == [0.75, 0.25]
    assert shares(np.zeros(2)).tolist() == [0, 0]
