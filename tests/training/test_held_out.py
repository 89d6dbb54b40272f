"""Runs on class folders that are not divided: `evaluate` sees what the run kept apart, or refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.errors import InputError
from mpncov_zoo.load_report import LoadReport
from mpncov_zoo.training import fit
from mpncov_zoo.training.datasets import Files, Shares, Split, read_dataset
from mpncov_zoo.training.fit import train
from mpncov_zoo.training.held_out import evaluated_splits, read_evaluated
from mpncov_zoo.training.recipes import load_recipe
from mpncov_zoo.training.session import Session
from tests.command_line import Capture, assert_refused, run
from tests.fashion import ONE_CONVOLUTION
from tests.image_folders import write_folders

SETTINGS = [
    *ONE_CONVOLUTION, "dataset=folders", "holdout=0", "epochs=1", "optimizer.warmup_epochs=0", "batch_size=4",
    "split.test=0.2", "split.val=0.2", "split.seed=1",
]  # fmt: skip
BROKEN = "cat/007.jpg"  # cannot be decoded
Trained = tuple[Path, Path, dict[str, set[str]]]  # photos, artifact, the names of the images that training saw


def names(split: Split | None) -> set[str]:
    assert isinstance(split, Files)
    return {*split.paths}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of one epoch on eleven cats, one of them broken, and ten dogs."""
    root = tmp_path_factory.mktemp("held_out")
    photos = write_folders(root, {"photos": {"cat": 11, "dog": 10}}) / "photos"
    (photos / BROKEN).write_bytes(b"no image")
    seen: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        whole = fit._fit
        patch.setattr(fit, "_fit", lambda model, session: note(seen, session) or whole(model, session))
        artifact = train(load_recipe("fashion_mnist", SETTINGS), photos, root / "run", verbose=0)
    return photos, artifact, seen


def note(seen: dict[str, set[str]], session: Session) -> None:
    seen.update(train=names(session.training), val=names(session.watched))


class Loaded:
    """What stands for the loaded network."""

    name = "cifar_resnet20"

    def __init__(self, artifact: Path):
        self.load_report = LoadReport(weights="cifar_resnet20.retrained", source=str(artifact))


def evaluated(trained: Trained, split: str, photos: Path | None = None) -> set[str]:
    return names(read_evaluated(Loaded(trained[1]), "folders", photos or trained[0], split))


def test_each_image_is_trained_on_watched_or_kept_for_the_test(trained: Trained) -> None:
    photos, _, seen = trained
    test = evaluated(trained, "test")
    everything = {f"{path.parent.name}/{path.name}" for path in photos.glob("*/*")}
    assert seen["train"] | seen["val"] | test == everything - {BROKEN}
    assert len(seen["train"]) + len(seen["val"]) + len(test) == 20
    assert sorted(name[:3] for name in test) == ["cat"] * 2 + ["dog"] * 2
    assert (evaluated(trained, "train"), evaluated(trained, "val")) == (seen["train"], seen["val"])
    assert evaluated_splits(Loaded(trained[1]), "folders", photos) == ("train", "test", "val")


def test_the_run_states_its_split(trained: Trained) -> None:
    photos, artifact, _ = trained
    recipe = json.loads((artifact.parent / "recipe.json").read_text())
    assert recipe["split"] == {"test": 0.2, "val": 0.2, "seed": 1} and recipe["validation"] == "val"
    stated = json.loads((artifact.parent / "environment.json").read_text())["data"]
    for name in ("train", "test", "val"):
        assert stated[name] == read_dataset("folders", photos, name, Shares(**recipe["split"])).summary()


def test_it_is_the_same_when_the_broken_image_is_gone_or_mended(trained: Trained, tmp_path: Path) -> None:
    """As the error of `evaluate` and `data check` advise."""
    before = evaluated(trained, "test")
    photos = Path(shutil.copytree(trained[0], tmp_path / "photos"))
    (photos / BROKEN).unlink()
    assert evaluated(trained, "test", photos) == before
    (photos / BROKEN).write_bytes((photos / "dog" / "001.jpg").read_bytes())
    assert evaluated(trained, "test", photos) == before


def test_it_does_not_depend_on_the_order_in_which_files_were_made(trained: Trained, tmp_path: Path) -> None:
    photos = tmp_path / "elsewhere"
    for path in sorted(trained[0].glob("*/*"), reverse=True):
        (photos / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, photos / path.parent.name)
    assert evaluated(trained, "test", photos) == evaluated(trained, "test")


