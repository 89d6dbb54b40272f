"""Runs that stop, go on, or may not begin."""

import csv
import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from filelock import FileLock
from PIL import Image

import mpncov_zoo
from mpncov_zoo import artifact
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.training import curves, fit
from mpncov_zoo.training.datasets import read_dataset
from mpncov_zoo.training.fit import train
from mpncov_zoo.training.journal import Journal
from mpncov_zoo.training.packing import pack
from mpncov_zoo.training.recipes import load_recipe
from mpncov_zoo.training.state import read_arrays, read_history
from tests.conftest import TINY_RECIPE
from tests.fashion import ONE_CONVOLUTION, write_fashion
from tests.image_folders import write_folders

ROOT = Path(__file__).parents[2]
ARTIFACT, OF_ONE_CONVOLUTION = "mpncov_cifar_resnet20.retrained", "cifar_resnet20.retrained"
EVER = {".lock", "environment.json", "recipe.json", "tensorboard"}  # in every run's directory, from its beginning
Arrays = dict[str, np.ndarray]
RECIPE = [  # two stages, the first of one epoch, averages, and a covariance
    *ONE_CONVOLUTION, "model=mpncov_cifar_resnet20", "first_stage.epochs=1",
    "first_stage.optimizer.learning_rate=0.05", "ema=0.8",
]  # fmt: skip


def weights(directory: Path) -> Arrays:
    model = mpncov_zoo.load("mpncov_cifar_resnet20", True, hub=directory)
    return {name: variable.numpy() for name, variable in model.named_variables().items()}


def attempt(data: Path, output: Path, *settings: str, resume: bool = False) -> None:
    train(load_recipe("fashion_mnist", [*ONE_CONVOLUTION, *settings]), data, output, resume=resume, verbose=0)


def go_on(data: Path, run: Path, *settings: str) -> Path:
    return train(load_recipe("fashion_mnist", [*RECIPE, *settings]), data, run, resume=True, verbose=0)


def interrupt(*_: object) -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


def settled(log: Path) -> list[dict[str, str]]:
    """A log without the times that its epochs took."""
    with log.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@dataclass
class Noted:
    """What a run was seen to do."""

    run: Path
    states: list[Arrays] = field(default_factory=list)  # before each stage and after each epoch


