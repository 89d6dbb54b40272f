"""What several commands are tried on: images, the network's own answers, and a manifest that publishes it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.manifest import Manifest, load_manifest
from tests.photos import photo

NAME = "mpncov_cifar_resnet20"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three images on two levels, and of files that are none of predict's business."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    (folder / "b").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for name, size in (("c.png", 28), ("b/d.JPG", 40), ("a.png", 33), (".thumbnails/a.png", 9), ("._c.png", 9)):
        Image.fromarray(photo(size, size)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def found(photos: Path) -> list[str]:
    """The paths of the three images, in the order in which they are to come."""
    return [str(photos / name) for name in ("a.png", "b/d.JPG", "c.png")]


@pytest.fixture(scope="module")
def model(artifact_hub: Path) -> mpncov_zoo.ImageClassifier:
    return mpncov_zoo.load(NAME, True, hub=artifact_hub)


@pytest.fixture(scope="module")
def stages(model: mpncov_zoo.ImageClassifier, found: list[str]) -> dict[str, np.ndarray]:
    """What the three images give, by the library."""
    outputs = mpncov_zoo.feature_extractor(model, ["covariance", "representation"])(model.preprocess(found))
    return {name: np.asarray(value) for name, value in outputs.items()}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest in which the test artifact is published, with one measured metric of two splits."""
    entry = load_manifest().published("mpncov_resnet50").model_dump(mode="json")
    metric = {"name": "top-1 accuracy", "value": 94.56, "dataset": "fashion_mnist", "origin": "measured here"}
    splits = ("test", "train")
    metrics = [{**metric, "split": split, "views": "single", "command": f"measure {split}"} for split in splits]
    entry |= {"model": NAME, "tag": "test", "dataset": "fashion_mnist", "metrics": metrics}
    manifest = Manifest.model_validate({"schema_version": 1, "entries": [entry]})
    for module in ("catalog", "find", "training.evaluate"):
        monkeypatch.setattr(f"mpncov_zoo.{module}.load_manifest", lambda: manifest)
    return manifest
