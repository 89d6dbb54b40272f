"""Runs that stop, go on, or may not begin."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import mpncov_zoo
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.training import curves
from mpncov_zoo.training.fit import train
from mpncov_zoo.training.recipes import load_recipe
from tests.conftest import TINY_RECIPE

ARTIFACT = "mpncov_cifar_resnet20.retrained"
Trained = tuple[Path, str, str]


def weights(directory: Path) -> dict[str, np.ndarray]:
    model = mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=directory)
    return {name: variable.numpy() for name, variable in model.named_variables().items()}


class StopsInSecondEpoch(keras.callbacks.CSVLogger):
    """The run's log, and Ctrl-C after three batches of the second epoch."""

    epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == (1, 2):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def interrupted(tiny_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run like `trained_run` that was stopped in its second epoch."""
    output = tmp_path_factory.mktemp("runs") / "interrupted"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.callbacks, "CSVLogger", StopsInSecondEpoch)
        train(load_recipe("fashion_mnist", TINY_RECIPE), tiny_fashion, output, verbose=0)
    return output


def test_an_interrupted_run_leaves_no_artifact(interrupted: Path) -> None:
    assert sorted(path.name for path in interrupted.iterdir()) == ["backup", "log.csv", "recipe.json"]


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(
    interrupted: Path, trained_run: Trained, tiny_fashion: Path, tmp_path: Path
) -> None:
    """Bit by bit: batches, augmentation, dropout, momentum, learning rate and statistics all go on where they were."""
    output = tmp_path / "resumed"
    shutil.copytree(interrupted, output)
    with (output / "log.csv").open("a") as log:
        log.write("1,0.5,0.5,0.5,0.5\n")  # as when the run dies between writing this line and its backup
    artifact = train(load_recipe("fashion_mnist", TINY_RECIPE), tiny_fashion, output, resume=True, verbose=0)
    resumed, whole = weights(artifact), weights(trained_run[0])
    assert resumed.keys() == whole.keys()
    assert [name for name in whole if resumed[name].tobytes() != whole[name].tobytes()] == []
    assert (output / "log.csv").read_text() == (trained_run[0] / "log.csv").read_text()


def test_a_run_leaves_its_recipe_log_curves_and_artifact(trained_run: Trained) -> None:
    directory = trained_run[0]
    names = ["backup", "curves.png", "log.csv", ARTIFACT, "recipe.json"]
    assert sorted(path.name for path in directory.iterdir()) == names
    recipe = load_recipe("fashion_mnist", TINY_RECIPE).model_dump(mode="json")
    assert json.loads((directory / "recipe.json").read_text()) == recipe
    description = json.loads((directory / ARTIFACT / "model.json").read_text())
    assert description["provenance"] == {"kind": "trained", "recipe": recipe}
    header, *epochs = (directory / "log.csv").read_text().splitlines()
    assert header == "epoch,accuracy,loss,val_accuracy,val_loss"
    assert [line.split(",")[0] for line in epochs] == ["0", "1"]
    assert all(float(value) > 0 for line in epochs for value in line.split(",")[3:])  # the holdout was measured
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_of_a_run_without_holdout(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,accuracy,loss,val_accuracy,val_loss\n0,0.6,1.3,NA,NA\n1,0.8,0.8,NA,NA\n")
    curves.draw_curves(tmp_path / "log.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_resuming_a_finished_run_returns_its_artifact(trained_run: Trained, tiny_fashion: Path) -> None:
    directory = trained_run[0]
    before = {path: path.stat().st_mtime_ns for path in (directory / ARTIFACT).rglob("*")}
    artifact = train(load_recipe("fashion_mnist", TINY_RECIPE), tiny_fashion, directory, resume=True, verbose=0)
    assert artifact == directory / ARTIFACT
    assert {path: path.stat().st_mtime_ns for path in artifact.rglob("*")} == before


# --- refusals: before anything is computed, and nothing is left behind ------------------------------------------------


def attempt(data: Path, output: Path, *settings: str, resume: bool = False) -> None:
    train(load_recipe("fashion_mnist", [*TINY_RECIPE, *settings]), data, output, resume=resume, verbose=0)


def test_an_output_in_use_is_refused(tiny_fashion: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty\. Go on with --resume, or give a new directory"):
        attempt(tiny_fashion, tmp_path)
    with pytest.raises(InputError, match="is not empty and holds no run"):
        attempt(tiny_fashion, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_recipe_is_refused(interrupted: Path, tiny_fashion: Path) -> None:
    with pytest.raises(InputError, match=r"was begun with another recipe: batch_size, optimizer differ"):
        attempt(tiny_fashion, interrupted, "batch_size=10", "optimizer.momentum=0.5", resume=True)


def test_a_damaged_record_is_refused(interrupted: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    shutil.copytree(interrupted, tmp_path / "run")
    (tmp_path / "run" / "recipe.json").write_text('{"model":')
    with pytest.raises(InputError, match=r"recipe\.json is damaged: .* Begin again in a new directory"):
        attempt(tiny_fashion, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["holdout=330"], "holdout=330 leaves nothing to train on: there are 330 images"),
        (["batch_size=301"], "batch_size=301 is more than the 300 images"),
        (["dataset=cifar_100"], "No reader for the data set 'cifar_100'"),
        (["options.head.depth=1"], "Unknown part 'head'"),
        (["options.features.depth=1"], "cannot be built with options .*unexpected keyword argument 'depth'"),
    ],
)
def test_a_recipe_that_does_not_fit_leaves_nothing(
    tiny_fashion: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        attempt(tiny_fashion, tmp_path / "run", *settings)
    assert not (tmp_path / "run").exists()


def test_missing_data_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz does not exist"):
        attempt(tmp_path / "nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unwritable_output_is_refused(tiny_fashion: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/run cannot be written: Not a directory"):
        attempt(tiny_fashion, tmp_path / "file" / "run")
    with pytest.raises(InputError, match="file cannot be used for a run: Not a directory"):
        attempt(tiny_fashion, tmp_path / "file")


def test_missing_matplotlib_is_said_before_the_training(
    tiny_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ZooError, match=r"pip install 'mpncov-zoo\[training\]'"):
        attempt(tiny_fashion, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_name_of_published_weights_is_refused(tiny_fashion: Path, tmp_path: Path) -> None:
    recipe = load_recipe("fashion_mnist", [*TINY_RECIPE, "tag=fashion_mnist"])
    with pytest.raises(InputError, match=r"fashion_mnist is the name of published weights.*--set tag=mine"):
        train(recipe, tiny_fashion, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()