def a_training_image_is_gone(photos: Path, seen: dict[str, set[str]]) -> None:
    for name in seen["train"]:
        (photos / name).unlink()


def an_image_is_added(photos: Path, seen: dict[str, set[str]]) -> None:
    for index in range(20):
        shutil.copy(photos / "dog" / "001.jpg", photos / "cat" / f"new{index}.jpg")


def a_class_is_added(photos: Path, seen: dict[str, set[str]]) -> None:
    shutil.copytree(photos / "dog", photos / "elk")


def an_image_is_another(photos: Path, seen: dict[str, set[str]]) -> None:
    with (photos / min(seen["val"])).open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize("change", [a_training_image_is_gone, an_image_is_added, a_class_is_added, an_image_is_another])
def test_other_images_are_refused(trained: Trained, tmp_path: Path, change: Callable[..., None]) -> None:
    photos = Path(shutil.copytree(trained[0], tmp_path / "photos"))
    for name in trained[2]["train"] if change is a_training_image_is_gone else ():
        shutil.copy(photos / name, photos / name.replace("/", "/kept"))  # so that each class has some
    change(photos, trained[2])
    with pytest.raises(InputError, match=r"does not hold the images that the network's run divided: .* `--split all`"):
        evaluated(trained, "test", photos)
    assert len(evaluated(trained, "all", photos)) == len([*photos.glob("*/*")])


def test_evaluate_takes_the_test_images_by_default(capsys: Capture, trained: Trained, tmp_path: Path) -> None:
    photos, artifact, _ = trained
    arguments = ["evaluate", "cifar_resnet20", "--hub", artifact, "--data"]
    code, out, _ = run(capsys, *arguments, photos, "--json")
    result = json.loads(out)
    assert (code, result["dataset"], result["split"], result["images"]) == (0, "folders", "test", 4)
    assert np.sum(result["confusion"], axis=1).tolist() == [2, 2]
    refused = run(capsys, *arguments, photos, "--split", "holdout")
    assert_refused(refused, "photos has the splits train, test, val. Received: 'holdout'.")
    divided = write_folders(tmp_path / "divided", {"train": {"cat": 2, "dog": 2}, "val": {"cat": 1, "dog": 1}})
    assert_refused(run(capsys, *arguments, divided, "--split", "all"), "divided is divided: give one of its splits")


def test_class_folders_without_a_division_say_what_to_type(
    capsys: Capture, artifact_hub: Path, trained: Trained
) -> None:
    arguments = ["evaluate", "mpncov_cifar_resnet20", "--hub", artifact_hub, "--dataset", "folders", "--data"]
    for option in ((), ("--split", "test")):
        refused = run(capsys, *arguments, trained[0], *option)
        assert_refused(refused, "`--split all` measures on all", "`mpncov-zoo train ... --set split.test=0.2` keeps")


def test_a_resumed_run_divides_alike(trained: Trained, tmp_path: Path) -> None:
    """What was made from other images is refused, and from the same ones there is nothing left to do."""
    photos, artifact, _ = trained
    recipe = load_recipe("fashion_mnist", SETTINGS)
    output = Path(shutil.copytree(artifact.parent, tmp_path / "run"))
    assert train(recipe, photos, output, resume=True, verbose=0) == output / artifact.name
    other = load_recipe("fashion_mnist", [*SETTINGS, "split.seed=2"])
    with pytest.raises(InputError, match=r"another recipe: split\.seed was 1, is 2\."):
        train(other, photos, output, resume=True, verbose=0)


def test_a_run_among_the_classes_is_refused(trained: Trained) -> None:
    with pytest.raises(InputError, match="run is among the class folders of"):
        train(load_recipe("fashion_mnist", SETTINGS), trained[0], trained[0] / "run", verbose=0)
    assert not (trained[0] / "run").exists()


def test_a_class_that_is_too_small_is_named_before_anything(tmp_path: Path) -> None:
    photos = write_folders(tmp_path, {"photos": {"cat": 9, "dog": 2}}) / "photos"
    with pytest.raises(InputError, match=r"class 'dog' has 2 images, of which split\.test=0\.2 takes 1 and"):
        train(load_recipe("fashion_mnist", SETTINGS), photos, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()
