"""The demo that `make demo` runs, and the sample it classifies."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo_classifies_and_draws(demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(str(tmp_path / "demo.png"))
    total = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all"))
    assert total.split()[1] == "1000"
    assert int(total.split()[2]) > 920
    with Image.open(tmp_path / "demo.png") as image:
        assert np.asarray(image).std() > 20  # not a blank sheet


def test_sample_is_stratified() -> None:
    with np.load(EXAMPLES / "fashion_mnist_sample.npz") as sample:
        assert sample["pixels"].shape == (1000, 28, 28, 1)
        assert np.bincount(sample["labels"]).tolist() == [100] * 10
        assert len(np.unique(sample["positions"])) == 1000
        assert sample["positions"].max() < 10_000