@pytest.fixture(scope="module")
def whole(tiny_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Noted:
    """A run that nothing interrupts."""
    noted = Noted(tmp_path_factory.mktemp("runs") / "whole")

    class Watches(Journal):
        def on_train_begin(self, logs: Any = None) -> None:
            self.note()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            self.note()

        def note(self) -> None:
            noted.states.append({name: v.numpy() for name, v in self.model.named_variables().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Journal", Watches)
        train(load_recipe("fashion_mnist", RECIPE), tiny_fashion, noted.run, verbose=0)
    return noted


# --- a run that is stopped --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import numpy as np
import tensorflow as tf
from mpncov_zoo.training import fit, state
from mpncov_zoo.training.recipes import load_recipe

savez = np.savez

def savez_killed(file, **arrays):
    savez(file, **arrays)
    if "history" in arrays and len(state.json.loads(arrays["history"].tobytes())) == 2:
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)

np.savez = savez_killed
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as here: sums in the same order
fit.train(load_recipe("fashion_mnist", sys.argv[3:]), sys.argv[1], sys.argv[2], verbose=0)
"""


@pytest.fixture(scope="module")
def killed(tiny_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run like `whole` that ended by `kill -9`, with half of the second checkpoint written.

    Before, another run was killed there that completed no epoch. That one had another recipe and other data; what it
    left does not count, and the run begins anew.
    """
    run = tmp_path_factory.mktemp("killed")
    (run / "recipe.json").write_text("{}")
    (run / "best-1.npz").write_bytes(b"half")
    (run / ".environment.json-0a_b3c4d").mkdir()
    (run / "tensorboard" / "train").mkdir(parents=True)
    (run / "tensorboard" / "train" / "events").touch()
    command = [sys.executable, "-c", KILLED, str(tiny_fashion), str(run), *RECIPE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return run


@pytest.fixture(scope="module")
def interrupted(killed: Path, tiny_fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The killed run, which went on with the second stage and was stopped by Ctrl-C in the third epoch."""

    class Stops(Journal):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (len(self.history), batch) == (2, 2):
                raise KeyboardInterrupt

    run = Path(shutil.copytree(killed, tmp_path_factory.mktemp("runs") / "interrupted"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "Journal", Stops)
        go_on(tiny_fashion, run)
    return run


def test_a_killed_run_leaves_the_state_before(killed: Path) -> None:
    assert len(read_history(killed / "checkpoint.npz")) == 1
    assert not (killed / "tensorboard" / "train" / "events").exists()
    assert list(killed.glob(".checkpoint*"))


def test_an_interrupted_run_leaves_no_artifact(interrupted: Path) -> None:
    names = sorted(path.name for path in interrupted.iterdir() if path.name not in EVER)
    assert re.fullmatch(r"best-[12]\.npz checkpoint\.npz curves\.png log\.csv", " ".join(names))
    assert len(read_history(interrupted / "checkpoint.npz")) == 2


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(
    interrupted: Path, whole: Noted, tiny_fashion: Path, tmp_path: Path
) -> None:
    """Bit by bit: batches, augmentation, dropout, momentum, averages, learning rate and statistics went on."""
    output = Path(shutil.copytree(interrupted, tmp_path / "resumed"))
    (output / ".log.csv-0a_b3c4d").mkdir()  # of the process that was stopped
    (output / ".cache.old-20240101" / "files").mkdir(parents=True)  # of the user
    artifact = go_on(tiny_fashion, output)
    for resumed, expected in (
        (weights(artifact), weights(whole.run)),
        (read_arrays(output / "checkpoint.npz"), read_arrays(whole.run / "checkpoint.npz")),
    ):
        assert resumed.keys() == expected.keys()
        differ = [name for name in expected if resumed[name].tobytes() != expected[name].tobytes()]
        assert differ in ([], ["history"])  # it has the times
    assert settled(output / "log.csv") == settled(whole.run / "log.csv")
    names = {path.name for path in whole.run.iterdir()}
    assert {path.name for path in output.iterdir()} == {*names, ".cache.old-20240101"}


def test_resuming_a_finished_run_returns_its_artifact(whole: Noted, tiny_fashion: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole.run / ARTIFACT).rglob("*")}
    artifact = go_on(tiny_fashion, whole.run)
    assert artifact == whole.run / ARTIFACT
    assert {path: path.stat().st_mtime_ns for path in artifact.rglob("*")} == before


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_it_is_documented_to_leave(whole: Noted) -> None:
    directory = whole.run
    kept = json.loads((directory / "metrics.json").read_text())["kept_epoch"]
    names = [f"best-{kept}.npz", "checkpoint.npz", "curves.png", "log.csv", "metrics.json", ARTIFACT]
    assert sorted(path.name for path in directory.iterdir() if path.name not in EVER) == names
    recipe = load_recipe("fashion_mnist", RECIPE).model_dump(mode="json")
    assert json.loads((directory / "recipe.json").read_text()) == recipe
    description = json.loads((directory / ARTIFACT / "model.json").read_text())
    assert description["provenance"] == {"kind": "trained", "recipe": recipe}
    environment = json.loads((directory / "environment.json").read_text())
    assert (environment["tensorflow"], environment["keras"]) == (tf.__version__, keras.__version__)
    log = settled(directory / "log.csv")
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    assert all(0 <= float(row["val_accuracy"]) <= 1 and float(row["val_loss"]) > 0 for row in log)  # of the holdout
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_metrics_are_those_of_the_kept_epoch(whole: Noted) -> None:
    metrics, log = json.loads((whole.run / "metrics.json").read_text()), settled(whole.run / "log.csv")
    accuracies = [float(row["val_accuracy"]) for row in log]
    assert accuracies[metrics["kept_epoch"] - 1] == max(accuracies)
    assert metrics["validation"]["top1_accuracy"] == pytest.approx(100 * max(accuracies), abs=1e-4)
    assert metrics["validation"]["images"] == 30 and metrics["epochs"] == 3


def test_tensorboard_reads_the_events(whole: Noted) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole.run / "tensorboard" / "train"))
    events.Reload()
    assert "epoch_loss" in events.Tags()["tensors"]
    # TensorBoard reads two files of the same second in no fixed order
    in_order = sorted(events.Tensors("epoch_loss"), key=lambda event: event.step)
    losses = [float(tf.make_ndarray(event.tensor_proto)) for event in in_order]
    logged = [float(row["loss"]) for row in settled(whole.run / "log.csv")]
    assert losses == pytest.approx(logged, rel=1e-5)


def test_curves_are_drawn_with_and_without_validation(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "accuracy": 0.6, "loss": 1.3}, {"epoch": 2, "accuracy": 0.8, "loss": 0.8}]
    curves.draw_curves(rows, tmp_path / "one.png")
    curves.draw_curves([{**row, "val_loss": 1.0, "val_accuracy": 0.5} for row in rows], tmp_path / "two.png")
    one, two = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("one.png", "two.png"))
    orange = (two[..., 0] > 230) & (two[..., 1] > 110) & (two[..., 1] < 150) & (two[..., 2] < 60)  # the second line
    assert one.shape == two.shape and orange.sum() > 50
    assert not ((one[..., 0] > 230) & (one[..., 1] > 110) & (one[..., 1] < 150) & (one[..., 2] < 60)).any()


# --- protocols --------------------------------------------------------------------------------------------------------


def test_the_first_stage_changes_the_classifier_alone(whole: Noted) -> None:
    begun, first, again, second, _ = whole.states
    assert {name.split("/")[0] for name in begun if (begun[name] != first[name]).any()} == {"classifier"}
    assert not any((first[name] != again[name]).any() for name in first)
    assert {name.split("/")[0] for name in begun if (again[name] != second[name]).any()} == {"features", "classifier"}


def test_what_is_measured_and_kept_are_the_averages(tiny_fashion: Path, tmp_path: Path) -> None:
    """By an average of its own over every batch's weights, in float64."""
    seen: list[Arrays] = []

    class Watches(Journal):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append({v.path: v.numpy().astype(np.float64) for v in self.model.trainable_variables})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Journal", Watches)
        settings = ["ema=0.8", "epochs=1", "optimizer.warmup_epochs=0", "keep=last"]
        attempt(tiny_fashion, tmp_path / "run", *settings)
    averages = seen[0]
    for values in seen[1:]:
        averages = {path: 0.8 * averages[path] + 0.2 * values[path] for path in averages}
    model = mpncov_zoo.load("cifar_resnet20", True, hub=tmp_path / "run")
    for variable in model.trainable_variables:
        np.testing.assert_allclose(variable.numpy(), averages[variable.path], rtol=1e-4, atol=1e-6)
    (row,) = settled(tmp_path / "run" / "log.csv")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation"]["top1_accuracy"] == pytest.approx(100 * float(row["val_accuracy"]), abs=1e-3)


def test_fine_tuning_begins_with_the_pretrained_features(
    artifact_hub: Path, tiny_fashion: Path, tmp_path: Path
) -> None:
    """The head, of other options, and the classifier are fresh."""
    begun: Arrays = {}

    class Begins(Journal):
        def on_train_begin(self, logs: Any = None) -> None:
            begun.update({name: v.numpy() for name, v in self.model.named_variables().items()})
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "Journal", Begins)
        recipe = load_recipe("fashion_mnist", [*TINY_RECIPE, "pretrained=test"])
        train(recipe, tiny_fashion, tmp_path / "run", hub=artifact_hub, verbose=0)
    pretrained = mpncov_zoo.load("mpncov_cifar_resnet20", "test", hub=artifact_hub).named_variables()
    features = [name for name in begun if name.startswith("features/")]
    assert len(features) > 20
    for name in features:
        np.testing.assert_array_equal(begun[name], pretrained[name].numpy())
    reductions = [weights["representation/reduction_conv/kernel"].shape[-1] for weights in (pretrained, begun)]
    assert reductions[0] != reductions[1] == 8
    assert (begun["classifier/logits/bias"] == 0).all() and pretrained["classifier/logits/bias"].numpy().any()


def test_a_run_begins_with_the_artifact_that_its_recipe_names(tiny_fashion: Path, tmp_path: Path) -> None:
    """Here of a network on a Keras model, which no table knows."""
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(keras.layers.Rescaling(1 / 255)(inputs))
    trunk = keras.Model(inputs, keras.layers.Conv2D(6, 3, strides=2, name="last")(x), name="mine")
    model = mpncov_zoo.attach(trunk, stages=["last"], representation="gap", num_classes=3)
    artifact.write(model, tmp_path / "mine", tag="begun", provenance={})
    settings = ["optimizer.learning_rate=1e-30", "epochs=1", "batch_size=100", "optimizer.warmup_epochs=0"]
    recipe = load_recipe("fashion_mnist", [*settings, f'model="{tmp_path / "mine"}"', "options={}"])
    assert recipe.pretrained is True and recipe.stages == ("last",)
    directory = train(recipe, tiny_fashion, tmp_path / "run", verbose=0)
    assert directory.name == "gap_keras_mine.retrained"
    trained = mpncov_zoo.load(directory)
    kernel = trained.named_variables()["features/first/kernel"].numpy()
    np.testing.assert_array_equal(kernel, trunk.get_layer("first").kernel.numpy())


def test_a_run_that_diverges_says_where_and_keeps_its_state(tiny_fashion: Path, tmp_path: Path) -> None:
    class Breaks(Journal):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (len(self.history), batch) == (1, 2):
                kernel = self.model.named_variables()["features/stage1_block1_conv2/kernel"]
                kernel.assign(np.full(kernel.shape, 3e38))

    where = r"epoch 2, batch 4, at a learning rate of 0\.1\d*: the output of features/stage1_block1_conv2 is not finite"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZooError, match=where + r".*after epoch 1 is kept"):
        patch.setattr(fit, "Journal", Breaks)
        attempt(tiny_fashion, tmp_path / "run", 'stages=["stage1"]')
    assert len(read_history(tmp_path / "run" / "checkpoint.npz")) == 1
    assert not (tmp_path / "run" / OF_ONE_CONVOLUTION).exists()


def test_far_too_high_a_learning_rate_is_named(tiny_fashion: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ZooError, match=r"epoch 1, batch \d+, at a learning rate of \de\+29: .* Begin a new run with a lower"
    ):
        attempt(tiny_fashion, tmp_path / "run", "optimizer.learning_rate=1e30")


def test_early_stopping_ends_the_run_and_a_resumed_one(tiny_fashion: Path, tmp_path: Path) -> None:
    settings = ["epochs=6", "early_stop=1", "freeze=representation", "optimizer.learning_rate=1e-12"]  # no progress
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "_export", interrupt)
        attempt(tiny_fashion, tmp_path / "run", *settings)
    epochs = len(settled(tmp_path / "run" / "log.csv"))
    assert epochs < 6
    attempt(tiny_fashion, tmp_path / "run", *settings, resume=True)
    assert len(settled(tmp_path / "run" / "log.csv")) == epochs
    assert (tmp_path / "run" / OF_ONE_CONVOLUTION).is_dir()


# --- refusals: before anything is computed, and nothing is left behind ------------------------------------------------


def test_an_output_in_use_is_refused(tiny_fashion: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "best-1.npz").touch()  # without a recipe beside it no run's
    for resume in (False, True):
        with pytest.raises(InputError, match="is not empty and holds no run that --resume can go on with"):
            attempt(tiny_fashion, tmp_path, resume=resume)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.npz", "notes.txt"]


def test_a_run_is_not_begun_anew_by_mistake(interrupted: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not empty\. Go on with --resume, or give a new directory"):
        attempt(tiny_fashion, interrupted)
    shutil.copytree(interrupted, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.npz").unlink()
    with pytest.raises(InputError, match=r"checkpoint\.npz is missing, which --resume goes on from"):
        go_on(tiny_fashion, tmp_path / "run")


def test_what_stands_in_the_artifacts_place_is_refused_before(
    interrupted: Path, tiny_fashion: Path, tmp_path: Path
) -> None:
    shutil.copytree(interrupted, tmp_path / "run")
    (tmp_path / "run" / ARTIFACT).mkdir()
    with pytest.raises(InputError, match="stands where the artifact will be, and is none"):
        go_on(tiny_fashion, tmp_path / "run")


def test_another_recipe_is_refused(interrupted: Path, tiny_fashion: Path) -> None:
    with pytest.raises(
        InputError, match=r"another recipe: batch_size was 30, is 10; optimizer\.momentum was 0\.9, is 0\.5\."
    ):
        go_on(tiny_fashion, interrupted, "batch_size=10", "optimizer.momentum=0.5")


def test_other_data_are_refused(interrupted: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"was begun with other data: data\.train was \"330 images, .*is \"340 images"):
        go_on(write_fashion(tmp_path / "data", train=340, test=20), interrupted)


def test_other_images_under_the_same_labels_are_refused(interrupted: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_fashion, tmp_path / "data")
    path = tmp_path / "data" / "train-images-idx3-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="was begun with other data"):
        go_on(tmp_path / "data", interrupted)


def test_a_second_process_in_the_same_run_is_refused(interrupted: Path, tiny_fashion: Path) -> None:
    with FileLock(interrupted / ".lock"), pytest.raises(InputError, match="is being worked on by another process"):
        go_on(tiny_fashion, interrupted)


def test_a_damaged_state_is_refused(interrupted: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    shutil.copytree(interrupted, tmp_path / "run")
    state = tmp_path / "run" / "checkpoint.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.npz is damaged"):
        go_on(tiny_fashion, tmp_path / "run")


def test_too_small_a_disk_is_refused_before_the_training(
    tiny_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"1,000 bytes are free, and a run of cifar_resnet20 takes up to \d"):
        attempt(tiny_fashion, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.npz").exists()


def after_an_epoch(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    class Happens(Journal):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            happens()

    monkeypatch.setattr(fit, "Journal", Happens)


@pytest.mark.parametrize(
    ("happens", "said"),
    [(Path.unlink, r"no file '\S+'.*"), (lambda path: path.write_bytes(b"no image"), r"'\S+': not an image.*")],
    ids=["gone", "damaged"],
)
def test_files_that_change_in_the_middle_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], object], said: str
) -> None:
    """One that is corrupt from the beginning is left out and recorded."""
    data = write_folders(tmp_path / "data", {"train": {"a": 9, "b": 9}, "val": {"a": 2, "b": 2}})
    (data / "train" / "a" / "000.jpg").write_bytes(b"no image")
    after_an_epoch(monkeypatch, lambda: [happens(path) for path in (data / "train" / "a").iterdir()])
    settings = ["dataset=folders", "validation=val", "holdout=0", "batch_size=2", "epochs=9"]
    with pytest.raises(ZooError, match=f"cannot be read or computed: {said}`mpncov-zoo data check folders`"):
        attempt(data, tmp_path / "run", *settings)
    row, *_ = read_history(tmp_path / "run" / "checkpoint.npz")  # an epoch or two: later batches were read ahead
    assert 0 <= row["val_accuracy"] <= 1 and row["val_loss"] > 0
    recorded = json.loads((tmp_path / "run" / "images-train.json").read_text())
    assert [image["name"] for image in recorded["corrupt"]] == ["a/000.jpg"]


@pytest.mark.parametrize("left", [0, 0.5], ids=["emptied", "cut"])
def test_a_shard_that_shrinks_in_the_middle_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    photos = write_folders(tmp_path / "photos", {"train": {"a": 9, "b": 9}})
    pack(read_dataset("folders", photos, "train"), tmp_path / "data", "train", dataset="folders", shards=2)
    shard = tmp_path / "data" / "train-00001-of-00002.tfrecord"
    after_an_epoch(monkeypatch, lambda: os.truncate(shard, int(left * shard.stat().st_size)))
    settings = ["dataset=tfrecord", "holdout=0", "batch_size=2", "epochs=9"]
    with pytest.raises(ZooError, match=r"A batch cannot be read or computed: .*`mpncov-zoo data check tfrecord`"):
        attempt(tmp_path / "data", tmp_path / "run", *settings)


@pytest.mark.parametrize("name", ["two\nlines", os.fsdecode(b"\xff")])
def test_classes_that_an_artifact_cannot_name_are_refused_before(tmp_path: Path, name: str) -> None:
    data = write_folders(tmp_path / "data", {"train": {"a": 9, name: 9}})
    with pytest.raises(InputError, match="A class name is one line of Unicode text"):
        attempt(data, tmp_path / "run", "dataset=folders", "holdout=4", "batch_size=2")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_full_in_the_end_leaves_the_state_before(
    tiny_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savez, calls = np.savez, []

    def full(file: Any, **arrays: np.ndarray) -> None:
        calls.append(1)
        if len(calls) > 2:  # the best weights and the state of the first epoch
            raise OSError(errno.ENOSPC, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match=r"npz cannot be written: No space left on device"):
        attempt(tiny_fashion, tmp_path / "run")
    assert len(read_history(tmp_path / "run" / "checkpoint.npz")) == 1


def test_classes_that_only_the_validation_images_have_are_refused(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data", {"train": {"a": 4, "b": 4}, "val": {"a": 2, "c": 2}})
    with pytest.raises(InputError, match=r"has classes that .*train lacks: c"):
        attempt(data, tmp_path / "run", "dataset=folders", "validation=val", "holdout=0")
    assert not (tmp_path / "run").exists()


def test_a_damaged_record_is_refused(interrupted: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    shutil.copytree(interrupted, tmp_path / "run")
    (tmp_path / "run" / "recipe.json").write_text('{"model":')
    with pytest.raises(InputError, match=r"recipe\.json is damaged: .* Begin again in a new directory"):
        go_on(tiny_fashion, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["holdout=330"], "holdout=330 leaves nothing to train on: there are 330 images"),
        (["holdout=329", "batch_size=1"], "9 of 10 classes have no training image"),
        (["batch_size=301"], "batch_size=301 is more than the 300 images to train on: .* --set batch_size=32"),
        (["holdout=0.99"], r"\d of 10 classes have no training image"),
        (["optimizer.accumulate=99"], "accumulate=99 is more than the .* batches of a stage: no step would be taken"),
        (["dataset=cifar_100"], "No reader for the data set 'cifar_100'"),
        (["options.head.depth=1"], "Unknown part 'head'"),
        (["freeze=stage9"], "can be frozen up to stem, .*Received: 'stage9'"),
        (["validation=val", "holdout=0"], "has the splits train, test.*Received: 'val'"),
        (["pretrained=nothing"], "has no such pretrained weights"),
        (["pretrained=fashion_mnist", "options.features.repeats=2"], "are of other features than the recipe's"),
        (["options.features.depth=1"], "cannot be built with options .*unexpected keyword argument 'depth'"),
    ],
)
def test_a_recipe_that_does_not_fit_leaves_nothing(
    tiny_fashion: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(ZooError, match=message):
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
    with pytest.raises(InputError, match=r"fashion_mnist is the name of published weights.*--set tag=mine"):
        attempt(tiny_fashion, tmp_path / "run", "tag=fashion_mnist")
    assert not (tmp_path / "run").exists()
