"""`mpncov-zoo data`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest

from mpncov_zoo.training.datasets import read_dataset
from tests.command_line import Capture, assert_refused, run
from tests.image_folders import write_folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", {"train": {"ant": 4, "bee": 2}, "val": {"ant": 1, "bee": 1}})


def test_check_counts_and_names(capsys: Capture, photos: Path) -> None:
    code, out, err = run(capsys, "data", "check", "folders", "--data", photos)
    assert (code, out.splitlines()) == (
        0,
        ["train: 6 images, 2 classes of 2 to 4, 0 corrupt", "val: 2 images, 2 classes of 1 to 1, 0 corrupt"],
    )
    assert "6/6" in err
    (photos / "val" / "bee" / "000.jpg").write_bytes(b"broken")
    code, out, _ = run(capsys, "data", "check", "folders", "--data", photos)
    assert code == 1 and out.splitlines()[-1].startswith("  bee/000.jpg: the 6 bytes given: not an image")
    code, out, _ = run(capsys, "data", "check", "folders", "--data", photos, "--split", "val", "--json")
    result = json.loads(out)
    assert (code, result["split"], result["images"], result["classes"]) == (1, "val", 2, {"ant": 1, "bee": 1})
    assert [image["name"] for image in result["corrupt"]] == ["bee/000.jpg"]


def test_pack_writes_all_splits(capsys: Capture, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed"
    arguments = ["--data", photos, "--output", output, "--shards", 2, "--size", 20, "--verify"]
    code, out, _ = run(capsys, "data", "pack", "folders", *arguments)
    assert (code, out.splitlines()) == (
        0,
        [f"{output}/train.json: 6 images in 2 shards", f"{output}/val.json: 2 images in 2 shards"],
    )
    assert sorted(read_dataset("tfrecord", output, "train").labels.tolist()) == [0, 0, 0, 0, 1, 1]
    code, out, _ = run(capsys, "data", "check", "tfrecord", "--data", output)
    assert code == 0 and out.startswith("train: 6 images, 2 classes of 2 to 4, 0 corrupt")
    shard = output / "val-00001-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    code, out, err = run(capsys, "data", "check", "tfrecord", "--data", output, "--split", "val")
    assert (code, out) == (1, "") and "is not the shard that was packed" in err


def test_class_folders_are_divided_as_train_does(capsys: Capture, tmp_path: Path) -> None:
    pets = write_folders(tmp_path, {"pets": {"cat": 5, "dog": 6}}) / "pets"
    code, out, _ = run(capsys, "data", "check", "folders", "--data", pets)
    assert (code, out) == (0, "train: 11 images, 2 classes of 5 to 6, 0 corrupt\n")
    settings = ["--set", "split.test=0.2", "split.seed=1"]
    code, out, _ = run(capsys, "data", "check", "folders", "--data", pets, *settings)
    assert out.splitlines() == [
        "train: 9 images, 2 classes of 4 to 5, 0 corrupt", "test: 2 images, 2 classes of 1 to 1, 0 corrupt",
    ]  # fmt: skip
    packed = tmp_path / "packed"
    code, out, _ = run(capsys, "data", "pack", "folders", "--data", pets, "--output", packed, *settings)
    assert code == 0 and out.splitlines()[1] == f"{packed}/test.json: 2 images in 1 shards"
    pack = ["data", "pack", "folders", "--data", pets, "--output"]
    assert_refused(run(capsys, *pack, pets / "packed"), "is among the images themselves")
    assert_refused(run(capsys, *pack, packed, "--split", "test"), "splits train. Received: 'test'", "--set split.test")
    assert_refused(run(capsys, *pack, packed, "--set", "test=0.2"), "Only split.test, split.val and split.seed")
    assert_refused(run(capsys, *pack, packed, "--set", "split.test=20"), "split: test: ", "less than 1; received 20")


def test_refusals(capsys: Capture, photos: Path, tmp_path: Path) -> None:
    pack = ["data", "pack", "folders", "--output", tmp_path / "packed", "--data"]
    assert_refused(run(capsys, *pack, tmp_path / "nowhere"), "nowhere cannot be read: No such file")
    assert_refused(run(capsys, *pack, photos, "--split", "test"), "splits train, val. Received: 'test'")
    assert_refused(run(capsys, *pack, photos, "--tolerance", 2), "--tolerance is a share of the images, 0 to 1")
    assert_refused(run(capsys, "data", "check", "birds", "--data", photos), "No reader for the data set 'birds'")
    assert not (tmp_path / "packed").exists()
