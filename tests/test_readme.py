"""What README states: its Python runs, its files exist, its measured figures are the manifest's."""

import re
from pathlib import Path
from typing import Any

import pytest

import mpncov_zoo
from mpncov_zoo.description import Metric
from mpncov_zoo.manifest import WeightsEntry, load_manifest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not {".venv", "runs"} & set(path.parts))
ENTRIES = [entry for entry in load_manifest().entries if entry.metrics]


def test_first_block_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(PYTHON[0], {})
    assert capsys.readouterr().out.startswith("[[('Ankle boot', 0.")


def test_examples_of_use_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"mpncov_zoo": mpncov_zoo}
    exec(PYTHON[1], names)
    assert names["model"].output_shape == (None, 200)
    assert set(names["extract"].output) == {"stage3", "covariance", "representation"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_figure_is_left_open(path: Path) -> None:
    assert not re.search(r"@[A-Z0-9]+@", path.read_text())


@pytest.mark.parametrize(
    "target", re.findall(r"\]\(((?!http)[^)#]+)\)", re.sub("```.*?```", "", README, flags=re.DOTALL))
)
def test_links_exist(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_table_states_the_manifest(entry: WeightsEntry) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{entry.name}`"))
    _, _, _, parameters, top1, top5, origin, *_ = row.split("|")
    stated = {metric.name.split()[0]: metric for metric in entry.metrics if metric.origin != "paper"}
    assert parameters.strip() == f"{entry.parameters:,}"
    assert top1.strip() == f"{_accuracy(stated['top-1']):.2f} %"
    assert top5.strip() == (f"{_accuracy(stated['top-5']):.2f} %" if "top-5" in stated else "not stated")
    assert {metric.origin for metric in stated.values()} == {re.split(":|,| for ", origin.strip())[0]}


def _accuracy(metric: Metric) -> float:
    return 100 - metric.value if metric.name.endswith("error") else metric.value
