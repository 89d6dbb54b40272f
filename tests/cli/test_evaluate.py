"""`mpncov-zoo evaluate`: the measured numbers beside the published ones, and reports."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.manifest import Manifest, load_manifest
from mpncov_zoo.training.datasets import Files, Split
from tests.command_line import Capture, assert_refused, run
from tests.image_folders import write_folders

NAME = "mpncov_cifar_resnet20"


def test_evaluate_shows_the_published_number_beside_the_measured_one(
    capsys: Capture, artifact_hub: Path, model: mpncov_zoo.ImageClassifier, tiny_fashion: Path, measured: Manifest
) -> None:
    from mpncov_zoo.training.datasets import fashion_mnist
    from mpncov_zoo.training.evaluate import evaluate

    expected = evaluate(model, fashion_mnist(tiny_fashion, "test"))
    code, out, err = run(capsys, "evaluate", NAME, "--hub", artifact_hub, "--data", tiny_fashion)
    assert code == 0 and "60/60" in err
    assert out.splitlines() == [
        f"{NAME}.test on fashion_mnist test, one view: 60 images",
        f"top-1 accuracy    {expected.top1:6.2f} %   published 94.56 % (measured here: test, one view)",
        f"top-5 accuracy    {expected.top5:6.2f} %",
        f"balanced accuracy {expected.balanced_accuracy:6.2f} %",
        f"cross-entropy     {expected.cross_entropy:6.4f}",
    ]


def test_evaluate_as_json(capsys: Capture, artifact_hub: Path, tiny_fashion: Path) -> None:
    arguments = ["--hub", artifact_hub, "--data", tiny_fashion, "--dataset", "fashion_mnist", "--split", "train"]
    code, out, _ = run(capsys, "evaluate", NAME, *arguments, "--json")
    result = json.loads(out)
    confusion = np.array(result["confusion"])
    assert (code, result["weights"], result["split"], result["published"]) == (0, f"{NAME}.test", "train", [])
    assert result["images"] == confusion.sum() == 330
    assert result["top1_accuracy"] == 100 * confusion.trace() / 330
    assert list(result["class_accuracy"].values()) == [100 * confusion[i, i] / 33 for i in range(10)]
    assert result["balanced_accuracy"] == pytest.approx(result["top1_accuracy"])  # there are 33 images of each class
    assert result["views"] == "single"


def test_evaluate_states_published_errors_as_accuracies() -> None:
    from mpncov_zoo.cli.evaluate import _lines
    from mpncov_zoo.training.evaluate import Evaluation

    metrics = load_manifest().published("mpncov_resnet50").metrics
    result = Evaluation(75.0, 92.5, 1.0, np.eye(2, dtype=int), ("a", "b"))
    first, second, *_ = _lines(result, metrics)
    assert first.startswith("top-1 accuracy     75.00 %")
    assert "published 77.86 % (paper: val, one view" in first
    assert "published 93.78 % (paper" in second


def test_evaluate_averages_views(
    capsys: Capture, artifact_hub: Path, model: mpncov_zoo.ImageClassifier, tiny_fashion: Path, measured: Manifest
) -> None:
    from mpncov_zoo.training.datasets import fashion_mnist
    from mpncov_zoo.training.evaluate import evaluate

    single, mirror = (evaluate(model, fashion_mnist(tiny_fashion, "test"), views=v) for v in ("single", "mirror"))
    assert abs(single.cross_entropy - mirror.cross_entropy) > 1e-3
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data", tiny_fashion, "--views", "mirror"]
    lines = run(capsys, *arguments)[1].splitlines()
    assert lines[0] == f"{NAME}.test on fashion_mnist test, image and mirror: 60 images"
    assert lines[1] == f"top-1 accuracy    {mirror.top1:6.2f} %"  # what is published is of one view
    assert lines[-1] == f"cross-entropy     {mirror.cross_entropy:6.4f}"


def test_evaluate_writes_reports(capsys: Capture, artifact_hub: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "reports"
    arguments = ["--hub", artifact_hub, "--data", tiny_fashion, "--dataset", "fashion_mnist", "--output", output]
    code, out, _ = run(capsys, "evaluate", NAME, *arguments, "--json")
    assert code == 0
    assert sorted(path.name for path in output.iterdir()) == ["classes.csv", "confusion.png", "evaluation.json"]
    assert json.loads((output / "evaluation.json").read_text()) == json.loads(out)
    with (output / "classes.csv").open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert {name: float(row["recall_percent"]) for name, row in rows.items()} == pytest.approx(
        json.loads(out)["class_accuracy"], abs=1e-4
    )
    with Image.open(output / "confusion.png") as picture:
        assert picture.format == "PNG"


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """What `evaluate` was given; it answers at once, that all is right."""
    from mpncov_zoo.training.evaluate import Evaluation

    given: list[Split] = []

    def evaluate(model: object, images: Split, **options: object) -> Evaluation:
        given.append(images)
        return Evaluation(100.0, 100.0, 0.0, np.eye(2, dtype=int), images.class_names)

    monkeypatch.setattr("mpncov_zoo.training.evaluate.evaluate", evaluate)
    return given


@pytest.mark.parametrize(
    ("splits", "options", "chosen"),
    [
        (("train", "val"), (), "val"),
        (("train", "val", "test"), (), "test"),
        (("train", "val", "test"), ("--split", "train"), "train"),
    ],
)
def test_evaluate_takes_the_test_images_or_else_those_of_validation(
    capsys: Capture,
    artifact_hub: Path,
    tmp_path: Path,
    evaluated: list[Split],
    splits: tuple[str, ...],
    options: tuple[str, ...],
    chosen: str,
) -> None:
    root = write_folders(tmp_path, {split: {"ant": 1, "bee": 1} for split in splits})
    arguments = ["--hub", artifact_hub, "--data", root, "--dataset", "folders", *options]
    code, out, _ = run(capsys, "evaluate", NAME, *arguments)
    assert code == 0 and out.startswith(f"{NAME}.test on folders {chosen}, one view: 2 images")
    assert [images.root for images in evaluated if isinstance(images, Files)] == [root / chosen]


def test_evaluate_lists_the_splits_there_are(
    capsys: Capture, artifact_hub: Path, tmp_path: Path, evaluated: list[Split]
) -> None:
    root = write_folders(tmp_path, {"train": {"ant": 1, "bee": 1}})
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data", root, "--dataset", "folders"]
    assert_refused(run(capsys, *arguments), "has no test or val split; name one: --split. Allowed: train.")
    assert_refused(run(capsys, *arguments, "--split", "test"), "has the splits train. Received: 'test'")
    assert not evaluated


def test_evaluate_refuses_an_output_that_cannot_be_written_before_it_begins(
    capsys: Capture, artifact_hub: Path, tmp_path: Path, evaluated: list[Split]
) -> None:
    root = write_folders(tmp_path / "data", {"train": {"ant": 1, "bee": 1}, "test": {"ant": 1}})
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data", root, "--dataset", "folders", "--output"]
    (tmp_path / "file").write_text("kept")
    assert_refused(run(capsys, *arguments, tmp_path / "file"), "file cannot be written: File exists. Give another")
    assert_refused(run(capsys, *arguments, tmp_path / "file" / "below"), "cannot be written: Not a directory")
    (tmp_path / "reports" / "classes.csv").mkdir(parents=True)
    assert_refused(run(capsys, *arguments, tmp_path / "reports"), "classes.csv is a directory")
    assert not evaluated and (tmp_path / "file").read_text() == "kept"
    assert run(capsys, *arguments, tmp_path / "new")[0] == 0 and evaluated


def test_evaluate_refuses_what_it_cannot_use(
    capsys: Capture, artifact_hub: Path, tiny_fashion: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data"]
    assert_refused(run(capsys, *arguments, tiny_fashion), f"which data set {NAME}.test is for; name it: --dataset")
    arguments = [*arguments[:-1], "--dataset", "fashion_mnist", "--data"]
    assert_refused(run(capsys, *arguments, tmp_path), "t10k-images-idx3-ubyte.gz does not exist", "keras")
    assert_refused(run(capsys, *arguments, tiny_fashion, "--split", "valid"), "splits train, test")
