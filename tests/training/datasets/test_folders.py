"""Folders: what is found is what was written, and every layout that is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Files, Shares, dataset_splits, read_dataset, require_outside
from tests.image_folders import write_folders

SPLITS = {"train": {"dog": 3, "ant": 2, "Cat": 4}, "val": {"ant": 1, "dog": 2}}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", SPLITS, height=4, width=5)


def read(directory: Path, split: str, name: str = "folders") -> Files:
    found = read_dataset(name, directory, split)
    assert isinstance(found, Files)
    return found


def test_classes_are_the_training_folders_in_order_of_their_names(photos: Path) -> None:
    train, val = read(photos, "train"), read(photos, "val")
    assert train.class_names == val.class_names == ("Cat", "ant", "dog")
    assert train.labels.dtype == np.int32 and train.labels.tolist() == [0] * 4 + [1] * 2 + [2] * 3
    assert val.paths == ("ant/000.jpg", "dog/000.jpg", "dog/001.jpg") and val.labels.tolist() == [1, 2, 2]
    assert train.encoded(3) == (photos / "train" / "Cat" / "003.jpg").read_bytes()
    assert train.paths[2] == train.name(2) == "Cat/002.png"


def test_the_splits_are_those_there_are(photos: Path) -> None:
    assert dataset_splits("folders", photos) == ("train", "val")
    with pytest.raises(InputError, match=r"photos has the splits train, val\. Received: 'test'"):
        read(photos, "test")
    (photos / "val").rename(photos / "test")
    assert dataset_splits("folders", photos) == ("train", "test") and len(read(photos, "test")) == 3


def test_hidden_files_and_thumbnails_are_passed_over(photos: Path) -> None:
    (photos / "train" / ".DS_Store").touch()
    (photos / "train" / "ant" / "Thumbs.db").touch()
    (photos / "train" / "ant" / "._000.jpg").touch()
    assert len(read(photos, "train")) == 9


def test_names_need_not_be_utf_8(photos: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (photos / "val" / "ant" / "000.jpg").rename(photos / "val" / "ant" / name)
    found = read(photos, "val")
    (path, label, _), *_ = found.examples().as_numpy_iterator()
    assert (path, label) == (b"ant/caf\xe9.jpg", 1)


def broken(root: Path, how: str) -> None:
    """One thing wrong with the layout."""
    train, val = root / "train", root / "val"
    if how == "no train":
        train.rename(root / "training")
    elif how == "loose image":
        (train / "ant" / "000.jpg").rename(train / "000.jpg")
    elif how == "unknown class":
        (val / "ant").rename(val / "bat")
    elif how == "one class":
        for name in ("ant", "dog"):
            os.rename(train / name, root / name)
    elif how == "empty class":
        (train / "eel").mkdir()
    elif how == "text":
        (train / "ant" / "notes.txt").touch()
    elif how == "nested":
        (train / "ant" / "more.jpg").mkdir()
    elif how == "empty split":
        for path in train.iterdir():
            path.rename(root / path.name)


@pytest.mark.parametrize(
    ("how", "split", "message"),
    [
        ("no train", "val", r"photos must hold train/<class>/ with images, and .*\. It holds training, val"),
        ("loose image", "train", r"train must hold a folder a class, with its images, and nothing else: '000\.jpg'"),
        ("unknown class", "val", r"val has classes that .*train lacks: bat\."),
        ("one class", "train", "train: There is one class only, 'Cat'"),
        ("empty class", "train", "eel is empty: remove it"),
        ("text", "train", r"notes\.txt is no image; allowed: \.bmp, .*\.png.* Convert or move it"),
        ("nested", "train", r"more\.jpg is a folder in a class's folder"),
        ("empty split", "train", "train is empty; it must hold a folder a class"),
    ],
)
def test_another_layout_is_refused(photos: Path, how: str, split: str, message: str) -> None:
    broken(photos, how)
    with pytest.raises(InputError, match=message):
        read(photos, split)


def test_missing_and_unreadable_directories_are_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nowhere cannot be read: No such file or directory"):
        read(photos / "nowhere", "train")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(InputError, match="photos cannot be read: Permission denied"):
        read(photos, "train")


def test_imagenet_is_folders_named_by_wordnet(tmp_path: Path, photos: Path) -> None:
    splits = {"train": {"n01443537": 1, "n01440764": 2}, "val": {"n01443537": 1, "n01440764": 1}}
    found = read(write_folders(tmp_path / "imagenet", splits, height=4, width=4), "val", "imagenet")
    assert found.class_names == ("n01440764", "n01443537") and found.labels.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"classes are named like n01440764\. Received: Cat, ant, dog"):
        read(photos, "train", "imagenet")


# --- class folders that are not divided -------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Six photos of dogs and five of cats."""
    write_folders(tmp_path, {"pets": {"dog": 6, "cat": 5}}, height=4, width=5)
    return tmp_path / "pets"


