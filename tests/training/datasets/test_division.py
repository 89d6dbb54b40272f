"""Divided data sets: counts by hand, and what may not change which images are kept apart."""

from pathlib import Path

import numpy as np
import pytest

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Files, Images, Shares, dataset_splits, divide, read_dataset
from mpncov_zoo.training.packing import pack
from tests.image_folders import write_folders

PARTS = {"ant": 10, "bee": 13, "cat": 3}


def listed(root: Path, classes: dict[str, int]) -> Files:
    """Files that need not be there."""
    paths = [f"{name}/{index:03}.jpg" for name, count in classes.items() for index in range(count)]
    labels = np.repeat(np.arange(len(classes)), list(classes.values())).astype(np.int32)
    return Files(root, tuple(paths), labels, tuple(classes))


def parts_of(images: Files, shares: Shares) -> dict[str, set[str]]:
    parts = divide(images, shares)
    assert all(isinstance(part, Files) and list(part.paths) == sorted(part.paths) for part in parts.values())
    return {name: {part.name(index) for index in range(len(part))} for name, part in parts.items()}


def test_each_class_gives_its_rounded_share_and_at_least_one(tmp_path: Path) -> None:
    parts = divide(listed(tmp_path, PARTS), Shares(test=0.2, val=0.1))
    counts = {name: np.bincount(part.labels, minlength=3).tolist() for name, part in parts.items()}
    assert counts == {"train": [7, 9, 1], "test": [2, 3, 1], "val": [1, 1, 1]}


def test_each_image_is_in_one_part(tmp_path: Path) -> None:
    images = listed(tmp_path, PARTS)
    parts = parts_of(images, Shares(test=0.3, val=0.3, seed=4))
    assert sorted(name for part in parts.values() for name in part) == sorted(images.paths)


def test_the_choice_is_random_and_the_seed_s(tmp_path: Path) -> None:
    images = listed(tmp_path, {"ant": 100, "bee": 100})
    first, same, other = (parts_of(images, Shares(test=0.5, seed=seed))["test"] for seed in (1, 1, 2))
    assert first == same != other
    of_classes = [{name[4:] for name in first if name.startswith(start)} for start in ("ant", "bee")]
    assert of_classes[0] != of_classes[1]  # each class is shuffled for itself
    for chosen in (*of_classes, {name[4:] for name in other if name.startswith("ant")}):
        assert 30 < np.mean([int(name[:3]) for name in chosen]) < 70  # not the first ones, nor the last


def test_which_images_they_are_is_on_record(tmp_path: Path) -> None:
    """Sorted by the SHA-256 of seed, class and name, which `printf '1\\0ant\\0ant/003.jpg' | sha256sum` gives."""
    parts = parts_of(listed(tmp_path, {"ant": 6, "bee": 5}), Shares(test=0.2, val=0.2, seed=1))
    assert parts["test"] == {"ant/003.jpg", "bee/004.jpg"} and parts["val"] == {"ant/005.jpg", "bee/002.jpg"}


def test_other_classes_the_order_and_the_other_share_play_no_part(tmp_path: Path) -> None:
    images, shares = listed(tmp_path, PARTS), Shares(test=0.2, seed=3)
    test = parts_of(images, shares)["test"]
    more = parts_of(listed(tmp_path, {"aardvark": 5, **PARTS, "dog": 7}), shares)["test"]
    assert {name for name in more if name[:3] in PARTS} == test
    turned = Files(tmp_path, images.paths[::-1], images.labels[::-1].copy(), images.class_names)
    backwards = divide(turned, shares)
    assert {backwards["test"].name(index) for index in range(len(backwards["test"]))} == test
    assert parts_of(images, Shares(test=0.2, val=0.3, seed=3))["test"] == test


@pytest.mark.parametrize(
    ("classes", "shares", "message"),
    [
        (
            {"ant": 9, "bee": 2},
            {"test": 0.2, "val": 0.2},
            r"class 'bee' has 2 images, of which split\.test=0\.2 takes 1 and split\.val=0\.2 takes 1: none would be",
        ),
        ({"ant": 9, "bee": 1}, {"test": 0.2}, r"class 'bee' has 1 image, of which split\.test=0\.2 takes 1: none"),
        ({"ant": 4, "bee": 9}, {"test": 0.9}, r"class 'ant' has 4 images, of which split\.test=0\.9 takes 4: none"),
    ],
)
def test_a_class_with_too_few_images_is_named(
    tmp_path: Path, classes: dict[str, int], shares: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        divide(listed(tmp_path, classes), Shares(**shares))
    assert "\n" not in str(caught.value)


def test_images_in_memory_and_in_shards_are_divided_too(tmp_path: Path) -> None:
    labels = (np.arange(20) % 2).astype(np.int32)
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 1), np.uint8)
    images = Images(pixels, labels, ("odd", "even"))
    pack(images, tmp_path, "train", dataset="folders", shards=2)
    shards = read_dataset("tfrecord", tmp_path, "train")
    for split in (images, shards):
        parts = divide(split, Shares(test=0.2))
        assert {name: np.bincount(part.labels).tolist() for name, part in parts.items()} == {
            "train": [8, 8],
            "test": [2, 2],
        }
    seen = [label for _, label, _ in divide(shards, Shares(test=0.2))["test"].examples().as_numpy_iterator()]
    assert sorted(seen) == [0, 0, 1, 1]


def test_a_data_set_with_a_split_of_that_name_keeps_it(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photos", {"train": {"ant": 5, "bee": 5}, "val": {"ant": 1, "bee": 2}})
    assert dataset_splits("folders", root, Shares(test=0.2)) == ("train", "val", "test")
    assert [len(read_dataset("folders", root, name, Shares(test=0.2))) for name in ("train", "val", "test")] == [
        8,
        3,
        2,
    ]
    with pytest.raises(InputError, match=r"photos has a split 'val' of its own: leave out split\.val"):
        read_dataset("folders", root, "train", Shares(val=0.2))
    with pytest.raises(InputError, match=r"splits train, val\. Received: 'test'\. `--set split\.test=0\.2` takes"):
        read_dataset("folders", root, "test")
