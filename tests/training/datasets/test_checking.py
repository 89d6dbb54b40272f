"""Corrupt images: found by name, left out up to a bound, and remembered."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpncov_zoo.errors import InputError
from mpncov_zoo.training.datasets import Files, Images, checking, read_dataset
from mpncov_zoo.training.datasets.checking import find_corrupt, without_corrupt
from mpncov_zoo.training.datasets.pipelines import training_batches
from mpncov_zoo.training.recipes import Augmentation
from tests.image_folders import specification, write_folders
from tests.photos import encode


def read(root: Path) -> Files:
    found = read_dataset("folders", root, "train")
    assert isinstance(found, Files)
    return found


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """20 images of two classes, four of them damaged in different ways."""
    root = write_folders(tmp_path, {"train": {"ant": 10, "bee": 10}})
    ant = root / "train" / "ant"
    whole = (ant / "001.jpg").read_bytes()
    (ant / "001.jpg").write_bytes(whole[:-100])
    (ant / "003.jpg").write_bytes(b"<html>404 Not Found</html>")
    (ant / "004.jpg").write_bytes(b"")
    (ant / "006.jpg").write_bytes(encode(Image.fromarray(np.full((8, 8), 300, np.float32)), "TIFF"))
    return root


BROKEN = ["ant/001.jpg", "ant/003.jpg", "ant/004.jpg", "ant/006.jpg"]


def test_what_cannot_be_decoded_is_named_with_its_reason(damaged: Path) -> None:
    found = list(find_corrupt(read(damaged)))
    assert [(image.index, image.name) for image in found] == [(int(name[4:7]), name) for name in BROKEN]
    reasons = [image.reason for image in found]
    for reason, words in zip(
        reasons, ("truncated or damaged", "not an image", "not an image", "mode F with values"), strict=True
    ):
        assert words in reason


def test_files_that_vanish_are_corrupt(damaged: Path) -> None:
    split = read(damaged)
    (damaged / "train" / "bee" / "000.jpg").unlink()
    last = list(find_corrupt(split))[-1]
    assert (last.name, last.reason) == ("bee/000.jpg", "it cannot be read: No such file or directory")


def test_corrupt_images_are_left_out_and_logged(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mpncov_zoo"):
        kept = without_corrupt(read(damaged))
    assert [message.split(": ")[1] for message in caplog.messages] == BROKEN
    assert len(kept) == 16 and not set(BROKEN) & set(kept.paths) and kept.labels.tolist() == [0] * 6 + [1] * 10
    batches = training_batches(kept, specification(), Augmentation(), batch_size=16, seed=0, epoch=0)
    assert sorted(next(iter(batches))[1].numpy()) == [0] * 6 + [1] * 10


def test_what_was_found_is_remembered(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "record.json"
    first = without_corrupt(read(damaged), record=record)
    with monkeypatch.context() as patch:
        patch.setattr(checking, "problem", pytest.fail)
        assert without_corrupt(read(damaged), record=record).paths == first.paths
    (damaged / "train" / "ant" / "001.jpg").write_bytes((damaged / "train" / "ant" / "000.jpg").read_bytes())
    assert len(without_corrupt(read(damaged), record=record)) == 17
    assert [image["name"] for image in json.loads(record.read_text())["corrupt"]] == BROKEN[1:]
    record.write_text("{")
    with pytest.raises(InputError, match=r"record\.json is damaged: .* Delete it"):
        without_corrupt(read(damaged), record=record)


def test_too_many_are_refused(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "TOLERATED", 3)
    record = tmp_path / "record.json"
    with pytest.raises(
        InputError, match=r"More than 3 of 20 images cannot be decoded, among them ant/001\.jpg: "
    ) as caught:
        without_corrupt(read(damaged), record=record)
    assert all(name in str(caught.value) for name in BROKEN) and not record.exists()
    assert len(without_corrupt(read(damaged), tolerance=0.2)) == 16


def test_ten_may_always_be_but_not_a_whole_class(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train": {"ant": 10, "bee": 2}})
    for path in (root / "train" / "ant").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="No image of the class 'ant' can be decoded"):
        without_corrupt(read(root))
    (root / "train" / "bee" / "000.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="More than 10 of 12 images"):
        without_corrupt(read(root))


def test_there_is_nothing_to_check_in_memory() -> None:
    images = Images(np.zeros((3, 4, 4, 1), np.uint8), np.zeros(3, np.int32), ("a", "b"))
    assert without_corrupt(images) is images and list(find_corrupt(images)) == []
