"""`mpncov-zoo train`: what it prints, what comes next, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.cli.train import next_commands
from mpncov_zoo.training.recipes import load_recipe
from tests.command_line import Capture, assert_refused, run
from tests.conftest import TINY_RECIPE
from tests.fashion import run_train

NAME = "mpncov_cifar_resnet20"


def test_train_prints_the_artifact_and_nothing_else(
    capsys: Capture, trained_run: tuple[Path, str, str], tiny_fashion: Path
) -> None:
    directory, out, err = trained_run
    artifact = directory / f"{NAME}.retrained"
    assert out == f"{artifact}\n"
    assert "Epoch 2/2" in err and f"wrote {artifact}" in err
    assert run_train(tiny_fashion, directory, TINY_RECIPE, "--resume")[0] == out  # there is nothing left to do
    code, out, _ = run(capsys, "evaluate", NAME, "--hub", artifact, "--data", tiny_fashion, "--json")
    assert (code, json.loads(out)["dataset"]) == (0, "fashion_mnist")  # as the artifact's recipe says


def test_train_ends_with_the_next_command(
    capsys: Capture, trained_run: tuple[Path, str, str], found: list[str]
) -> None:
    directory, out, err = trained_run
    last = err.splitlines()[-1]
    assert last == f"mpncov-zoo predict {directory / NAME}.retrained photo.jpg"
    assert "evaluate" not in err  # nothing was kept apart for that
    code, out, _ = run(capsys, *last.split()[1:-1], found[0])
    assert code == 0 and out.startswith(f"{found[0]}: ")


def test_next_commands_are_of_paths_and_quoted() -> None:
    recipe = load_recipe("fashion_mnist", ["dataset=folders", "split.test=0.2"])
    assert list(next_commands(Path("a b.c"), recipe, "my photos")) == [
        "mpncov-zoo evaluate './a b.c' --data 'my photos' --split test",
        "mpncov-zoo predict './a b.c' photo.jpg",
    ]


def test_a_run_begins_with_what_it_is_going_to_do(trained_run: tuple[Path, str, str]) -> None:
    directory, _, err = trained_run
    table = {line[2:16].strip(): line[17:] for line in err.partition("training:\n")[2].splitlines()[:10]}
    labels = np.random.default_rng(5).permutation(330) % 10  # the seed of the recipe; each class has 33 images
    train, holdout = (np.bincount(part, minlength=10) for part in (labels[:300], labels[300:]))
    assert table["train"] == f"300 images, 10 classes of {train.min()} to {train.max()}"
    held_out = f"30 images, 10 classes of {holdout.min()} to {holdout.max()}"
    assert table["holdout"] == f"{held_out}: measured after every epoch"
    assert table["batches"] == "10 an epoch, of 30 images; all images are in each epoch"
    assert table["epochs"] == "2, together 20 steps"
    assert table["learning rate"].startswith("cosine, 0 at step 1 (epoch 1), 0.2 at step 11 (epoch 2), 0.00489 at step")
    assert (table["frozen"], table["fresh"]) == ("nothing", "everything: no pretrained weights")
    assert table["output"] == f"{directory / NAME}.retrained"
    assert re.search(r"about \d+ s to go: 10 steps of \d\S* s, and the measuring of 30 images after every epoch", err)


@pytest.mark.parametrize("place", ["artifact", "hub"])
def test_a_model_may_be_a_path(
    capsys: Capture, artifact_hub: Path, tiny_fashion: Path, found: list[str], tmp_path: Path, place: str
) -> None:
    """Of an artifact, or of the run or hub that holds one."""
    path = artifact_hub / f"{NAME}.test" if place == "artifact" else artifact_hub
    named = ["predict", NAME, "--hub", artifact_hub, found[0], "--json"]
    assert run(capsys, "predict", path, found[0], "--json")[:2] == run(capsys, *named)[:2]
    if place == "hub":
        return
    assert run(capsys, "features", path, found[0], "--output", tmp_path / "features.npy")[0] == 0
    arguments = ["--data", tiny_fashion, "--dataset", "fashion_mnist", "--json"]
    code, out, _ = run(capsys, "evaluate", path, *arguments)
    assert (code, json.loads(out)["weights"]) == (0, f"{NAME}.test")
    assert_refused(run(capsys, "predict", path, found[0], "--hub", artifact_hub), "is a path, which says all")
    assert_refused(run(capsys, "predict", tmp_path / "nowhere", found[0]), "nowhere: no such directory")


def test_train_lists_its_recipes(capsys: Capture) -> None:
    code, out, err = run(capsys, "train", "--list")
    assert (code, err) == (0, "")
    assert ["cub_mpncov_resnet50", "mpncov_resnet50", "cub"] in [line.split() for line in out.splitlines()]
    listed = json.loads(run(capsys, "train", "--list", "--json")[1])
    assert [list(row.values()) for row in listed] == [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fashion_mnist"], "Missing: data, output"),
        (["imagenet", "--data", "d", "--output", "o"], "No recipe 'imagenet'; allowed are"),
        (["fashion_mnist", "--data", "d", "--output", "o", "--set", "epoch=1"], "unknown field 'epoch'"),
        (["fashion_mnist", "--data", "d", "--output", "o", "--set", "model=resnet"], "Unknown model 'resnet'"),
        (["fashion_mnist", "--data", "d", "--output", "o"], "train-images-idx3-ubyte.gz does not exist"),
    ],
)
def test_train_refuses_what_it_cannot_use(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(capsys, "train", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_an_output_in_use(
    capsys: Capture, trained_run: tuple[Path, str, str], tiny_fashion: Path
) -> None:
    arguments = ["train", "fashion_mnist", "--data", tiny_fashion, "--output", trained_run[0]]
    assert_refused(run(capsys, *arguments), "is not empty. Go on with --resume, or give a new directory")
    assert_refused(run(capsys, *arguments, "--resume"), "was begun with another recipe", "epochs")