def test_class_folders_alone_are_all_for_training(classes: Path) -> None:
    (classes / "LICENSE.txt").touch()
    (classes / ".git").mkdir()
    (classes / "cat" / ".hidden.jpg").touch()
    train = read(classes, "train")
    assert dataset_splits("folders", classes) == ("train",)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0] * 5 + [1] * 6
    assert (train.root, train.paths[0], train.paths[-1]) == (classes, "cat/000.jpg", "dog/005.png")


def test_parts_are_taken_from_class_folders(classes: Path) -> None:
    shares = Shares(test=0.2, val=0.4)
    assert dataset_splits("folders", classes, shares) == ("train", "test", "val")
    parts = {name: read_dataset("folders", classes, name, shares) for name in ("train", "test", "val")}
    assert {name: np.bincount(part.labels).tolist() for name, part in parts.items()} == {
        "train": [2, 3],
        "test": [1, 1],
        "val": [2, 2],
    }
    assert len({part.name(index) for part in parts.values() for index in range(len(part))}) == 11


def test_links_to_class_folders_are_followed(classes: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for name in ("dog", "cat"):
        (tmp_path / "linked" / name).symlink_to(classes / name)
    assert read(tmp_path / "linked", "train").paths == read(classes, "train").paths
    (tmp_path / "linked" / "bird").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"linked must hold a folder a class, .*: 'bird'"):
        read(tmp_path / "linked", "train")


def test_train_beside_other_folders_is_the_training_split(classes: Path) -> None:
    (classes / "dog").rename(classes / "train")
    (classes / "train" / "poodle").mkdir()
    with pytest.raises(InputError, match=r"train must hold a folder a class, with its images, and nothing else: '"):
        read(classes, "train")


def not_of_classes(root: Path, how: str) -> Path:
    """One thing wrong with class folders that are not divided; returns what is read."""
    if how == "test alone":
        (root / "dog").rename(root / "test")
    elif how == "images alone":
        return root / "cat"
    elif how == "the folder above":
        return root.parent
    elif how == "other names":
        for name in ("Training", "Testing"):
            (root / name / "dog").mkdir(parents=True)
        for name in ("dog", "cat"):
            (root / name).rename(root / "Training" / f"{name}s")
    elif how == "loose image":
        (root / "dog" / "000.jpg").rename(root / "000.jpg")
    elif how == "empty class":
        (root / "bird").mkdir()
    elif how == "one class":
        (root / "dog").rename(root.parent / "dog")
    return root


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "test alone",
            r"or <class>/ with images alone\. It holds cat, test\. Name the folder with the training images train",
        ),
        ("images alone", r"It holds 000\.jpg, .*\. Make a folder for each class, and move its images there\."),
        ("the folder above", r"It holds pets\. Give the folder that holds the classes: --data .*pets\.$"),
        (
            "other names",
            r"It holds Testing, Training\. Testing/dog is a folder too: .* training images, name that train",
        ),
        ("loose image", r"pets must hold a folder a class, with its images, and nothing else: '000\.jpg'"),
        ("empty class", "bird is empty: remove it"),
        ("one class", "pets, train: There is one class only, 'cat'"),
    ],
)
def test_what_no_class_folders_are_is_refused(classes: Path, how: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(not_of_classes(classes, how), "train")
    assert "\n" not in str(caught.value)


def test_a_part_that_nobody_took_says_what_to_type(classes: Path) -> None:
    with pytest.raises(
        InputError, match=r"pets has the splits train\. Received: 'test'\. `--set split\.test=0\.2` takes"
    ):
        read(classes, "test")


def test_an_output_among_the_classes_is_refused(classes: Path, photos: Path) -> None:
    """It would be a class when the folder is read again."""
    for directory, output in ((classes, classes / "run"), (photos, photos / "train" / "run")):
        with pytest.raises(InputError, match="run is among the class folders of"):
            require_outside("folders", directory, output)
    require_outside("folders", photos, photos / "run")
    require_outside("folders", classes, classes.parent / "run")


def test_imagenet_s_folders_may_stand_alone(tmp_path: Path) -> None:
    write_folders(tmp_path, {"val": {"n01443537": 1, "n01440764": 2}}, height=4, width=4)
    assert read(tmp_path / "val", "train", "imagenet").class_names == ("n01440764", "n01443537")
