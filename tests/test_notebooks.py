"""Every notebook runs from a clean kernel, and says what it promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"


def printed_by(name: str) -> str:
    """What a notebook's cells print when it is executed now."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")


@pytest.fixture(scope="module")
def quickstart() -> str:
    return printed_by("quickstart")


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {"quickstart", "spectrum"}


def test_quickstart_classifies_most_images_right(quickstart: str) -> None:
    assert float(quickstart.partition("top-1 on 1,000 official test images: ")[2].partition("%")[0]) > 92
    assert quickstart.count("ankle-boot") == 1 and "Ankle boot 0." in quickstart


def test_quickstart_fine_tunes(quickstart: str) -> None:
    assert float(quickstart.partition("accuracy on held-out images: ")[2].partition("%")[0]) > 95


def test_quickstart_exports_what_it_trained(quickstart: str) -> None:
    assert "symmetric: True" in quickstart and "equal: True" in quickstart


def test_spectrum_shows_the_iteration_converge() -> None:
    printed = printed_by("spectrum")
    residuals = [float(line.rpartition("= ")[2]) for line in printed.splitlines() if "|Y^2 - A| = " in line]
    before, after = (float(part.split()[-2]) for part in printed.rpartition("eigenvalue: ")[2].split(","))
    assert len(residuals) == 5 and residuals == sorted(residuals, reverse=True)
    assert after < before
