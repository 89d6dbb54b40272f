"""What README states: its Python runs, its files exist, its measured figures are the manifest's."""

import re
from pathlib import Path

import pytest

from mpncov_zoo.manifest import Metric, WeightsEntry, load_manifest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
ENTRIES = [entry for entry in load_manifest().entries if entry.metrics and entry.model.count("efficientnet") == 0]


def test_first_block_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(PYTHON[0], {})
    assert "Ankle boot" in capsys.readouterr().out


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_exist(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_table_states_the_manifest(entry: WeightsEntry) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{entry.name}`"))
    stated = [metric for metric in entry.metrics if metric.origin != "paper"]
    assert stated
    for metric in stated:
        assert f"{_accuracy(metric):.2f} %" in row
        assert metric.origin in row
    assert f"{entry.parameters:,}" in row


def _accuracy(metric: Metric) -> float:
    return 100 - metric.value if metric.name.endswith("error") else metric.value
