"""The tables of docs/second_order.md are those of the reports beside it."""

import json
from pathlib import Path

import pytest

from benchmarks.probes import CURVES, FEATURES, shown, table

DOCS = Path(__file__).parents[2] / "docs"
REPORTS = {path.stem: json.loads(path.read_text()) for path in (DOCS / "probes").glob("*.json")}


@pytest.mark.parametrize("data", ["aid20", "dtd224", "dtd448", "elpv"])
def test_tables_are_those_of_the_reports(data: str) -> None:
    found = table({key: REPORTS.get(f"{data}_{key}") for key in FEATURES}, data)
    assert len(found.splitlines()) > 5 and found in (DOCS / "second_order.md").read_text()


@pytest.mark.parametrize("share", ["05", "10", "20"])
def test_the_row_of_a_share_is_that_of_its_reports(share: str) -> None:
    cells = " | ".join(shown(REPORTS[f"aid{share}_{key}"]["top1"]) for key in CURVES)
    assert f"\n| 0.{share} | {cells} |\n" in (DOCS / "second_order.md").read_text()
